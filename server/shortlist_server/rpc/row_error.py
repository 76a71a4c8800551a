"""The error of one row of many: as it would be of a call."""

from __future__ import annotations

import logging

import grpc
from shortlist.v1 import errors_pb2
from shortlist.v1 import recommendation_pb2 as pb

from shortlist_server.rpc.status import error_info, status_of

logger = logging.getLogger(__name__)


def fill_row_error(message: pb.RowError, error: Exception, request_id: str) -> None:
    """Write an error into a row; what is not expected is logged, too."""
    status = status_of(error, request_id)
    if status.code is grpc.StatusCode.INTERNAL:
        logger.error("%s INTERNAL: %s", request_id, error, exc_info=error)
    info = error_info(status)
    message.code = status.code.value[0]
    message.message = status.message
    message.reason = errors_pb2.ErrorReason.Value(f"ERROR_REASON_{info.reason}")
    message.metadata.update({**info.metadata, "request_id": request_id})
