"""A collector of traces: OTLP over HTTP, on a real socket."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2


@dataclass(frozen=True)
class Received:
    """A span, with the resource that it came with."""

    span: trace_pb2.Span
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def attributes(self) -> dict[str, Any]:
        return plain(self.span.attributes)


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict; an array as a list."""
    values = {}
    for attribute in attributes:
        value = attribute.value
        kind = value.WhichOneof("value")
        values[attribute.key] = (
            [getattr(one, one.WhichOneof("value")) for one in value.array_value.values]
            if kind == "array_value"
            else getattr(value, kind)
        )
    return values


class Collector:
    """Keeps what it is sent; while `gate` is not set, it takes requests and does not answer."""

    def __init__(self, *, status: int = 200) -> None:
        self.received: list[Received] = []
        self.bodies: list[bytes] = []
        self.gate = threading.Event()
        self.gate.set()
        self._arrived = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                collector._take(body)
                collector.gate.wait(timeout=30)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            # Whom the exporter has given up on finds nobody to answer.
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def _take(self, body: bytes) -> None:
        message = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        with self._arrived:
            self.bodies.append(body)
            for of_resource in message.resource_spans:
                resource = plain(of_resource.resource.attributes)
                for of_scope in of_resource.scope_spans:
                    self.received += [Received(span, resource) for span in of_scope.spans]
            self._arrived.notify_all()

    def wait(self) -> None:
        """Wait until something has come."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.bodies, timeout=30)

    def servers(self) -> list[Received]:
        """The spans of calls, in the order in which they ended."""
        return [one for one in self.received if one.span.kind == trace_pb2.Span.SPAN_KIND_SERVER]

    def children(self, parent: Received) -> list[Received]:
        return [one for one in self.received if one.span.parent_span_id == parent.span.span_id]

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Collector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
