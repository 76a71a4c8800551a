"""Calls over HTTP, put to the handlers of gRPC: the same services behind the same interceptor."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

import grpc
from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.interceptor import MetadataInterceptor
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import Endpoint
from google.protobuf import descriptor_pool, json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from protobuf.wkt import Any as ConnectAny
from protobuf.wkt import Struct

from shortlist_server.observability.current_call import current_request_id
from shortlist_server.rpc.interceptors import CallInterceptor, Handler
from shortlist_server.rpc.status import DETAILS_KEY, REQUEST_ID_KEY

SKIPPED = frozenset({"/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/List"})
"""Methods of gRPC's own that a probe over HTTP has no use for."""


class Handlers:
    """Takes handlers from the generated `add_..._to_server` functions, as a gRPC server does."""

    def __init__(self) -> None:
        self.by_method: dict[str, Handler] = {}
        """By path, as /shortlist.v1.RecommendationService/Recommend."""

    def add_registered_method_handlers(
        self, service_name: str, handlers: Mapping[str, Handler]
    ) -> None:
        """Take the handlers of a service, by the names of its methods."""
        for name, handler in handlers.items():
            self.by_method[f"/{service_name}/{name}"] = handler

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Take the same handlers in their older form: they are known already."""


class CallContext:
    """What handlers use of `grpc.aio.ServicerContext`."""

    def __init__(self, request: RequestContext[Any, Any]) -> None:
        self._request = request
        self._metadata = tuple(request.request_headers.allitems())

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the headers of the request."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """Return the time until the caller's deadline, in seconds; None where there is none."""
        timeout_ms = self._request.timeout_ms
        return None if timeout_ms is None else max(timeout_ms / 1e3, 0.0)

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        """End the call in a status, whose details are in the metadata as gRPC has them."""
        status = Status()
        for key, value in trailing_metadata:
            if key == DETAILS_KEY and isinstance(value, bytes):
                status.MergeFromString(value)
        self.name_request()
        raise ConnectError(_code(code), details, [_Detail(detail) for detail in status.details])

    def name_request(self) -> None:
        """Send the request's id with the answer, whether it is one or an error."""
        if request_id := current_request_id.get():
            self._request.response_headers[REQUEST_ID_KEY] = request_id


class _CallDetails(NamedTuple):
    """A call that begins; implements `grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: tuple[tuple[str, str], ...]


_admitted: ContextVar[tuple[Any, CallContext]] = ContextVar("_admitted")


class Admission(MetadataInterceptor[None]):
    """Admits calls before their bodies are read, as gRPC does."""

    def __init__(self, calls: CallInterceptor, handlers: Handlers) -> None:
        """Take what surrounds calls over gRPC, and what answers them."""
        self._calls = calls
        self._handlers = handlers

    async def on_start(self, ctx: RequestContext[Any, Any]) -> None:
        """Remember the call's handler, surrounded.

        Raises:
            ConnectError: the call is not admitted.
        """
        context = CallContext(ctx)
        method = f"/{ctx.method.service_name}/{ctx.method.name}"
        # The stubs describe handlers of servers with threads.
        handler: Any = await self._calls.intercept_service(
            self._find,
            _CallDetails(method, context.invocation_metadata()),  # type: ignore[arg-type]  # duck
        )
        if handler is None:
            raise ConnectError(Code.UNIMPLEMENTED, f"{method} is not served")
        if handler.stream_stream is not None:
            # A refusal, which reads nothing.
            await handler.stream_stream(None, context)
        _admitted.set((handler, context))

    async def on_end(
        self, token: None, ctx: RequestContext[Any, Any], error: Exception | None
    ) -> None:
        """Do nothing."""

    async def _find(self, details: grpc.HandlerCallDetails) -> Handler | None:
        return self._handlers.by_method.get(details.method)


def endpoints(handlers: Handlers) -> dict[str, Any]:
    """Return what answers at each path, once `Admission` has let the call through."""
    found: dict[str, Any] = {}
    for path in handlers.by_method:
        if path in SKIPPED:
            continue
        method = method_descriptor(path)
        if method.server_streaming:
            info = _info(method, StreamType.SERVER_STREAM)
            found[path] = Endpoint.server_stream(info, _call_stream)
        else:
            found[path] = Endpoint.unary(_info(method, StreamType.UNARY), _call)
    return found


def endpoint_in_front_of(
    path: str, call: Callable[[Any], Awaitable[Any]], *, asked: type[Any], answered: type[Any]
) -> Any:
    """Return what answers at another path by a method's handler, as calls of that method.

    Args:
        path: The method's, which must have one answer.
        call: Takes what was sent, or the DecodeError, and returns what is sent back. It asks the
            handler by `answer`.
        asked: Message that is sent.
        answered: Message that is sent back.
    """

    async def run(request: Any, ctx: RequestContext[Any, Any]) -> Any:
        return await call(request)

    info = _info(method_descriptor(path), StreamType.UNARY)
    return Endpoint.unary(replace(info, input=asked, output=answered), run)


def method_descriptor(path: str) -> MethodDescriptor:
    """Return the description of the method at a path."""
    _, service, name = path.split("/")
    found: MethodDescriptor = (
        descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    )
    return found


async def answer(request: Any) -> Any:
    """Have the handler of the current call answer a message; a RequestError in its place ends the
    call, counted and logged as any.

    Raises:
        ConnectError: the call has failed.
    """
    handler, context = _admitted.get()
    response = await handler.unary_unary(request, context)
    context.name_request()
    return response


async def _call(request: Any, ctx: RequestContext[Any, Any]) -> Any:
    return await answer(request)


async def _call_stream(request: Any, ctx: RequestContext[Any, Any]) -> AsyncGenerator[Any, None]:
    handler, context = _admitted.get()
    responses: Any = handler.unary_stream(request, context)
    async with aclosing(responses):
        async for response in responses:
            context.name_request()
            yield response


def _info(method: MethodDescriptor, stream_type: StreamType) -> MethodInfo[Any, Any]:
    return MethodInfo(
        name=method.name,
        service_name=method.containing_service.full_name,
        input=GetMessageClass(method.input_type),
        output=GetMessageClass(method.output_type),
        # Not by GET: answers depend on headers and time, and queries would be in every proxy's log.
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=stream_type,
    )


def _code(code: grpc.StatusCode) -> Code:
    return Code.CANCELED if code is grpc.StatusCode.CANCELLED else Code[code.name]


class _Detail(ErrorDetail):
    """A detail that can be read in JSON, too: Connect knows no message of Google's package."""

    def __init__(self, detail: AnyMessage) -> None:
        super().__init__(ConnectAny(type_url=detail.type_url, value=detail.value))
        message = GetMessageClass(
            descriptor_pool.Default().FindMessageTypeByName(detail.type_url.rpartition("/")[2])
        ).FromString(detail.value)
        self._debug = Struct.from_json(json_format.MessageToJson(message))

    def value(self, *_: Any) -> Any:
        """Return the detail as a JSON object, which Connect sends along as `debug`."""
        return self._debug
