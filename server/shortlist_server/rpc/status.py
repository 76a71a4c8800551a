"""Errors to gRPC statuses: the one table, and the only place that knows the codes."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from shortlist_server.errors import (
    ApiKeyInvalid,
    ApiKeyMissing,
    BundleCorrupt,
    BundleError,
    BundleMissing,
    BundleUnsupported,
    CatalogReadOnly,
    CatalogUnavailable,
    ConversationNotFound,
    DeadlineExceeded,
    IndexUnavailable,
    ItemNotFound,
    LabelNotLoaded,
    ModelSignatureMismatch,
    NotConfigured,
    Overloaded,
    ParityError,
    RateLimited,
    RequestError,
    RevisionNotReached,
    ScopeMissing,
    ShuttingDown,
    SwitchUnderWay,
    TextEmbedderUnavailable,
)

DOMAIN = "shortlist"
TEXT_BYTES_MAX = 320
"""Most that an error says of a field, of what it takes, and of what it holds, in UTF-8 bytes each.
They travel in metadata, several times over, of which gRPC by default takes 8 KiB."""
DETAILS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"


_BUNDLE_REASONS: dict[type[BundleError], str] = {
    BundleMissing: "BUNDLE_MISSING",
    BundleCorrupt: "BUNDLE_CORRUPT",
    BundleUnsupported: "BUNDLE_UNSUPPORTED",
    ParityError: "PARITY",
    ModelSignatureMismatch: "MODEL_SIGNATURE_MISMATCH",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStatus:
    """How a call ends that failed."""

    code: grpc.StatusCode
    message: str
    details: tuple[Message, ...]

    def metadata(self, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
        """Return the trailing metadata: the details as a google.rpc.Status, and the request id."""
        status = Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        return ((DETAILS_KEY, status.SerializeToString()), (REQUEST_ID_KEY, request_id))


def status_of(error: Exception, request_id: str) -> CallStatus:
    """Return how a call ends that raised this error. What is not expected becomes INTERNAL with a
    fixed text.
    """
    match error:
        case RequestError():
            field, expected, got = map(_short, (error.field, error.expected, error.got))
            return CallStatus(
                code=grpc.StatusCode.INVALID_ARGUMENT,
                message=f"{field}: expected {expected}, got {got}",
                details=(
                    _info(error.reason, field=field, expected=expected, got=got),
                    _violation(field, f"expected {expected}, got {got}"),
                ),
            )
        case ItemNotFound() | ConversationNotFound():
            item = isinstance(error, ItemNotFound)
            reason = "UNKNOWN_ITEM" if item else "CONVERSATION_NOT_FOUND"
            field, expected, got = map(_short, (error.field, error.expected, error.got))
            return CallStatus(
                code=grpc.StatusCode.NOT_FOUND,
                message=f"{field}: expected {expected}, got {got}",
                details=(_info(reason, field=field, expected=expected, got=got),),
            )
        case LabelNotLoaded():
            field, expected, got = map(_short, (error.field, error.expected, error.got))
            return CallStatus(
                code=grpc.StatusCode.FAILED_PRECONDITION,
                message=f"{field}: expected {expected}, got {got}",
                details=(_info("LABEL_NOT_LOADED", field=field, expected=expected, got=got),),
            )
        case DeadlineExceeded():
            return CallStatus(
                code=grpc.StatusCode.DEADLINE_EXCEEDED,
                message=str(error),
                details=(_info("DEADLINE_EXCEEDED", stage=error.stage),),
            )
        case Overloaded():
            return _exhausted("OVERLOADED", error)
        case RateLimited():
            return _exhausted("RATE_LIMITED", error)
        case ApiKeyMissing() | ApiKeyInvalid():
            reason = "API_KEY_MISSING" if isinstance(error, ApiKeyMissing) else "API_KEY_INVALID"
            return CallStatus(
                code=grpc.StatusCode.UNAUTHENTICATED,
                message=str(error),
                details=(_info(reason, expected=error.expected),),
            )
        case ScopeMissing():
            return CallStatus(
                code=grpc.StatusCode.PERMISSION_DENIED,
                message=str(error),
                details=(_info("SCOPE_MISSING", scope=error.scope),),
            )
        case BundleError():
            missing = isinstance(error, BundleMissing)
            return CallStatus(
                code=grpc.StatusCode.NOT_FOUND if missing else grpc.StatusCode.FAILED_PRECONDITION,
                message=str(error),
                details=(_info(_BUNDLE_REASONS[type(error)], problem=_short(str(error))),),
            )
        case NotConfigured():
            return CallStatus(
                code=grpc.StatusCode.FAILED_PRECONDITION,
                message=str(error),
                details=(_info("NOT_CONFIGURED", setting=error.setting, expected=error.expected),),
            )
        case SwitchUnderWay():
            return CallStatus(
                code=grpc.StatusCode.ABORTED,
                message=str(error),
                details=(_info("SWITCH_UNDER_WAY"),),
            )
        case ShuttingDown():
            return CallStatus(
                code=grpc.StatusCode.UNAVAILABLE,
                message=str(error),
                details=(_info("SHUTTING_DOWN"),),
            )
        case RevisionNotReached():
            wanted, reached = str(error.wanted), str(error.reached)
            return CallStatus(
                code=grpc.StatusCode.UNAVAILABLE,
                message=str(error),
                details=(
                    _info(
                        "REVISION_NOT_REACHED",
                        field="min_revision",
                        expected=f"revision {wanted}",
                        got=f"revision {reached}",
                    ),
                    _retry(error.retry_delay_ms),
                ),
            )
        case CatalogReadOnly():
            return CallStatus(
                code=grpc.StatusCode.FAILED_PRECONDITION,
                message=str(error),
                details=(_info("CATALOG_READ_ONLY"),),
            )
        case CatalogUnavailable() | IndexUnavailable() | TextEmbedderUnavailable():
            text = isinstance(error, TextEmbedderUnavailable)
            reason = "TEXT_EMBEDDER_UNAVAILABLE" if text else "CATALOG_UNAVAILABLE"
            return CallStatus(
                code=grpc.StatusCode.UNAVAILABLE,
                message=str(error),
                details=(
                    _info(reason, problem=error.problem),
                    _retry(error.retry_delay_ms),
                ),
            )
    return CallStatus(
        code=grpc.StatusCode.INTERNAL,
        message="a fault of the server; its log tells more under this request's id",
        details=(_info("INTERNAL", request_id=request_id),),
    )


def _exhausted(reason: str, error: Overloaded | RateLimited) -> CallStatus:
    return CallStatus(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        message=str(error),
        details=(_info(reason, expected=error.limit), _retry(error.retry_delay_ms)),
    )


def _retry(delay_ms: int) -> RetryInfo:
    delay = Duration()
    delay.FromMilliseconds(delay_ms)
    return RetryInfo(retry_delay=delay)


def error_info(status: CallStatus) -> ErrorInfo:
    """Return the ErrorInfo among the details of a status."""
    return next(detail for detail in status.details if isinstance(detail, ErrorInfo))


def _short(text: str) -> str:
    encoded = text.encode()
    if len(encoded) <= TEXT_BYTES_MAX:
        return text
    return encoded[:TEXT_BYTES_MAX].decode(errors="ignore") + " ..."


def _info(reason: str, **metadata: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)


def _violation(field: str, description: str) -> BadRequest:
    return BadRequest(
        field_violations=[BadRequest.FieldViolation(field=field, description=description)]
    )
