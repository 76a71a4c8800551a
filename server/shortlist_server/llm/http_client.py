"""The HTTP client that the SDKs send with: bounded. The only importer of httpx2."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from shortlist_server.errors import MissingExtra
from shortlist_server.llm.language_model import (
    LanguageModelError,
    LlmInvalidOutput,
    LlmTimeout,
    LlmUnavailable,
)

_RESPONSES: ContextVar[list[Any] | None] = ContextVar("responses", default=None)


class ResponseTooLarge(Exception):
    """A response is larger than it may be."""


def make_http_client(*, response_bytes_max: int, connections_max: int) -> Any:
    """Return an httpx2.AsyncClient without timeouts, which the caller of the SDK has.

    It follows no redirects: they would take the key elsewhere.

    Raises:
        MissingExtra: httpx2 is not installed.
    """
    try:
        import httpx2
    except ImportError as error:
        raise MissingExtra(feature="a language model", extra="llm") from error

    class Bounded(httpx2.AsyncByteStream):  # type: ignore[misc]  # of a package mypy skips
        """Counts what comes in."""

        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            received = 0
            async for part in self._stream:
                received += len(part)
                if received > response_bytes_max:
                    raise ResponseTooLarge
                yield part

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def bound(response: Any) -> None:
        response.stream = Bounded(response.stream)
        if (noted := _RESPONSES.get()) is not None:
            noted.append(response)

    return httpx2.AsyncClient(
        timeout=None,
        follow_redirects=False,
        limits=httpx2.Limits(
            max_connections=connections_max, max_keepalive_connections=connections_max
        ),
        # Compressed, a small response may be a huge one.
        headers={"accept-encoding": "identity"},
        event_hooks={"response": [bound]},
    )


@contextmanager
def noted_responses() -> Iterator[list[Any]]:
    """Note the responses that begin within, for who must close what an SDK leaves open."""
    noted: list[Any] = []
    token = _RESPONSES.set(noted)
    try:
        yield noted
    finally:
        _RESPONSES.reset(token)


def failure_of_http(identity: str, error: BaseException | None) -> LanguageModelError | None:
    """Return the error for one of httpx2, or for one that was caused by one; None for others."""
    import httpx2

    while error is not None:
        if isinstance(error, ResponseTooLarge):
            return LlmInvalidOutput(f"{identity}: its response is larger than answer_bytes_max")
        if isinstance(error, httpx2.TimeoutException):
            return LlmTimeout(f"{identity}: no answer in time")
        if isinstance(error, httpx2.HTTPError):
            return LlmUnavailable(f"{identity}: cannot be reached ({type(error).__name__})")
        error = error.__cause__ or error.__context__
    return None
