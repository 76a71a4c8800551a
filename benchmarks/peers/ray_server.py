"""Ray Serve: JSON over HTTP, two replicas.

python ray_server.py BUNDLE PORT
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

# A busy machine takes longer than the 30 s that Ray gives its first process; read at the import.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
import ray
from peer_funnel import PeerFunnel
from ray import serve
from starlette.requests import Request


class Recommender:
    """The funnel as a deployment."""

    def __init__(self, bundle: str) -> None:
        self._funnel = PeerFunnel(Path(bundle))

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer one request."""
        asked = await request.json()
        ids, scores = self._funnel.recommend(
            asked["user_id"], asked["candidate_count"], asked["limit"]
        )
        return {"ids": ids, "scores": scores}


def main() -> None:
    bundle, port = sys.argv[1], int(sys.argv[2])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": port},
        logging_config={"enable_access_log": False},
    )
    deployment: Any = serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0.5})
    serve.run(deployment(Recommender).bind(bundle), route_prefix="/recommend")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    signal.pause()


if __name__ == "__main__":
    main()
