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
from shortlist.v1 import bundle_pb2, recommendation_pb2
from shortlist_client import AsyncClient, Client


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


Step: TypeAlias = Message | Failure | Hang


class FakeServer:
    """Records every call and answers by script; after its end, with empty responses."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None, *, port: int = 0) -> None:
        self.received: list[Received] = []
        self.called = threading.Event()
        self._steps: deque[Step] = deque()
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)]
        )
        for module, service in (
            (recommendation_pb2, "RecommendationService"),
            (bundle_pb2, "BundleService"),
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

    def script(self, *steps: Step) -> None:
        self._steps.extend(steps)

    def stop(self) -> None:
        for step in self._steps:
            if isinstance(step, Hang):
                step.given_up.set()
        self._server.stop(grace=None).wait()

    def _add_service(self, module: Any, service: str) -> None:
        descriptor = module.DESCRIPTOR.services_by_name[service]
        handlers = {
            method.name: grpc.unary_unary_rpc_method_handler(
                self._handler(method.name, getattr(module, method.output_type.name)),
                request_deserializer=getattr(module, method.input_type.name).FromString,
                response_serializer=getattr(module, method.output_type.name).SerializeToString,
            )
            for method in descriptor.methods
        }
        self._server.add_registered_method_handlers(descriptor.full_name, handlers)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(descriptor.full_name, handlers),)
        )

    def _handler(self, method: str, response_type: type[Message]) -> Callable[..., Message]:
        def handle(request: Message, context: grpc.ServicerContext) -> Message:
            self.received.append(
                Received(
                    method=method,
                    request=request,
                    metadata=dict(context.invocation_metadata()),
                    time_remaining_s=context.time_remaining() or 0.0,
                )
            )
            self.called.set()
            step = self._steps.popleft() if self._steps else response_type()
            if isinstance(step, Failure):
                context.set_trailing_metadata(step.trailing_metadata())
                context.abort(step.code, step.message)
            if isinstance(step, Hang):
                context.add_callback(step.given_up.set)
                step.given_up.wait(timeout=10)
                return response_type()
            return step

        return handle


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
    """Makes one call with a client of its own: the same test for both kinds of client."""

    def ask_blocking(
        method: str, *arguments: Any, options: dict[str, Any] | None = None, **fields: Any
    ) -> Any:
        with Client(fake_server.target, **(options or {})) as client:
            return getattr(client, method)(*arguments, **fields)

    def ask_asyncio(
        method: str, *arguments: Any, options: dict[str, Any] | None = None, **fields: Any
    ) -> Any:
        async def call() -> Any:
            async with AsyncClient(fake_server.target, **(options or {})) as client:
                return await getattr(client, method)(*arguments, **fields)

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
