"""The running server that a command asks: where it is, and how the connection is made."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import grpc

from shortlist_server.errors import ConfigError


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the server, and the files of TLS."""
    parser.add_argument(
        "--target",
        default="127.0.0.1:8500",
        metavar="HOST:PORT",
        help="the server (default %(default)s)",
    )
    parser.add_argument(
        "--ca-file",
        type=Path,
        metavar="PEM",
        help="speak TLS, and trust the certificates in this file: the server's own, or those of "
        "its authority",
    )
    parser.add_argument(
        "--server-name",
        metavar="NAME",
        help="the name that the certificate carries, where the target is another",
    )
    parser.add_argument(
        "--certificate-file", type=Path, metavar="PEM", help="the certificate to show"
    )
    parser.add_argument("--key-file", type=Path, metavar="PEM", help="its private key")


def seconds(text: str) -> float:
    """Read a number of seconds from a command line."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3_600:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, up to 3600, got {text!r}")
    return value


def open_channel(
    api: Any, target: str, credentials: grpc.ChannelCredentials | None, server_name: str | None
) -> Any:
    """Return a channel that makes no call twice.

    Args:
        api: `grpc`, or `grpc.aio` for one of an event loop.
        target: HOST:PORT.
        credentials: Those of TLS; None speaks plain text.
        server_name: The name that the certificate must carry; None for that of the target.
    """
    options: list[tuple[str, str | int]] = [("grpc.enable_retries", 0)]
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    if credentials is None:
        return api.insecure_channel(target, options)
    return api.secure_channel(target, credentials, options)


def tls_credentials(parsed: argparse.Namespace) -> grpc.ChannelCredentials | None:
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
