"""A language model that can break, delay or cost no request more than it may."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from shortlist_server.llm.answer import schema_problem
from shortlist_server.llm.answer_cache import AnswerCache, cache_key
from shortlist_server.llm.cost import HourBudget, estimated_tokens
from shortlist_server.llm.guard import Flight, Guard, GuardOptions
from shortlist_server.llm.language_model import (
    Completion,
    LlmNotAllowed,
    Message,
    TokenUsage,
)
from shortlist_server.llm.observer import LlmObserver
from shortlist_server.llm.provider import Provider


class GuardedLanguageModel:
    """A language model around another.

    Each call has a hard deadline, outside the SDK. Calls at a time, money an hour and retries are
    bounded; a circuit breaker stops calls that would fail. The same question is asked once at a
    time, and its answer kept for a while.
    """

    def __init__(
        self,
        provider: Provider,
        options: GuardOptions,
        *,
        cache: AnswerCache,
        budget: HourBudget,
        observer: LlmObserver | None = None,
        settings: str = "",
        may_ask: Callable[[], bool] = lambda: True,
    ) -> None:
        """Guard a provider; call it inside the event loop.

        Args:
            provider: What is called. `close` closes it.
            options: How much it is trusted.
            cache: Keeps answers. `close` closes it.
            budget: What calls cost is paid from; may be shared.
            observer: Counts calls; None where nobody asks.
            settings: What answers depend on beside the model's identity, as its temperature.
            may_ask: Whether the caller of the current task may have it asked.
        """
        self._provider = provider
        self._cache = cache
        self._settings = settings
        self._may_ask = may_ask
        self._guard = Guard(provider.identity, options, budget=budget, observer=observer)

    @property
    def identity(self) -> str:
        """Provider and model."""
        return self._provider.identity

    async def complete(
        self,
        messages: Sequence[Message],
        schema: Mapping[str, Any],
        *,
        deadline_s: float,
        prompt_version: str = "",
        usable: Callable[[Mapping[str, Any]], bool] = lambda value: True,
    ) -> Completion:
        """Return an object of a schema; see `LanguageModel.complete`.

        Who joins a call that is under way gets its answer as it is: what it cost is told to each,
        and counted once.
        """
        told = [(one.role, one.text) for one in messages]
        key = cache_key(self.identity, self._settings, prompt_version, schema, told)

        async def work(flight: Flight) -> Completion:
            if (kept := await self._kept(key, schema, usable)) is not None:
                return kept
            answer, cost = await self._guard.attempt(
                flight,
                lambda: self._provider.complete(
                    messages,
                    schema,
                    # Who waits leaves by the clock of their own; none can say yet who joins later.
                    deadline_s=self._guard.timeout_s,
                    prompt_version=prompt_version,
                ),
                usage_of=lambda answer: answer.usage,
                input_tokens=estimated_tokens(text for _, text in told),
            )
            if usable(answer.value):
                value = json.dumps(dict(answer.value)).encode()
                self._guard.later(self._cache.put({key: value}))
            return replace(answer, cost=cost)

        with self._guard.counted() as counted:
            self._check_allowed()
            answer = await self._guard.together(key, work, deadline_s=deadline_s)
            counted.outcome = "CACHED" if answer.cached else "OK"
        return answer

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        deadline_s: float,
        on_cost: Callable[[TokenUsage, float], None] = lambda usage, cost: None,
    ) -> AsyncGenerator[str, None]:
        """Yield text as it is written; see `LanguageModel.stream`.

        Text is neither kept nor shared, and is asked for again only before its first piece.
        """
        # Bounded by the size of a response.
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        told = estimated_tokens(one.text for one in messages)
        begun = False
        asked: Flight | None = None

        async def write() -> TokenUsage:
            nonlocal begun
            used = TokenUsage(input_tokens=told)

            def note(usage: TokenUsage) -> None:
                nonlocal used
                used = usage

            stream = self._provider.stream(
                messages, deadline_s=self._guard.timeout_s, on_usage=note
            )
            async with aclosing(stream):
                async for piece in stream:
                    begun = True
                    pieces.put_nowait(piece)
            return used

        async def work(flight: Flight) -> None:
            nonlocal asked
            asked = flight
            try:
                await self._guard.attempt(
                    flight,
                    write,
                    usage_of=lambda used: used,
                    input_tokens=told,
                    may_retry=lambda: not begun,
                )
            finally:
                pieces.put_nowait(None)

        with self._guard.counted() as counted:
            self._check_allowed()
            try:
                read = self._guard.alone(work, pieces, deadline_s=deadline_s)
                async with aclosing(read):
                    async for piece in read:
                        yield piece
            finally:
                on_cost(*(self._guard.spent(asked) if asked else (TokenUsage(), 0.0)))
            counted.outcome = "OK"

    async def close(self) -> None:
        """Cancel what is under way, and close the connections."""
        await self._guard.close()
        await self._provider.close()
        await self._cache.close()

    def _check_allowed(self) -> None:
        # Also where an answer is kept: what a key may get does not depend on what others asked.
        if not self._may_ask():
            raise LlmNotAllowed(f"{self.identity}: the API key lacks the scope `rerank`")

    async def _kept(
        self, key: bytes, schema: Mapping[str, Any], usable: Callable[[Mapping[str, Any]], bool]
    ) -> Completion | None:
        (kept,) = await self._cache.get([key])
        value: Any = None
        if kept is not None:
            try:
                value = json.loads(kept)
            except ValueError:
                value = None
        # A shared cache may hold what others wrote.
        hit = isinstance(value, dict) and schema_problem(value, schema) is None and usable(value)
        self._guard.observer.llm_looked_up(self.identity, int(hit), int(not hit))
        return Completion(value=value, usage=TokenUsage(), cached=True) if hit else None
