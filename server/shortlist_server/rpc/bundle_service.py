"""BundleService: what is being served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from shortlist.v1 import bundle_pb2 as pb
from shortlist.v1 import bundle_pb2_grpc


class BundleService(bundle_pb2_grpc.BundleServiceServicer):
    """Describes the bundle that answers."""

    def __init__(self, active: pb.BundleInfo, others: Sequence[pb.LabeledBundle] = ()) -> None:
        """Take the descriptions of the stable bundle, and of those under other labels."""
        self._active = active
        self._others = others

    async def GetActiveBundle(
        self, request: pb.GetActiveBundleRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetActiveBundleResponse:
        """Describe the bundle that answers now."""
        return pb.GetActiveBundleResponse(bundle=self._active, others=self._others)
