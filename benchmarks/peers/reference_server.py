"""What a good engineer writes in an afternoon: synchronous grpcio, a pool of threads, one request
at a time in each.

    python reference_server.py BUNDLE PORT
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from peer_funnel import PeerFunnel
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import recommendation_pb2_grpc as rpc
from shortlist.v1 import types_pb2 as types

THREADS = 2


class Recommender(rpc.RecommendationServiceServicer):
    """Answers Recommend, and nothing else."""

    def __init__(self, funnel: PeerFunnel) -> None:
        self._funnel = funnel

    def Recommend(  # noqa: N802  (as the proto names it)
        self, request: pb.RecommendRequest, context: grpc.ServicerContext
    ) -> pb.RecommendResponse:
        """Return the best items for the user of the request."""
        found = self._funnel.recommend(
            request.query.user.id, request.retrieval.candidate_count, request.limit
        )
        items = [types.ScoredItem(id=id_, score=score) for id_, score in zip(*found, strict=True)]
        return pb.RecommendResponse(items=items)


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(THREADS))
    # The other calls answer that they are not implemented.
    service = Recommender(PeerFunnel(Path(sys.argv[1])))  # type: ignore[abstract]
    rpc.add_RecommendationServiceServicer_to_server(service, server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
