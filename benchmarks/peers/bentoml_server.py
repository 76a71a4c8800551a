"""BentoML: JSON over HTTP.

python bentoml_server.py BUNDLE PORT
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
from peer_funnel import PeerFunnel


@bentoml.service(workers=2, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Recommender:
    """The funnel as a service of two processes."""

    def __init__(self) -> None:
        self._funnel = PeerFunnel(Path(os.environ["BUNDLE"]))

    @bentoml.api
    async def recommend(
        self, user_id: str, candidate_count: int, limit: int = 20
    ) -> dict[str, Any]:
        """Answer one request; in the event loop, which costs least."""
        ids, scores = self._funnel.recommend(user_id, candidate_count, limit)
        return {"ids": ids, "scores": scores}


def main() -> None:
    bundle, port = sys.argv[1:3]
    environment = os.environ | {"BUNDLE": bundle}
    program = str(Path(sys.executable).with_name("bentoml"))
    command = [program, "serve", "bentoml_server:Recommender", "--host", "127.0.0.1"]
    os.execve(program, [*command, "--port", port], environment)


if __name__ == "__main__":
    main()
