"""What every call has in common: a look at its key, a request id, a trace, a log line, and an end
in one of the statuses of `status.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from shortlist_server.errors import (
    AccessError,
    InvalidValue,
    RateLimited,
    RequestError,
    ShuttingDown,
)
from shortlist_server.observability.current_call import current_request_id, current_trace
from shortlist_server.observability.logs import CALL
from shortlist_server.observability.traced_call import TracedCall
from shortlist_server.rpc.access import Access, current_caller
from shortlist_server.rpc.status import REQUEST_ID_KEY, CallStatus, error_info, status_of

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("shortlist_server.access_log")

REQUEST_ID_BYTES_MAX = 128

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class CallObserver(Protocol):
    """Counts calls."""

    def began(self) -> None:
        """Count a call in."""

    def ended(self, method: str, code: str, seconds: float) -> None:
        """Count a call out: short name of the method, name of the status code, time it took."""


class CallTracer(Protocol):
    """Traces calls."""

    def begin(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> TracedCall:
        """Return the trace of a call that begins now, by the metadata of its request."""


class _Running:
    """A call in flight."""

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        assert task is not None
        self.task = task
        self.works = False
        """Whether its task is in the hands of the method, and so may be cancelled."""
        self.cut = False
        """Whether it was cancelled since the server stops, not since its caller has gone."""

    @contextlib.contextmanager
    def cut_off_as_shutting_down(self) -> Iterator[None]:
        """Raise ShuttingDown where what is inside is cut off."""
        self.works = True
        try:
            yield
        except asyncio.CancelledError:
            if not self.cut:
                raise
            self.task.uncancel()
            raise ShuttingDown from None
        finally:
            self.works = False


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Admits calls, and surrounds the handlers of Shortlist's own services."""

    def __init__(
        self,
        access: Access,
        observer: CallObserver | None = None,
        tracer: CallTracer | None = None,
        *,
        access_log: bool = False,
    ) -> None:
        """Begin with no handlers; each is wrapped once."""
        self._access = access
        self._observer = observer
        self._tracer = tracer
        self._access_log = access_log
        self._wrapped: dict[str, Handler] = {}
        self._running: set[_Running] = set()
        self._refusing = self._cutting = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Refuse new calls with ShuttingDown, wait so long for those in flight to end, and end
        those that have not in the same way.
        """
        self._refusing = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        self._cutting = True
        for running in self._running:
            if running.works:
                running.cut = True
                running.task.cancel()

    @contextlib.asynccontextmanager
    async def _call(
        self, method: str, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[_Running]:
        """Surround one call: name it, count it, and end it in a status."""
        current_request_id.set(_request_id(context))
        begin = time.perf_counter()
        if self._tracer is not None:
            current_trace.set(self._tracer.begin(method, context.invocation_metadata() or ()))
        if self._observer is not None:
            self._observer.began()
        code = grpc.StatusCode.CANCELLED  # where neither of the below is reached
        failure = status = None
        running = _Running(asyncio.current_task())
        self._running.add(running)
        self._idle.clear()
        try:
            try:
                if self._refusing:
                    raise ShuttingDown
                with running.cut_off_as_shutting_down():
                    yield running
                code = grpc.StatusCode.OK
            except Exception as error:
                failure = error
                status = status_of(error, current_request_id.get())
                code = status.code
            finally:
                # Before the caller is told: who has an answer finds it counted.
                self._ended(method, code, status, time.perf_counter() - begin)
            if failure is not None and status is not None:
                await _abort(context, failure, status, method, begin)
        finally:
            self._running.discard(running)
            if not self._running:
                self._idle.set()

    def _ended(
        self, method: str, code: grpc.StatusCode, status: CallStatus | None, seconds: float
    ) -> None:
        """Tell those who count, trace and log calls of one that has ended."""
        if self._observer is not None:
            self._observer.ended(method.rpartition("/")[2], code.name, seconds)
        if (trace := current_trace.get()) is not None:
            reason = "" if status is None else error_info(status).reason
            trace.ended(current_request_id.get(), code.value[0], reason)
        if self._access_log:
            _log_access(method, code, seconds)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the handler of a method, surrounded; health and reflection are admitted, and then
        go through as they are.
        """
        method: str = handler_call_details.method
        if not self._access.serves(method):
            return None
        try:
            self._access.admit(method, handler_call_details.invocation_metadata)
        except (AccessError, RateLimited) as error:
            return self._refusal(method, error)
        if (known := self._wrapped.get(method)) is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith("/shortlist."):
            return handler
        deserialize = handler.request_deserializer
        assert deserialize is not None
        streams = bool(handler.response_streaming)
        make = (
            grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
        )
        surround = self._surround_stream if streams else self._surround
        surrounded = make(
            surround(method, handler),
            request_deserializer=_tolerant(deserialize),
            response_serializer=handler.response_serializer,
        )
        self._wrapped[method] = surrounded
        return surrounded

    def _refusal(self, method: str, error: Exception) -> Handler:
        """Return a handler that ends a call of any kind. As one of streams it does not wait for the
        request, which is not even read.
        """

        async def call(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            async with self._call(method, context):
                raise error

        return grpc.stream_stream_rpc_method_handler(call)

    def _surround(self, method: str, handler: Handler) -> Callable[[Any, Any], Awaitable[Any]]:
        behavior: Any = handler.unary_unary

        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with self._call(method, context):
                return await behavior(_well_formed(request), context)

        return call

    def _surround_stream(
        self, method: str, handler: Handler
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        behavior: Any = handler.unary_stream

        async def call(
            request: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Any]:
            async with self._call(method, context) as running:
                async for response in behavior(_well_formed(request), context):
                    # While a response is on its way the task is gRPC's: not to be cancelled.
                    running.works = False
                    yield response
                    running.works = True
                    if self._cutting:
                        raise ShuttingDown

        return call


def _log_access(method: str, code: grpc.StatusCode, seconds: float) -> None:
    """Log a call: never what was asked or answered, and of its key the name alone."""
    caller = current_caller.get()
    fields: dict[str, Any] = {
        "method": method,
        "code": code.name,
        "duration_ms": round(seconds * 1e3, 3),
    }
    if caller is not None:
        fields["caller"] = caller.name
    access_logger.info(
        "%s %s %s after %.1f ms%s",
        current_request_id.get(),
        method,
        code.name,
        seconds * 1e3,
        "" if caller is None else f", by key {caller.name}",
        extra={CALL: fields},
    )


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return what reads a request, or returns the error: raised, it would end the call UNKNOWN."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return error

    return read


def _well_formed(request: Any) -> Any:
    if isinstance(request, RequestError):
        raise request
    if isinstance(request, DecodeError):
        raise InvalidValue("request", expected="a message of the method's type", got=str(request))
    return request


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any],
    error: Exception,
    status: CallStatus,
    method: str,
    begin: float,
) -> None:
    """Log an error, and end the call in its status."""
    request_id = current_request_id.get()
    fault = status.code is grpc.StatusCode.INTERNAL
    logger.log(
        logging.ERROR if fault else logging.DEBUG,
        "%s %s %s after %.1f ms: %s",
        request_id,
        method,
        status.code.name,
        (time.perf_counter() - begin) * 1e3,
        error,
        exc_info=fault,
    )
    try:
        await context.abort(status.code, status.message, status.metadata(request_id))
    except grpc.aio.InternalError as gone:
        # The call has ended without us: its caller has given up, or its deadline is gone.
        raise asyncio.CancelledError from gone


def _request_id(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    for key, value in context.invocation_metadata() or ():
        if (
            key == REQUEST_ID_KEY
            and isinstance(value, str)
            and 0 < len(value) <= REQUEST_ID_BYTES_MAX
        ):
            return value
    return uuid.uuid4().hex
