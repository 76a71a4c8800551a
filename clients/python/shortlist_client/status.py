"""Which error a failed call becomes. The only module that reads gRPC statuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from shortlist.v1 import errors_pb2, recommendation_pb2

from shortlist_client import errors

_DETAILS_KEY = "grpc-status-details-bin"
_REQUEST_ID_KEY = "x-request-id"
_DOMAIN = "shortlist"

_BY_REASON: dict[str, type[errors.ShortlistError]] = {
    "FIELD_REQUIRED": errors.FieldRequired,
    "OUT_OF_RANGE": errors.OutOfRange,
    "INVALID_VALUE": errors.InvalidValue,
    "DIMENSION_MISMATCH": errors.DimensionMismatch,
    "FEATURE_TYPE_MISMATCH": errors.FeatureTypeMismatch,
    "UNKNOWN_FEATURE": errors.UnknownFeature,
    "UNKNOWN_ATTRIBUTE": errors.UnknownAttribute,
    "UNKNOWN_ITEM": errors.UnknownItem,
    "UNKNOWN_OUTPUT": errors.UnknownOutput,
    "EXCLUDED_ITEM_REQUESTED": errors.ExcludedItemRequested,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "OVERLOADED": errors.Overloaded,
    "SHUTTING_DOWN": errors.ShuttingDown,
    "INTERNAL": errors.Internal,
    "ATTRIBUTE_TYPE_MISMATCH": errors.AttributeTypeMismatch,
    "UNKNOWN_SOURCE": errors.UnknownSource,
    "API_KEY_MISSING": errors.ApiKeyMissing,
    "API_KEY_INVALID": errors.ApiKeyInvalid,
    "SCOPE_MISSING": errors.ScopeMissing,
    "RATE_LIMITED": errors.RateLimited,
    "BUNDLE_MISSING": errors.BundleMissing,
    "BUNDLE_CORRUPT": errors.BundleCorrupt,
    "BUNDLE_UNSUPPORTED": errors.BundleUnsupported,
    "PARITY": errors.Parity,
    "MODEL_SIGNATURE_MISMATCH": errors.ModelSignatureMismatch,
    "NOT_CONFIGURED": errors.NotConfigured,
    "SWITCH_UNDER_WAY": errors.SwitchUnderWay,
    "IDEMPOTENCY_KEY_REUSED": errors.IdempotencyKeyReused,
    "CATALOG_UNAVAILABLE": errors.CatalogUnavailable,
    "REVISION_NOT_REACHED": errors.RevisionNotReached,
    "CATALOG_READ_ONLY": errors.CatalogReadOnly,
    "TEXT_EMBEDDER_UNAVAILABLE": errors.TextEmbedderUnavailable,
    "LABEL_NOT_LOADED": errors.LabelNotLoaded,
    "CONVERSATION_NOT_FOUND": errors.ConversationNotFound,
}

_BY_CODE: dict[grpc.StatusCode, type[errors.ShortlistError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.INTERNAL: errors.Internal,
    grpc.StatusCode.DATA_LOSS: errors.Internal,
    # What a Python server answers when a handler raises something that nobody caught.
    grpc.StatusCode.UNKNOWN: errors.Internal,
}

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

_REASONS: dict[int, str] = {
    number: name.removeprefix("ERROR_REASON_")
    for name, number in errors_pb2.ErrorReason.items()
    if number != errors_pb2.ERROR_REASON_UNSPECIFIED
}


class FailedCall(Protocol):
    """What every grpc.RpcError of a finished call offers, though its own type does not say so."""

    def code(self) -> grpc.StatusCode:
        """Return the status code."""
        ...

    def details(self) -> str | None:
        """Return the status message."""
        ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Return the metadata that came with the status."""
        ...


def error_from_call(
    call: FailedCall,
    *,
    target: str,
    timeout_s: float,
    request_id: str,
    is_connected: Callable[[], bool],
) -> errors.ShortlistError:
    """Return the error that a failed call becomes.

    Args:
        call: The grpc.RpcError.
        target: Where the call went, for the message.
        timeout_s: How long it was allowed to take, for the message.
        request_id: The id that was sent. The server's word wins, which may have made its own.
        is_connected: Tells whether there is a connection to the target now; asked where nobody
            answered in time.
    """
    details = _read_details(call)
    code = call.code()
    text = call.details() or code.name
    reason = details.info.reason
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and not reason and not is_connected():
        # What the caller does about a server that is not there is not what he does about a slow
        # one.
        code, text = grpc.StatusCode.UNAVAILABLE, f"no connection to it within {timeout_s:g} s"
    return _error_class(code, reason, text)(
        text if reason else _explained(code, text, target=target, timeout_s=timeout_s),
        code=code,
        reason=reason,
        request_id=details.request_id or request_id,
        metadata=details.info.metadata,
        retry_delay_s=details.retry_delay_s,
    )


def error_from_row(row: recommendation_pb2.RowError, *, request_id: str) -> errors.ShortlistError:
    """Return the error of one row of a batch: what the row alone would have raised.

    Args:
        row: The error as it came.
        request_id: The id of the call. The row's own wins.
    """
    code = _CODES.get(row.code, grpc.StatusCode.UNKNOWN)
    text = row.message or code.name
    reason = _REASONS.get(row.reason, "")
    return _error_class(code, reason, text)(
        text,
        code=code,
        reason=reason,
        request_id=row.metadata.get("request_id", request_id),
        metadata=row.metadata,
    )


def _error_class(code: grpc.StatusCode, reason: str, text: str) -> type[errors.ShortlistError]:
    # One reason for two situations: refused because strict, or nothing left to answer from.
    if reason == "UNKNOWN_ITEM" and code is grpc.StatusCode.NOT_FOUND:
        return errors.NotFound
    # gRPC has one code for "too busy" and "too large", and only its words tell them apart. It
    # matters: the one is worth a retry, the other never is.
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in text:
        return errors.MessageTooLarge
    return _BY_REASON.get(reason) or _BY_CODE.get(code, errors.ShortlistError)


def _explained(code: grpc.StatusCode, text: str, *, target: str, timeout_s: float) -> str:
    """Return the message of an error that no Shortlist server wrote: gRPC's lacks the target."""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{target} gave no answer within {timeout_s:g} s"
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"{target} is not available: {text}"
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Details:
    info: error_details_pb2.ErrorInfo
    """Empty where the error carries none of the domain `shortlist`."""
    request_id: str
    """Empty where the server does not name it."""
    retry_delay_s: float | None


def _read_details(call: FailedCall) -> _Details:
    status, request_id = status_pb2.Status(), ""
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            _parse(status, value)
        elif key == _REQUEST_ID_KEY and isinstance(value, str):
            request_id = value
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            _parse(info, detail.value)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            _parse(retry, detail.value)
    if info.domain != _DOMAIN:
        info.Clear()
    delay = retry.retry_delay
    return _Details(
        info=info,
        request_id=request_id or info.metadata.get("request_id", ""),
        retry_delay_s=delay.seconds + delay.nanos / 1e9 if retry.HasField("retry_delay") else None,
    )


def _parse(message: Message, data: bytes) -> None:
    """Fill a message, or leave it empty: unreadable details must not hide the error itself."""
    try:
        message.ParseFromString(data)
    except DecodeError:
        message.Clear()
