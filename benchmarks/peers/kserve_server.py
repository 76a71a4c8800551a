"""KServe's Python server, asked by the open inference protocol over gRPC.

python kserve_server.py BUNDLE PORT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from peer_funnel import PeerFunnel


class Recommender(Model):
    """The funnel as a model."""

    def __init__(self, funnel: PeerFunnel) -> None:
        super().__init__("recommend")
        self._funnel = funnel
        self.ready = True

    async def predict(self, payload: InferRequest, *rest: Any, **more: Any) -> InferResponse:
        """Answer one request."""
        user, count = (each.as_numpy().reshape(-1)[0] for each in payload.inputs)
        user = user.decode() if isinstance(user, bytes) else str(user)
        ids, scores = self._funnel.recommend(user, int(count))
        outputs = []
        for name, datatype, values in (
            ("id", "BYTES", np.array([ids], object)),
            ("score", "FP32", np.array([scores], np.float32)),
        ):
            output = InferOutput(name, list(values.shape), datatype)
            output.set_data_from_numpy(values, binary_data=True)
            outputs.append(output)
        return InferResponse(payload.id, self.name, outputs)


def main() -> None:
    bundle, port = Path(sys.argv[1]), int(sys.argv[2])
    server = ModelServer(http_port=port + 1, grpc_port=port, workers=1, enable_docs_url=False)
    server.start([Recommender(PeerFunnel(bundle))])


if __name__ == "__main__":
    main()
