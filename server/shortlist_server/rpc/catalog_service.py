"""CatalogService: how large the catalogue is, and how well it is searched."""

from __future__ import annotations

from typing import Any

import grpc
from shortlist.v1 import catalog_pb2 as pb
from shortlist.v1 import catalog_pb2_grpc

from shortlist_server.index.recall import RecallMonitor


class CatalogService(catalog_pb2_grpc.CatalogServiceServicer):
    """Describes the catalogue that is searched."""

    def __init__(self, *, item_count: int, monitor: RecallMonitor | None) -> None:
        """Take the parts; `monitor` is None where it is off."""
        self._item_count = item_count
        self._monitor = monitor

    async def GetCatalogStats(
        self, request: pb.GetCatalogStatsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetCatalogStatsResponse:
        """Tell how large the catalogue is, and how well it is searched."""
        response = pb.GetCatalogStatsResponse(item_count=self._item_count)
        if self._monitor is not None:
            snapshot = self._monitor.snapshot()
            response.recall_dropped_count = snapshot.dropped_count
            for bucket in snapshot.buckets:
                response.recall.add(
                    selectivity_min=bucket.selectivity_min,
                    selectivity_max=bucket.selectivity_max,
                    query_count=bucket.query_count,
                    recall=bucket.recall,
                )
        return response
