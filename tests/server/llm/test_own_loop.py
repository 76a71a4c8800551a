"""A provider in a loop of its own is what it is in the caller's, and leaves that loop alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest
from shortlist_server.errors import MissingExtra
from shortlist_server.llm.language_model import (
    Completion,
    LlmUnavailable,
    Message,
    TokenUsage,
)
from shortlist_server.llm.own_loop import OwnLoopProvider

PROMPT = [Message(role="user", text="")]
USAGE = TokenUsage(input_tokens=3, output_tokens=2)


class Provider:
    """Remembers which threads it ran in, and waits until it is let go."""

    identity = "fake/one"

    def __init__(self) -> None:
        self.threads = {threading.current_thread().name}
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.cancelled = threading.Event()
        self.deaf = False
        self.error: Exception | None = None

    async def complete(self, *_: Any, **__: Any) -> Completion:
        self.threads.add(threading.current_thread().name)
        self.begun.set()
        while not self.let_go.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                self.cancelled.set()
                if not self.deaf:
                    raise
        if self.error is not None:
            raise self.error
        return Completion(value={"told": True}, usage=USAGE)

    async def stream(
        self,
        *_: Any,
        on_usage: Callable[[TokenUsage], None] | None = None,
        **__: Any,
    ) -> AsyncGenerator[str, None]:
        yield "a"
        try:
            await self.complete()
        finally:
            assert on_usage is not None
            on_usage(USAGE)
        yield "b"

    async def close(self) -> None:
        self.threads.add(threading.current_thread().name)


@pytest.fixture
async def made() -> AsyncIterator[tuple[OwnLoopProvider, Provider]]:
    own = OwnLoopProvider(Provider)
    inner: Any = own._provider
    yield own, inner
    await own.close()
    assert inner.threads == {"language-model"}
    assert "language-model" not in {one.name for one in threading.enumerate()}


Made = tuple[OwnLoopProvider, Provider]


async def test_answers_and_errors_come_back(made: Made) -> None:
    own, inner = made
    assert own.identity == "fake/one"
    inner.let_go.set()
    answer = await own.complete(PROMPT, {}, deadline_s=10)
    assert (answer.value, answer.usage) == ({"told": True}, USAGE)
    inner.error = LlmUnavailable("gone")
    with pytest.raises(LlmUnavailable, match="gone"):
        await own.complete(PROMPT, {}, deadline_s=10)


async def test_the_callers_loop_goes_on_while_the_provider_computes(made: Made) -> None:
    own, inner = made

    async def computing(*_: Any, **__: Any) -> Completion:
        inner.begun.set()
        # Holds up its own loop, and no other.
        assert inner.let_go.wait(20)
        return Completion(value={}, usage=USAGE)

    inner.complete = computing  # type: ignore[method-assign]
    call = asyncio.ensure_future(own.complete(PROMPT, {}, deadline_s=10))
    assert await asyncio.to_thread(inner.begun.wait, 20)
    await asyncio.sleep(0)
    assert not call.done()
    inner.let_go.set()
    assert (await call).value == {}


async def test_a_call_that_is_cancelled_is_cancelled_there_and_ends_when_it_has_ended(
    made: Made,
) -> None:
    own, inner = made
    inner.deaf = True
    call = asyncio.ensure_future(own.complete(PROMPT, {}, deadline_s=10))
    assert await asyncio.to_thread(inner.begun.wait, 20)
    call.cancel()
    assert await asyncio.to_thread(inner.cancelled.wait, 20)
    assert not call.done()
    inner.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    inner.deaf = False
    inner.let_go.clear()
    inner.begun.clear()
    call = asyncio.ensure_future(own.complete(PROMPT, {}, deadline_s=10))
    assert await asyncio.to_thread(inner.begun.wait, 20)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_call_that_is_cancelled_at_once_is_never_made_or_cancelled(made: Made) -> None:
    own, _ = made
    call = asyncio.ensure_future(own.complete(PROMPT, {}, deadline_s=10))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_stream_comes_piece_by_piece_and_says_what_it_cost_before_its_end(
    made: Made,
) -> None:
    own, inner = made
    told: list[TokenUsage] = []
    stream = own.stream(PROMPT, deadline_s=10, on_usage=told.append)
    assert await anext(stream) == "a"
    assert not told
    inner.let_go.set()
    assert [piece async for piece in stream] == ["b"]
    assert told == [USAGE]


@pytest.mark.parametrize("end", ["closed", "failed"])
async def test_a_stream_that_is_not_read_to_its_end_ends_there(made: Made, end: str) -> None:
    own, inner = made
    told: list[TokenUsage] = []
    stream = own.stream(PROMPT, deadline_s=10, on_usage=told.append)
    assert await anext(stream) == "a"
    if end == "closed":
        await stream.aclose()
        assert inner.cancelled.is_set()
    else:
        inner.error = LlmUnavailable("gone")
        inner.let_go.set()
        with pytest.raises(LlmUnavailable):
            await anext(stream)
    assert told == [USAGE]


async def test_a_provider_that_cannot_be_made_leaves_no_thread() -> None:
    def make() -> Any:
        raise MissingExtra(feature="it", extra="llm")

    with pytest.raises(MissingExtra):
        OwnLoopProvider(make)
    assert "language-model" not in {one.name for one in threading.enumerate()}
