"""What the configuration says of traces."""

from __future__ import annotations

from shortlist_server import __version__
from shortlist_server.config import ServerConfig
from shortlist_server.observability.spans import TracingOptions
from shortlist_server.observability.tracing import Tracing


def make_tracing(config: ServerConfig) -> Tracing | None:
    """Return what traces calls, its thread started; None where they are not traced.

    Raises:
        MissingExtra: the extra `otel` is not installed.
    """
    if config.otel_endpoint is None:
        return None
    return Tracing(
        TracingOptions(
            endpoint=config.otel_endpoint,
            share=config.trace_share,
            waiting_max=config.trace_waiting_max,
            service_name=config.otel_service_name,
            service_version=__version__,
        )
    )
