"""A provider whose SDK runs in an event loop of its own, in a thread of its own: what it computes
for one call holds up neither the deadlines of others nor the requests beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from shortlist_server.llm.language_model import Completion, Message, TokenUsage
from shortlist_server.llm.loop_thread import LoopThread
from shortlist_server.llm.provider import Provider

T = TypeVar("T")


class OwnLoopProvider:
    """Implements `Provider` by another, each of whose calls runs in a loop of its own.

    A call that is cancelled is cancelled there, and ends here when it has ended there: who is deaf
    to it is waited for, as in one loop.
    """

    def __init__(self, make: Callable[[], Provider]) -> None:
        """Start the loop, and make the provider in it.

        Args:
            make: Makes the provider. What it raises is raised.
        """
        self._thread = LoopThread("language-model")
        self._loop = self._thread.loop
        self._provider = self._thread.made(make)

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
    ) -> Completion:
        """Return an object of a schema; see `LanguageModel.complete`."""
        return await self._there(
            lambda: self._provider.complete(
                messages, schema, deadline_s=deadline_s, prompt_version=prompt_version
            )
        )

    async def stream(
        self,
        messages: Sequence[Message],
        *,
        deadline_s: float,
        on_usage: Callable[[TokenUsage], None] | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield text as it is written; see `Provider.stream`."""
        here = asyncio.get_running_loop()
        # Bounded by the size of a response.
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def told(usage: TokenUsage) -> None:
            if on_usage is not None:
                here.call_soon_threadsafe(on_usage, usage)

        async def read() -> None:
            stream = self._provider.stream(messages, deadline_s=deadline_s, on_usage=told)
            async with aclosing(stream):
                async for piece in stream:
                    here.call_soon_threadsafe(pieces.put_nowait, piece)

        reading = asyncio.ensure_future(self._there(read))
        reading.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            await reading
        finally:
            if not reading.done():
                reading.cancel()
                await asyncio.wait({reading})

    async def close(self) -> None:
        """Close the connections, and end the thread. May be called again."""
        if self._loop.is_closed():
            return
        try:
            await self._there(self._provider.close)
        finally:
            self._thread.stop()

    async def _there(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await work in the other loop, until it has ended.

        Not `run_coroutine_threadsafe`: its future ends when it is cancelled, whether or not the
        work has.
        """
        here = asyncio.get_running_loop()
        ended: asyncio.Future[asyncio.Task[T]] = here.create_future()
        begun: list[asyncio.Task[T]] = []

        def begin() -> None:
            begun.append(self._loop.create_task(work()))
            begun[0].add_done_callback(tell)

        def tell(task: asyncio.Task[T]) -> None:
            # Where the loop here has been closed, nobody waits.
            with suppress(RuntimeError):
                here.call_soon_threadsafe(ended.set_result, task)

        cancelled = False
        self._loop.call_soon_threadsafe(begin)
        while not ended.done():
            try:
                await asyncio.wait({ended})
            except asyncio.CancelledError:
                cancelled = True
                self._loop.call_soon_threadsafe(lambda: begun[0].cancel())
        task = ended.result()
        if cancelled:
            if not task.cancelled():
                task.exception()  # nobody is left to take it
            raise asyncio.CancelledError
        return task.result()
