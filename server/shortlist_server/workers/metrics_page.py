"""`GET /metrics` over HTTP, for the process that has no prometheus_client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Self

from shortlist_server.errors import ConfigError

logger = logging.getLogger(__name__)

HEAD_BYTES_MAX = 16 << 10
PATIENCE_S = 10.0
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsPage:
    """Answers with a text that is made anew each time."""

    def __init__(self, text: Callable[[], Awaitable[str]]) -> None:
        self._text = text
        self._server: asyncio.Server | None = None

    @classmethod
    async def listen(cls, address: str, text: Callable[[], Awaitable[str]]) -> Self:
        """Listen at HOST:PORT.

        Raises:
            ConfigError: the address cannot be bound.
        """
        page = cls(text)
        host, _, port = address.rpartition(":")
        try:
            page._server = await asyncio.start_server(
                page._answer, host.strip("[]"), int(port), limit=HEAD_BYTES_MAX
            )
        except OSError as error:
            raise ConfigError(f"metrics_listen: cannot bind {address}: {error}") from error
        logger.info("metrics on port %d", page._server.sockets[0].getsockname()[1])
        return page

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever sends no request, or more than one needs, is hung up on.
        with contextlib.suppress(
            TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, _, rest = head.partition(b" ")
                path = rest.partition(b" ")[0].partition(b"?")[0]
                if method not in (b"GET", b"HEAD"):
                    status, body = "405 Method Not Allowed", b""
                elif path not in (b"/metrics", b"/"):
                    status, body = "404 Not Found", b""
                else:
                    status, body = "200 OK", (await self._text()).encode()
                lines = (
                    f"HTTP/1.1 {status}",
                    f"Content-Type: {CONTENT_TYPE}",
                    f"Content-Length: {len(body)}",
                    "Connection: close",
                )
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
                if method == b"GET":
                    writer.write(body)
                await writer.drain()
        writer.close()
