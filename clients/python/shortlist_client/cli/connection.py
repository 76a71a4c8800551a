"""The connection of a command: a client that keeps what came, as it came."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from shortlist_client.call import (
    Call,
    RequestT,
    ResponseT,
    ResultT,
    StreamCall,
    checked_request_id,
)
from shortlist_client.cli.settings import Settings, api_key_of, pem_of
from shortlist_client.client import Client
from shortlist_client.connection import TlsOptions
from shortlist_client.streams import Stream

TIMEOUT_S = 5.0
"""A person at a terminal rather waits for a first, cold answer than reads an error."""


class KeepingClient(Client):
    """A client that keeps the last message that came, for those who print it."""

    response: Message
    """The last message of the last call."""
    request_id: str | None = None
    """Of all calls. None: one of its own for each."""

    def send(self, call: Call[RequestT, ResponseT, ResultT]) -> ResultT:
        """Send a call that somebody else made."""
        return self._send(call)

    def begin(self, call: StreamCall[RequestT, ResponseT, ResultT]) -> Stream[ResultT]:
        """Send a call of many answers that somebody else made."""
        return self._begin(call)

    def _send(self, call: Call[RequestT, ResponseT, ResultT]) -> ResultT:
        return super()._send(
            replace(call, read=self._keeping(call.read), request_id=self._id_of(call.request_id))
        )

    def _begin(self, call: StreamCall[RequestT, ResponseT, ResultT]) -> Stream[ResultT]:
        return super()._begin(
            replace(call, read=self._keeping(call.read), request_id=self._id_of(call.request_id))
        )

    def _id_of(self, request_id: str) -> str:
        return request_id if self.request_id is None else self.request_id

    def _keeping(self, read: Callable[[Any], ResultT]) -> Callable[[Any], ResultT]:
        def keep(response: Any) -> ResultT:
            self.response = response
            return read(response)

        return keep


def open_client(options: Namespace) -> KeepingClient:
    """Return a client of the server that the options name.

    Raises:
        InvalidValue: A file cannot be read, or the key cannot be sent.
    """
    settings: Settings = options.settings
    client = KeepingClient(
        settings["target"],
        timeout_s=timeout_s(options),
        tls=_tls(settings),
        api_key=api_key_of(settings),
        allow_plaintext_key=settings["allow_plaintext_key"],
    )
    if options.request_id is not None:
        client.request_id = checked_request_id(options.request_id)
    return client


def timeout_s(options: Namespace) -> float:
    """Return the deadline of a call: what somebody says, else what suits the command."""
    asked: float | None = options.settings["timeout_s"]
    return getattr(options, "default_timeout_s", TIMEOUT_S) if asked is None else asked


def _tls(settings: Settings) -> TlsOptions | None:
    if not settings["tls"] and settings.origin("tls") != "default":
        return None
    ca, certificate, key = (
        pem_of(settings, name) for name in ("ca_file", "certificate_file", "key_file")
    )
    if not settings["tls"] and ca is None and certificate is None:
        return None
    return TlsOptions(root_certificates=ca, client_certificate=certificate, client_key=key)
