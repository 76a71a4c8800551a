"""Calls between two processes over a socket pair: one JSON object a line, either side may ask."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self, TypeAlias

from shortlist_server import errors
from shortlist_server.errors import ShortlistError

logger = logging.getLogger(__name__)

LINE_BYTES_MAX = 64 << 20
"""Longest message; the largest ones are the metrics of a worker, some 100 KB."""

Methods: TypeAlias = "Mapping[str, Callable[..., Awaitable[Any]]]"
"""What the other side may call: by name, with keyword arguments, what JSON can carry."""

_FIELDS: Mapping[type[ShortlistError], tuple[str, ...]] = {
    errors.InvalidValue: ("field", "expected", "got"),
    errors.FieldRequired: ("field", "expected", "got"),
    errors.NotConfigured: ("setting", "expected"),
    errors.SwitchUnderWay: (),
}
"""Errors that are made of more than a message, and of what."""


class LinkClosed(Exception):
    """The other process has ended."""


class Link:
    """One end of a socket pair."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, methods: Methods
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._methods = methods
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._answering: set[asyncio.Task[None]] = set()
        self._closed = False

    @classmethod
    async def over(cls, end: socket.socket, methods: Methods) -> Self:
        """Return a link over one end of a socket pair, which it owns from now on."""
        end.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=end, limit=LINE_BYTES_MAX)
        return cls(reader, writer, methods)

    @property
    def is_answering(self) -> bool:
        """Whether the other side waits for an answer."""
        return bool(self._answering)

    async def call(self, method: str, **arguments: Any) -> Any:
        """Ask the other side, and return its answer.

        Raises:
            LinkClosed: the other process has ended, or ends before it answers.
            ShortlistError: what the method raised there.
        """
        if self._closed:
            raise LinkClosed
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send({"call": number, "method": method, "arguments": arguments})
            return await answer
        finally:
            self._waiting.pop(number, None)

    async def run(self) -> None:
        """Take messages until the other process ends or the link is closed."""
        try:
            while line := await self._reader.readline():
                self._take(json.loads(line))
        except (ConnectionError, ValueError) as error:
            logger.debug("a link ends: %r", error)
        finally:
            self.close()

    def close(self) -> None:
        """End the link; who waits for an answer gets LinkClosed."""
        self._closed = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(LinkClosed())
        self._writer.close()

    def _send(self, message: Mapping[str, Any]) -> None:
        if not self._closed:
            self._writer.write(json.dumps(message).encode() + b"\n")

    def _take(self, message: dict[str, Any]) -> None:
        if "call" in message:
            task = asyncio.get_running_loop().create_task(self._answer(message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        answer = self._waiting.get(message["answer"])
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(_decoded(message["error"]))
        else:
            answer.set_result(message["result"])

    async def _answer(self, message: dict[str, Any]) -> None:
        number = message["call"]
        try:
            result = await self._methods[message["method"]](**message["arguments"])
            self._send({"answer": number, "result": result})
        except ShortlistError as error:
            self._send({"answer": number, "error": encoded(error)})
        except LinkClosed:
            text = "the process that should have answered has ended"
            self._send({"answer": number, "error": {"name": "", "message": text}})
        except Exception as error:
            logger.exception("%s failed", message["method"])
            self._send({"answer": number, "error": {"name": "", "message": repr(error)}})


def encoded(error: ShortlistError) -> dict[str, Any]:
    """Return an error as JSON can carry it."""
    fields = {name: getattr(error, name) for name in _FIELDS.get(type(error), ())}
    return {"name": type(error).__name__, "message": str(error), "fields": fields}


def decoded(error: Mapping[str, Any]) -> ShortlistError | None:
    """Return the error that `encoded` made this of; None where it was none of Shortlist's."""
    kind = getattr(errors, error["name"], None)
    if not inspect.isclass(kind) or not issubclass(kind, ShortlistError):
        return None
    if kind in _FIELDS:
        fields = dict(error["fields"])
        return kind(*[fields.pop("field")] if "field" in fields else [], **fields)
    return kind(error["message"])


def _decoded(error: Mapping[str, Any]) -> Exception:
    return decoded(error) or RuntimeError(error["message"])
