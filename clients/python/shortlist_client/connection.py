"""How a client reaches a server: options of the channel, retries, TLS, API keys."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Self

import grpc

from shortlist_client.errors import InvalidValue

SEND_BYTES_MAX = 4 * 1024 * 1024
"""What the server accepts. Refusing more here saves sending it."""

RECEIVE_BYTES_MAX = 16 * 1024 * 1024
"""Four times gRPC's default: Retrieve of 4,096 items with all their attributes can exceed 4 MiB,
and the one who asked for so much means it."""

ATTEMPT_COUNT_MAX = 4
"""The first and up to three retries: after about 30, 90 and 270 ms, all within the deadline. Where
that ends first, gRPC says DEADLINE_EXCEEDED and forgets why it was waiting: see `is_connected`."""

_SERVICE_CONFIG = json.dumps(
    {
        # One connection to each address that the target resolves to, calls in turn: enough to use
        # all replicas behind a headless service. gRPC's default, `pick_first`, would send
        # everything to one.
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            # A second one would roll back the first.
            {"name": [{"service": "shortlist.v1.BundleService", "method": "RollBackBundle"}]},
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": ATTEMPT_COUNT_MAX,
                    "initialBackoff": "0.03s",
                    "maxBackoff": "0.3s",
                    "backoffMultiplier": 3,
                    # All others could be repeated, for they read, or do the same again. But
                    # repeating what was too busy or too late adds load where there is too much of
                    # it already.
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            },
        ],
    }
)

_TOLD_S = 0.1
"""Longest that gRPC may take to say whether there is a connection; it takes about a millisecond."""

_KEY_HEADER = "authorization"
_SENDABLE = re.compile(r"[!-~]+")

_OPTIONS: Mapping[str, str | int] = {
    "grpc.service_config": _SERVICE_CONFIG,
    "grpc.max_send_message_length": SEND_BYTES_MAX,
    "grpc.max_receive_message_length": RECEIVE_BYTES_MAX,
    # gRPC's defaults, 1 s rising to 120 s, keep calls failing for up to two minutes after a server
    # is back.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 5_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """Encrypt the connection, and check who is at its end."""

    root_certificates: bytes | None = None
    """PEM of those whom to trust. None: gRPC's own list of public authorities."""
    client_certificate: bytes | None = None
    """PEM of the chain that tells the server who is calling. None: the server does not ask."""
    client_key: bytes | None = field(default=None, repr=False)
    """PEM of its private key. One without the other is refused."""

    def __post_init__(self) -> None:
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError(
                "TlsOptions: expected client_certificate and client_key, got one of them"
            )

    @classmethod
    def from_files(
        cls,
        *,
        ca_file: str | Path | None = None,
        certificate_file: str | Path | None = None,
        key_file: str | Path | None = None,
    ) -> Self:
        """Return the options that PEM files hold, as they are now.

        Args:
            ca_file: `root_certificates`.
            certificate_file: `client_certificate`.
            key_file: `client_key`.

        Raises:
            OSError: A file cannot be read.
            ValueError: A certificate without a key, or the other way round.
        """
        files = (ca_file, certificate_file, key_file)
        ca, certificate, key = (None if file is None else Path(file).read_bytes() for file in files)
        return cls(root_certificates=ca, client_certificate=certificate, client_key=key)


def channel_options(overrides: Mapping[str, str | int] | None) -> list[tuple[str, str | int]]:
    """Return the options of a channel; the caller's win over those here, name by name."""
    return list({**_OPTIONS, **(overrides or {})}.items())


def checked_tls(tls: TlsOptions | bool | None) -> TlsOptions | None:
    """Return the options of TLS; None for plain text."""
    if isinstance(tls, TlsOptions):
        return tls
    return TlsOptions() if tls else None


def sent_metadata(
    metadata: Mapping[str, str | bytes] | None,
    *,
    api_key: str | None,
    target: str,
    tls: TlsOptions | None,
    allow_plaintext_key: bool,
) -> tuple[tuple[str, str | bytes], ...]:
    """Return what is sent with every call, the API key among it.

    Raises:
        InvalidValue: The key cannot be sent, or must not: in plain text to another machine, where
            everybody between could read it. No message shows the key.
    """
    own = tuple((metadata or {}).items())
    if api_key is None:
        return own
    if not isinstance(api_key, str) or not _SENDABLE.fullmatch(api_key):
        raise _refused("printable ASCII without spaces, as `sl_...` is", "something else")
    if any(name == _KEY_HEADER for name, _ in own):
        raise _refused(f"no {_KEY_HEADER} in metadata beside it", "both")
    if tls is None and not allow_plaintext_key and not is_local(target):
        raise _refused(
            f"TLS to {target}, which is no address of this machine (tls=True, --tls), or "
            "allow_plaintext_key (--allow-plaintext-key)",
            "plain text",
        )
    return (*own, (_KEY_HEADER, f"Bearer {api_key}"))


def is_local(target: str) -> bool:
    """Whether a target is this machine by its name alone: nothing is looked up."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    address = re.sub(r"^(dns:///|dns:|ipv4:|ipv6:)", "", target)
    host = address
    if address.startswith("["):
        host = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        host = address.partition(":")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(expected: str, got: str) -> InvalidValue:
    return InvalidValue.about("api_key", reason="INVALID_VALUE", expected=expected, got=got)


def is_connected(channel: grpc.Channel) -> bool:
    """Whether a blocking channel has a connection now. Waits for no network.

    gRPC tells it to subscribers alone, from a thread of its own.
    """
    told: SimpleQueue[grpc.ChannelConnectivity] = SimpleQueue()
    channel.subscribe(told.put)
    try:
        return told.get(timeout=_TOLD_S) is grpc.ChannelConnectivity.READY
    except Empty:
        return True
    finally:
        channel.unsubscribe(told.put)


def credentials(tls: TlsOptions) -> grpc.ChannelCredentials:
    """Return the credentials of a channel over TLS."""
    return grpc.ssl_channel_credentials(
        root_certificates=tls.root_certificates,
        private_key=tls.client_key,
        certificate_chain=tls.client_certificate,
    )
