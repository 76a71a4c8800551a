"""MLServer, asked by the open inference protocol over gRPC.

python mlserver_server.py BUNDLE PORT
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from peer_funnel import PeerFunnel


class Recommender(MLModel):
    """The funnel as a model."""

    async def load(self) -> bool:
        """Load the funnel."""
        self._funnel = PeerFunnel(Path(os.environ["BUNDLE"]))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        user, count = payload.inputs
        (user_id,) = StringCodec.decode_input(user)
        candidate_count = int(NumpyCodec.decode_input(count).reshape(-1)[0])
        ids, scores = self._funnel.recommend(user_id, candidate_count)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                StringCodec.encode_output("id", ids),
                NumpyCodec.encode_output("score", np.array(scores, np.float32)),
            ],
        )


async def main() -> None:
    bundle, port = sys.argv[1], int(sys.argv[2])
    os.environ["BUNDLE"] = bundle
    # In the server's own process: handing a request to another one costs more than it brings.
    settings = Settings(
        host="127.0.0.1",
        grpc_port=port,
        http_port=port + 1,
        metrics_endpoint=None,
        parallel_workers=0,
        debug=False,
    )
    # By its path, so that it is not a class of __main__.
    model = ModelSettings(name="recommend", implementation="mlserver_server.Recommender")
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main())
