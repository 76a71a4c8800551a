"""How a client reaches a server: options of the channel, retries, TLS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

SEND_BYTES_MAX = 4 * 1024 * 1024
"""What the server accepts. Refusing more here saves sending it."""

RECEIVE_BYTES_MAX = 16 * 1024 * 1024
"""Four times gRPC's default: Retrieve of 4,096 items with all their attributes can exceed 4 MiB,
and the one who asked for so much means it."""

ATTEMPT_COUNT_MAX = 4
"""The first and up to three retries: after about 30, 90 and 270 ms, all within the deadline."""

_SERVICE_CONFIG = json.dumps(
    {
        # One connection to each address that the target resolves to, calls in turn: enough to use
        # all replicas behind a headless service. gRPC's default, `pick_first`, would send
        # everything to one.
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": ATTEMPT_COUNT_MAX,
                    "initialBackoff": "0.03s",
                    "maxBackoff": "0.3s",
                    "backoffMultiplier": 3,
                    # Every call only reads, so all could be repeated. But repeating what was too
                    # busy or too late adds load where there is too much of it already.
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)

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


def channel_options(overrides: Mapping[str, str | int] | None) -> list[tuple[str, str | int]]:
    """Return the options of a channel; the caller's win over those here, name by name."""
    return list({**_OPTIONS, **(overrides or {})}.items())


def credentials(tls: TlsOptions) -> grpc.ChannelCredentials:
    """Return the credentials of a channel over TLS."""
    return grpc.ssl_channel_credentials(
        root_certificates=tls.root_certificates,
        private_key=tls.client_key,
        certificate_chain=tls.client_certificate,
    )
