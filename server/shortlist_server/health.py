"""`shortlist-server health`: asks a server for its health, as probes of containers do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grpc

from shortlist_server.errors import ConfigError, MissingExtra, ShortlistError

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
            credentials=_credentials(parsed),
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
    options: list[tuple[str, str | int]] = [("grpc.enable_retries", 0)]
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    channel = (
        grpc.insecure_channel(target, options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options)
    )
    with channel:
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
    made.add_argument(
        "--target",
        default="127.0.0.1:8500",
        metavar="HOST:PORT",
        help="the server (default %(default)s)",
    )
    made.add_argument(
        "--service",
        default="",
        metavar="NAME",
        help="full name of one service (default: the whole server)",
    )
    made.add_argument(
        "--timeout-s",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="how long it may take (default %(default)g)",
    )
    made.add_argument(
        "--ca-file",
        type=Path,
        metavar="PEM",
        help="speak TLS, and trust the certificates in this file: the server's own, or those of "
        "its authority",
    )
    made.add_argument(
        "--server-name",
        metavar="NAME",
        help="the name that the certificate carries, where the target is another",
    )
    made.add_argument(
        "--certificate-file", type=Path, metavar="PEM", help="the certificate to show"
    )
    made.add_argument("--key-file", type=Path, metavar="PEM", help="its private key")
    return made


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3_600:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, up to 3600, got {text!r}")
    return seconds


def _credentials(parsed: argparse.Namespace) -> grpc.ChannelCredentials | None:
    """Return the credentials of TLS; None for plain text.

    Raises:
        ConfigError: a file cannot be read, or one is missing beside another.
    """
    if parsed.ca_file is None:
        for name in ("certificate_file", "key_file", "server_name"):
            if getattr(parsed, name) is not None:
                flag = name.replace("_", "-")
                raise ConfigError(f"--ca-file: expected a file beside --{flag}, got none")
        return None
    if (parsed.certificate_file is None) != (parsed.key_file is None):
        missing = "certificate" if parsed.certificate_file is None else "key"
        raise ConfigError(f"--{missing}-file: expected a file beside the other, got none")
    try:
        ca, key, certificate = (
            None if file is None else file.read_bytes()
            for file in (parsed.ca_file, parsed.key_file, parsed.certificate_file)
        )
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from error
    return grpc.ssl_channel_credentials(ca, key, certificate)
