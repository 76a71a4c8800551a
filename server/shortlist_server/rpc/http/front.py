"""HTTP: the services of the gRPC server by Connect's protocols, in the same event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, TypeAlias

import grpc
import uvicorn
from connectrpc.server import ConnectASGIApplication
from starlette.middleware.cors import CORSMiddleware

from shortlist_server.errors import AccessError, ConfigError, RateLimited
from shortlist_server.rpc.access import REFLECTION_METHOD, Access
from shortlist_server.rpc.http import codelab
from shortlist_server.rpc.http.calls import Admission, Handlers, endpoints
from shortlist_server.rpc.http.codecs import BinaryCodec, JsonCodec
from shortlist_server.rpc.http.openapi import describe
from shortlist_server.rpc.http.options import HttpOptions
from shortlist_server.rpc.http.playground import Playground
from shortlist_server.rpc.http.protocol import BoundedProtocol
from shortlist_server.rpc.interceptors import CallInterceptor
from shortlist_server.rpc.sockets import accept_queue
from shortlist_server.rpc.status import REQUEST_ID_KEY, status_of
from shortlist_server.rpc.tls import Certificates

logger = logging.getLogger(__name__)

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

DESCRIPTION_PATH = "/openapi.json"
IDLE_S = 75
"""How long a connection may be silent between two calls; longer than the minute after which common
load balancers give theirs up, so that none sends a call on a connection that is being closed."""
KEEPALIVE_S_MAX = 32_767
"""Most that Linux takes."""
BODY_S_MAX = 30.0
"""How long the body of a request may take to come."""
LOOK_S = 0.05
ACCEPT_S_MAX = 0.5
CORS_AGE_S = 600
"""How long a browser remembers that it may call."""
CORS_HEADERS = (
    "authorization",
    "connect-protocol-version",
    "connect-timeout-ms",
    "content-type",
    "grpc-timeout",
    "x-grpc-web",
    "x-request-id",
    "x-user-agent",
)
CORS_EXPOSED = ("grpc-message", "grpc-status", "grpc-status-details-bin", REQUEST_ID_KEY)


class HttpFront:
    """Answers over HTTP what a gRPC server answers."""

    def __init__(
        self,
        options: HttpOptions,
        *,
        handlers: Handlers,
        calls: CallInterceptor,
        access: Access,
        message_bytes_max: int,
        keepalive_ms: int,
        keepalive_timeout_ms: int,
        share_port: bool,
        certificates: Certificates | None,
    ) -> None:
        """Take what answers, and how; it does not listen yet.

        Args:
            options: How calls are taken.
            handlers: The services.
            calls: What surrounds calls over gRPC, which drains these, too.
            access: Who may read the description.
            message_bytes_max: Largest request, in bytes, compressed or not.
            keepalive_ms: Silence after which the other end is asked whether it is there.
            keepalive_timeout_ms: Time to answer that.
            share_port: Whether other processes of this user may listen on the port, too.
            certificates: Those of TLS; None speaks plain text.
        """
        self._options = options
        self._keepalive_s = [
            min(math.ceil(each / 1e3), KEEPALIVE_S_MAX)
            for each in (keepalive_ms, keepalive_timeout_ms)
        ]
        self._share_port = share_port
        self.closing = False
        """Whether each connection ends with the answer that is next on it."""
        connect = _Connect(
            service=None,
            endpoints=lambda _: _endpoints(handlers, options),
            interceptors=(Admission(calls, handlers),),
            read_max_bytes=message_bytes_max,
            codecs=(BinaryCodec(), JsonCodec()),
        )
        self._gate = _Gate(connect, access, lambda: self.closing)
        application: Any = self._gate
        if options.cors_origins:
            application = CORSMiddleware(
                application,
                allow_origins=options.cors_origins,
                allow_methods=("GET", "POST"),
                allow_headers=CORS_HEADERS,
                expose_headers=CORS_EXPOSED,
                max_age=CORS_AGE_S,
            )
        self._server = _Uvicorn(_uvicorn_config(application, options, certificates))
        self._bound: socket.socket | None = None
        self._running: asyncio.Task[None] | None = None

    def bind(self) -> int:
        """Take the port, at which nobody can connect yet; returns it.

        Raises:
            ConfigError: the address cannot be bound.
        """
        self._bound = self._socket()
        return int(self._bound.getsockname()[1])

    async def start(self, *, grpc_port: int) -> None:
        """Listen at the port.

        Args:
            grpc_port: The one on which the same services answer gRPC.

        Raises:
            ConfigError: the page of the playground has not been built.
        """
        assert self._bound is not None
        if self._options.playground:
            self._gate.playground = Playground(grpc_port=grpc_port)
        self._running = asyncio.create_task(self._server.serve([self._bound]))
        while not self._server.started:  # uvicorn tells nobody
            if self._running.done():
                self._running.result()
            await asyncio.sleep(0)
        logger.info("HTTP on port %d", self._bound.getsockname()[1])

    def _socket(self) -> socket.socket:
        host, _, port = self._options.listen.rpartition(":")
        try:
            family, _, _, _, address = socket.getaddrinfo(
                host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
        except (OSError, OverflowError) as error:
            raise ConfigError(f"http_listen: cannot use {self._options.listen}: {error}") from error
        # By its number: asyncio switches Nagle's algorithm off for these alone, and an answer
        # of several packets would wait 40 ms for the acknowledgement of the first.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._share_port:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # HTTP/1.1 has no pings: the kernel asks. Connections have it from the one that listens.
            idle_s, timeout_s = self._keepalive_s
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, timeout_s)
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 1)
            bound.bind(address)
        except OSError as error:
            bound.close()
            raise ConfigError(
                f"http_listen: cannot bind {self._options.listen}: {error.strerror}; is another "
                "server on this port?"
            ) from error
        return bound

    async def hand_over(self, patience_s: float) -> None:
        """Stop listening, and answer on the connections that there are; each ends with its next
        answer.
        """
        self.closing = True
        async with contextlib.AsyncExitStack() as stack:
            for server in self._server.servers:
                stack.callback(server.close)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ACCEPT_S_MAX):
                    # What the kernel has taken and we have not would be reset.
                    while any(map(_waits, self._server.servers)):  # noqa: ASYNC110  # as above
                        await asyncio.sleep(0.0005)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._server.server_state.connections:  # noqa: ASYNC110  # as above
                    await asyncio.sleep(LOOK_S)

    async def stop(self) -> None:
        """End, once the calls that are left have ended."""
        if self._running is not None:
            self._server.should_exit = True
            await self._running


def _endpoints(handlers: Handlers, options: HttpOptions) -> dict[str, Any]:
    if options.codelab is None:
        return endpoints(handlers)
    return {**endpoints(handlers), codelab.PATH: codelab.endpoint(options.codelab)}


def _waits(server: asyncio.Server) -> bool:
    """Whether a connection waits to be accepted."""
    return any(accept_queue(listening) for listening in server.sockets)


class _Connect(ConnectASGIApplication[None]):
    """Every service at once, where generated code has an application for each."""

    @property
    def path(self) -> str:
        return ""


class _Uvicorn(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn_config(
    application: Any, options: HttpOptions, certificates: Certificates | None
) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # what anybody may send is no warning of ours
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=options.connections_max,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=1,
        ssl_context_factory=(
            None if certificates is None else lambda config, default: certificates.ssl_context()
        ),
    )


class _Gate:
    """Lets requests through to Connect, but those that it has no answer to; an ASGI application."""

    def __init__(self, connect: Any, access: Access, closing: Callable[[], bool]) -> None:
        self._connect = connect
        self._access = access
        self._closing = closing
        self._description = b""
        self.playground: Playground | None = None
        """None: it is not served."""

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and self._closing():
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        try:
            headers = [
                (name.decode("ascii"), value.decode("ascii")) for name, value in scope["headers"]
            ]
        except UnicodeDecodeError:
            await _respond(answer, 400, {"code": "invalid_argument", "message": _HEADERS})
            return
        if scope["path"] == DESCRIPTION_PATH:
            await self._describe(scope["method"], headers, answer)
            return
        if self.playground is not None and (
            page := self.playground.answer(scope["method"], scope["path"], headers)
        ):
            await answer(
                {"type": "http.response.start", "status": page.status, "headers": page.headers}
            )
            await answer({"type": "http.response.body", "body": page.body})
            return
        kind = dict(headers).get("content-type", "")
        # Of gRPC itself, which has a port of its own: it would need trailers.
        if kind.startswith("application/grpc") and not kind.startswith("application/grpc-web"):
            await _respond(answer, 415, {"code": "unimplemented", "message": _GRPC})
            return
        await self._connect(scope, _timed(receive), answer)

    async def _describe(self, method: str, headers: list[tuple[str, str]], send: Send) -> None:
        if method not in ("GET", "HEAD"):
            await _respond(send, 405, {}, (b"allow", b"GET, HEAD"))
            return
        try:
            # The same as reflection over gRPC says.
            self._access.admit(REFLECTION_METHOD, headers)
        except (AccessError, RateLimited) as error:
            status = status_of(error, "")
            body = {"code": status.code.name.lower(), "message": status.message}
            await _respond(send, _REFUSED[status.code], body)
            return
        if not self._description:
            self._description = json.dumps(describe()).encode()
        await _respond(send, 200, self._description)


_REFUSED = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
}
_HEADERS = "expected headers of ASCII characters alone"
_GRPC = (
    "expected application/json, application/proto or application/grpc-web, got gRPC: see `listen`"
)


async def _respond(send: Send, status: int, body: Any, *headers: tuple[bytes, bytes]) -> None:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    fixed = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(encoded)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": encoded})


def _timed(receive: Receive) -> Receive:
    """Return a `receive` that takes a caller whose body does not come for one who has gone."""
    whole = False
    end = asyncio.get_running_loop().time() + BODY_S_MAX

    async def timed() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout_at(end):
                message = await receive()
        except TimeoutError:
            return {"type": "http.disconnect"}
        whole = not message.get("more_body", False)
        return message

    return timed
