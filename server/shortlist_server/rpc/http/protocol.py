"""Connections over HTTP, with bounds on the headers that uvicorn has none for.

https://github.com/Kludex/uvicorn/issues/157
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_S_MAX = 10.0
"""How long the headers of a request may take to come, from their first byte on."""
HEADERS_BYTES_MAX = 64 << 10
"""Most bytes of headers that may have come when they are not yet complete."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's, which gives up a caller whose headers come too slowly, or without an end."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take what uvicorn's does."""
        super().__init__(*arguments, **options)
        self._headers_end: asyncio.TimerHandle | None = None
        self._headers_bytes = 0
        self._in_body = False
        """Whether what comes is a body, which may go on when its request has been refused."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; who never sends a byte is given up like one who is silent between two calls."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """Take bytes, whose first ones outside of a request begin the next one's headers."""
        answered = self.cycle is None or self.cycle.response_complete
        if self._headers_end is None and answered and not self._in_body:
            self._headers_end = self.loop.call_later(HEADERS_S_MAX, self._refuse, _TOO_SLOW)
        self._headers_bytes += len(data)
        super().data_received(data)
        if self._headers_end is not None and self._headers_bytes > HEADERS_BYTES_MAX:
            self._refuse(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Take the headers."""
        self._settle()
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        self._in_body = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._settle()
        super().connection_lost(exc)

    def _settle(self) -> None:
        """Wait for headers no longer."""
        if self._headers_end is not None:
            self._headers_end.cancel()
        self._headers_end, self._headers_bytes = None, 0

    def _refuse(self, answer: bytes) -> None:
        self._settle()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def _answer(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode()


_TOO_SLOW = _answer("408 Request Timeout")
_TOO_LARGE = _answer("431 Request Header Fields Too Large")
