"""`shortlist-server health`: asks a server for its health, as probes of containers do."""

from __future__ import annotations

import argparse
import sys

import grpc

from shortlist_server.errors import MissingExtra, ShortlistError
from shortlist_server.target import add_target, open_channel, seconds, tls_credentials

DESCRIPTION = "Ask a running server for its health."
EPILOG = """examples:
  shortlist-server health
  shortlist-server health --target 127.0.0.1:8500 --service shortlist.v1.RecommendationService
  shortlist-server health --ca-file server.pem --server-name shop.example

Exit codes: 0 it serves, 1 it does not, or cannot be asked, 2 usage.
"""
SERVING = "SERVING"


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code.

    A probe runs it every few seconds beside the server: it loads gRPC alone, not what the other
    commands need.
    """
    parsed = parser().parse_args(arguments)
    try:
        status = ask(
            parsed.target,
            service=parsed.service,
            timeout_s=parsed.timeout_s,
            credentials=tls_credentials(parsed),
            server_name=parsed.server_name,
        )
    except ShortlistError as error:
        print(f"shortlist-server: {error}", file=sys.stderr)
        return 1
    print(status)
    return 0 if status == SERVING else 1


def ask(
    target: str,
    *,
    service: str = "",
    timeout_s: float = 2.0,
    credentials: grpc.ChannelCredentials | None = None,
    server_name: str | None = None,
) -> str:
    """Return what a server says of itself: SERVING, NOT_SERVING, SERVICE_UNKNOWN, or, where it does
    not say it, what went wrong.

    Args:
        target: HOST:PORT.
        service: Full name of the service that is asked for; empty for the whole server.
        timeout_s: How long it may take, in seconds.
        credentials: Those of TLS; None speaks plain text.
        server_name: The name that the certificate must carry; None for that of the target.

    Raises:
        MissingExtra: the extra `server` is not installed.
    """
    try:
        from grpc_health.v1 import health_pb2, health_pb2_grpc
    except ImportError as error:
        raise MissingExtra(feature="the health command", extra="server") from error
    with open_channel(grpc, target, credentials, server_name) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return "SERVICE_UNKNOWN"
            return f"{target}: {error.code().name}: {error.details()}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(
        prog="shortlist-server health",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_target(made)
    made.add_argument(
        "--service",
        default="",
        metavar="NAME",
        help="full name of one service (default: the whole server)",
    )
    made.add_argument(
        "--timeout-s",
        type=seconds,
        default=2.0,
        metavar="SECONDS",
        help="how long it may take (default %(default)g)",
    )
    return made
