"""A scripted server for the client's tests, on a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from shortlist.v1 import bundle_pb2, catalog_pb2, conversation_pb2, recommendation_pb2
from shortlist_client import AsyncClient, AsyncStream, Client, Stream


@dataclass(frozen=True, kw_only=True)
class Received:
    """One call as the server saw it."""

    method: str
    request: Message
    metadata: dict[str, str | bytes]
    time_remaining_s: float


@dataclass(frozen=True)
class Failure:
    """Ends a call with a status."""

    code: grpc.StatusCode
    message: str = "what is wrong"
    details: Sequence[Message] = ()
    metadata: Sequence[tuple[str, str | bytes]] = ()

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        status = Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        carried = (("grpc-status-details-bin", status.SerializeToString()),) if self.details else ()
        return (*carried, *self.metadata)


class Hang:
    """Holds a call until its caller gives up."""

    def __init__(self) -> None:
        self.given_up = threading.Event()

    def begin(self, context: grpc.ServicerContext) -> None:
        if not context.add_callback(self.given_up.set):
            self.given_up.set()


Step: TypeAlias = Message | Failure | Hang
"""What the server does in a call, or after it has sent the responses before it."""


class FakeServer:
    """Records every call and answers by script; after its end, with empty responses.

    A call of many responses takes a list of steps, and sends none after the end of the script.
    """

    def __init__(self, credentials: grpc.ServerCredentials | None = None, *, port: int = 0) -> None:
        self.received: list[Received] = []
        self.called = threading.Event()
        self._steps: deque[Step | Sequence[Step]] = deque()
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)]
        )
        for module, service in (
            (recommendation_pb2, "RecommendationService"),
            (bundle_pb2, "BundleService"),
            (catalog_pb2, "CatalogService"),
            (conversation_pb2, "ConversationService"),
        ):
            self._add_service(module, service)
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self._server.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def script(self, *steps: Step | Sequence[Step]) -> None:
        self._steps.extend(steps)

    def stop(self) -> None:
        for scripted in self._steps:
            for step in scripted if isinstance(scripted, Sequence) else [scripted]:
                if isinstance(step, Hang):
                    step.given_up.set()
        self._server.stop(grace=None).wait()

    def _add_service(self, module: Any, service: str) -> None:
        descriptor = module.DESCRIPTOR.services_by_name[service]
        handlers = {
            method.name: self._rpc_handler(
                method.name,
                getattr(module, method.input_type.name),
                getattr(module, method.output_type.name),
                many=method.server_streaming,
            )
            for method in descriptor.methods
        }
        self._server.add_registered_method_handlers(descriptor.full_name, handlers)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(descriptor.full_name, handlers),)
        )

    def _rpc_handler(
        self, method: str, request_type: Any, response_type: Any, *, many: bool
    ) -> grpc.RpcMethodHandler[Any, Any]:
        def handle(request: Message, context: grpc.ServicerContext) -> Message:
            step = self._receive(method, request, context) or response_type()
            assert isinstance(step, Message | Failure | Hang)
            return _run(step, context) or response_type()

        def handle_many(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
            scripted = self._receive(method, request, context) or ()
            steps = scripted if isinstance(scripted, Sequence) else [scripted]
            for step in steps:
                # Before the first response: a caller who gives up after it may be faster than the
                # next step, which then never runs.
                if isinstance(step, Hang):
                    step.begin(context)
            for step in steps:
                response = _run(step, context)
                if response is not None:
                    yield response

        kinds = (grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler)
        return kinds[many](
            handle_many if many else handle,
            request_deserializer=request_type.FromString,
            response_serializer=response_type.SerializeToString,
        )

    def _receive(
        self, method: str, request: Message, context: grpc.ServicerContext
    ) -> Step | Sequence[Step] | None:
        self.received.append(
            Received(
                method=method,
                request=request,
                metadata=dict(context.invocation_metadata()),
                time_remaining_s=context.time_remaining() or 0.0,
            )
        )
        self.called.set()
        return self._steps.popleft() if self._steps else None


def _run(step: Step, context: grpc.ServicerContext) -> Message | None:
    if isinstance(step, Failure):
        context.set_trailing_metadata(step.trailing_metadata())
        context.abort(step.code, step.message)
    if isinstance(step, Hang):
        step.begin(context)
        step.given_up.wait(timeout=10)
        return None
    return step


@pytest.fixture
def fake_server() -> Iterator[FakeServer]:
    running = FakeServer()
    yield running
    running.stop()


@pytest.fixture
def start_server() -> Iterator[Callable[..., FakeServer]]:
    """Starts as many servers as a test wants."""
    running: list[FakeServer] = []

    def start(*arguments: Any, **options: Any) -> FakeServer:
        running.append(FakeServer(*arguments, **options))
        return running[-1]

    yield start
    for server in running:
        server.stop()


Ask: TypeAlias = Callable[..., Any]


@pytest.fixture(params=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest, fake_server: FakeServer) -> Ask:
    """Makes one call with a client of its own: the same test for both kinds of client.

    A call of many answers returns them as a list.
    """

    def ask_blocking(
        method: str, *arguments: Any, options: dict[str, Any] | None = None, **fields: Any
    ) -> Any:
        with Client(**{"target": fake_server.target, **(options or {})}) as client:
            answer = getattr(client, method)(*arguments, **fields)
            return list(answer) if isinstance(answer, Stream) else answer

    def ask_asyncio(
        method: str, *arguments: Any, options: dict[str, Any] | None = None, **fields: Any
    ) -> Any:
        async def call() -> Any:
            async with AsyncClient(**{"target": fake_server.target, **(options or {})}) as client:
                answer = getattr(client, method)(*arguments, **fields)
                if isinstance(answer, AsyncStream):
                    return [part async for part in answer]
                return await answer

        return asyncio.run(call())

    return ask_blocking if request.param == "Client" else ask_asyncio


@pytest.fixture
def failure() -> Callable[..., Failure]:
    """Makes a Failure as a Shortlist server would: an ErrorInfo, and what details follow."""

    def make(
        code: grpc.StatusCode,
        reason: str = "",
        *details: Message,
        message: str = "what is wrong",
        trailing: Sequence[tuple[str, str | bytes]] = (),
        **metadata: str,
    ) -> Failure:
        info = ErrorInfo(reason=reason, domain="shortlist", metadata=metadata)
        carried = (info, *details) if reason else details
        return Failure(code, message, carried, trailing)

    return make


@pytest.fixture
def hang() -> Hang:
    return Hang()
