"""The gRPC server: services, health, reflection, limits, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from shortlist.v1 import (
    bundle_pb2,
    bundle_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    conversation_pb2,
    conversation_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
)

from shortlist_server.errors import ConfigError, MissingExtra
from shortlist_server.rpc.access import Access
from shortlist_server.rpc.bundle_service import BundleService
from shortlist_server.rpc.catalog_service import CatalogService
from shortlist_server.rpc.conversation_service import ConversationService
from shortlist_server.rpc.http.options import HttpOptions
from shortlist_server.rpc.interceptors import CallInterceptor, CallObserver, CallTracer
from shortlist_server.rpc.recommendation_service import RecommendationService
from shortlist_server.rpc.sockets import close_connections, connection_count, stop_listening
from shortlist_server.rpc.tls import Certificates

if TYPE_CHECKING:
    from shortlist_server.rpc.http.front import HttpFront

SERVICE_NAMES = (
    recommendation_pb2.DESCRIPTOR.services_by_name["RecommendationService"].full_name,
    bundle_pb2.DESCRIPTOR.services_by_name["BundleService"].full_name,
    catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].full_name,
    conversation_pb2.DESCRIPTOR.services_by_name["ConversationService"].full_name,
)


LOOK_S = 0.05
"""Time between two looks at whether connections are left."""
AGE_VARIES = 1.1
REFUSING_S = 0.2
"""How long calls are refused by name before the port closes, and how long that may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How the server listens and stops."""

    listen: str
    """HOST:PORT; port 0 takes a free one."""
    message_bytes_max: int
    streams_max: int
    keepalive_ms: int
    keepalive_timeout_ms: int
    ping_interval_ms_min: int
    drain_notice_s: float
    drain_s: float
    certificates: Certificates | None = None
    """None: plain text."""
    access_log: bool = False
    """Whether each call is logged."""
    channelz: bool = False
    """Whether grpc.channelz.v1 is served."""
    connection_age_s: float = math.inf
    """Age at which a connection is given up, its calls finished; clients make another."""
    http: HttpOptions | None = None
    """None: nothing is answered over HTTP."""
    share_port: bool = False
    """Whether other processes of this user may listen on the port, too."""


def _is_fault(record: logging.LogRecord) -> bool:
    """Whether a log record of grpc.aio tells of more than a caller who has gone, or sent nonsense.

    grpc.aio 1.85 logs the cancellation of a handler, which is how it ends a call whose caller has
    given up, as an error with a traceback. So it does with bytes that are no message, by which
    anybody who reaches the methods of health could fill the log.
    """
    callers_doing = (asyncio.CancelledError, DecodeError)
    return record.exc_info is None or not isinstance(record.exc_info[1], callers_doing)


logging.getLogger("grpc._cython.cygrpc").addFilter(_is_fault)


def _add_channelz(server: Any) -> str:
    """Register the service of channelz; returns its name."""
    try:
        from grpc_channelz.v1 import channelz, channelz_pb2
    except ImportError as error:
        raise MissingExtra(feature="channelz", extra="channelz") from error
    channelz.add_channelz_servicer(server)
    return str(channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name)


def _age_options(age_s: float) -> list[tuple[str, int]]:
    # gRPC varies it by a tenth. Calls that are under way finish, however long they take.
    return [] if math.isinf(age_s) else [("grpc.max_connection_age_ms", round(age_s * 1e3))]


def _connection_options(options: ServerOptions) -> list[tuple[str, int]]:
    """Return what keeps a connection from taking too much, or staying when nobody is there."""
    return [
        ("grpc.max_concurrent_streams", options.streams_max),
        ("grpc.keepalive_time_ms", options.keepalive_ms),
        ("grpc.keepalive_timeout_ms", options.keepalive_timeout_ms),
        # gRPC 1.85 asks this one, a minute by default: https://github.com/grpc/grpc/pull/39239
        ("grpc.http2.ping_timeout_ms", options.keepalive_timeout_ms),
        # By default gRPC asks only where there are calls, and gives up asking after two times: a
        # peer that vanished between calls would stay connected.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", options.ping_interval_ms_min),
    ]


class Server:
    """A gRPC server that is about to listen, listens, or drains."""

    def __init__(
        self,
        *,
        recommendation: RecommendationService,
        bundle: BundleService,
        catalog: CatalogService,
        conversation: ConversationService,
        options: ServerOptions,
        access: Access,
        observer: CallObserver | None = None,
        tracer: CallTracer | None = None,
    ) -> None:
        """Register the services; must be called inside the event loop.

        Raises:
            MissingExtra: channelz or HTTP is asked for, and not installed.
        """
        self._options = options
        self._calls = CallInterceptor(access, observer, tracer, access_log=options.access_log)
        self._server = grpc.aio.server(
            interceptors=[self._calls],
            options=[
                ("grpc.max_receive_message_length", options.message_bytes_max),
                ("grpc.max_send_message_length", -1),
                *_connection_options(options),
                *_age_options(options.connection_age_s),
                # Otherwise a second server could take the same port, and half of the calls, without
                # a word; workers of one server do just that.
                ("grpc.so_reuseport", int(options.share_port)),
                ("grpc.enable_channelz", int(options.channelz)),
            ],
        )
        self._port = 0
        self.http_port = 0
        """Port of HTTP; 0 where there is none."""
        self._health = health.aio.HealthServicer()

        def add_services(target: Any) -> None:
            recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server(
                recommendation, target
            )
            bundle_pb2_grpc.add_BundleServiceServicer_to_server(bundle, target)
            catalog_pb2_grpc.add_CatalogServiceServicer_to_server(catalog, target)
            conversation_pb2_grpc.add_ConversationServiceServicer_to_server(conversation, target)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, target)

        add_services(self._server)
        self._http = (
            None if options.http is None else self._front(options.http, access, add_services)
        )
        names = [*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME]
        if options.channelz:
            names.append(_add_channelz(self._server))
        reflection.enable_server_reflection(names, self._server)

    def _front(
        self, http: HttpOptions, access: Access, add_services: Callable[[Any], None]
    ) -> HttpFront:
        try:
            from shortlist_server.rpc.http.calls import Handlers
            from shortlist_server.rpc.http.front import HttpFront
        except ImportError as error:
            raise MissingExtra(feature="http_listen", extra="http") from error
        handlers = Handlers()
        add_services(handlers)
        options = self._options
        return HttpFront(
            http,
            handlers=handlers,
            calls=self._calls,
            access=access,
            message_bytes_max=options.message_bytes_max,
            keepalive_ms=options.keepalive_ms,
            keepalive_timeout_ms=options.keepalive_timeout_ms,
            share_port=options.share_port,
            certificates=options.certificates,
        )

    async def start(self) -> int:
        """Listen, and turn health to SERVING.

        Returns:
            The port.

        Raises:
            ConfigError: the address cannot be bound.
        """
        try:
            port = self._bind()
        except RuntimeError as error:
            raise ConfigError(
                f"listen: cannot bind {self._options.listen}: {error}; is another server on this "
                "port?"
            ) from error
        if self._http is not None:
            self.http_port = self._http.bind()
        await self._server.start()
        self._port = port
        if self._http is not None:
            await self._http.start(grpc_port=port)
        for name in ("", *SERVICE_NAMES):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return port

    def _bind(self) -> int:
        certificates, listen = self._options.certificates, self._options.listen
        if certificates is None:
            return self._server.add_insecure_port(listen)
        return self._server.add_secure_port(listen, certificates.credentials())

    async def hand_over(self) -> None:
        """Stop listening, answer all that comes by the connections that there are until each has
        come to its age, and end.

        For a server whose port others listen on: no call fails, where `drain` refuses those that
        come after it. Health stays as it is, since the service as a whole answers on.
        """
        stop_listening(self._port)
        # A tenth is how much gRPC varies the age; a client may take a moment to leave.
        patience = self._options.connection_age_s * AGE_VARIES + self._options.drain_s
        await asyncio.gather(
            self._left(patience),
            *(() if self._http is None else (self._http.hand_over(patience),)),
        )
        await self._stop()

    async def _left(self, patience_s: float) -> None:
        """Wait until each connection has been given up, or for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                # gRPC tells nobody when a connection ends.
                while connection_count(self._port):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_S)

    async def drain(self) -> None:
        """Turn health to NOT_SERVING, give load balancers time to see it, then let calls in flight
        finish.
        """
        await self._health.enter_graceful_shutdown()
        if self._http is not None:
            self._http.closing = True
        await asyncio.sleep(self._options.drain_notice_s)
        await self._calls.drain(self._options.drain_s)
        # Calls that are under way to the handlers now are told so.
        await asyncio.sleep(REFUSING_S)
        await self._stop()

    async def _stop(self) -> None:
        """End, whatever is under way."""
        # gRPC's `stop` asks the other side to leave, and ends what it sends before it has heard of
        # that CANCELLED, which nobody retries; a connection that closes is UNAVAILABLE.
        close_connections(self._port)
        await asyncio.gather(
            self._server.stop(REFUSING_S), *(() if self._http is None else (self._http.stop(),))
        )
