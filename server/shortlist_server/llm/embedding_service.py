"""A text embedder outside this process, for threads that may wait for it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from shortlist_server.bundle.sections import ServiceEmbedder
from shortlist_server.funnel.arrays import Floats
from shortlist_server.llm.language_model import LlmInvalidOutput, LlmTimeout, LlmUnavailable
from shortlist_server.llm.loop_thread import LoopThread
from shortlist_server.llm.observer import LlmObserver
from shortlist_server.llm.provider import EmbeddingProvider

GRACE_S = 1.0
"""An embedder ends by its deadline; one that does not is given up so much later. Not at the
deadline: whoever leaves first there would keep the circuit breaker from learning of it.
"""
MakeEmbedder = Callable[[LlmObserver | None], EmbeddingProvider]
"""Makes the embedder; called in the event loop that it is for."""


class EmbeddingService:
    """Asks one text embedder, in an event loop of its own.

    Safe to call from several threads at once. The loop's thread starts with `start` or the first
    call: before that a process may fork.
    """

    waits = True

    def __init__(
        self, make: MakeEmbedder, *, identity: str, dimension: int, space: ServiceEmbedder | None
    ) -> None:
        """Ask nothing yet.

        Args:
            make: Makes the embedder.
            identity: Its identity.
            dimension: Number of components of its points.
            space: What its points depend on, as a manifest says it; None where nobody knows.
        """
        self._make = make
        self.identity = identity
        self.dimension = dimension
        self.space = space
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._embedder: EmbeddingProvider | None = None
        self._closed = False

    def start(self, observer: LlmObserver | None = None) -> None:
        """Make the embedder; of no effect where it is made.

        Args:
            observer: Counts its calls; None where nobody asks.

        Raises:
            ConfigError: a key cannot be read, or the address of a cache is none.
            MissingExtra: what the provider or the cache needs is not installed.
            LlmUnavailable: it is closed.
        """
        self._started(observer)

    def embed_now(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> Floats:
        """Return a point at unit length for each text, float32 [n, dimension]; waits for it.

        Args:
            texts: The texts; what is longer than is configured is cut.
            kind: What they are.
            deadline_s: Time from now until the answer is no use any more, in seconds.

        Raises:
            LanguageModelError: there is none; its class says why.
        """
        loop, embedder = self._started(None)
        asked = asyncio.run_coroutine_threadsafe(
            embedder.embed(texts, kind=kind, deadline_s=deadline_s), loop
        )
        try:
            found: Floats = np.asarray(asked.result(max(0.0, deadline_s) + GRACE_S), np.float32)
        except concurrent.futures.TimeoutError as error:
            asked.cancel()
            raise LlmTimeout(f"{self.identity}: no answer in {deadline_s:.3f} s") from error
        except concurrent.futures.CancelledError as error:
            raise self._is_closed() from error
        return self._units(found, len(texts))

    def close(self) -> None:
        """End the event loop, if there is one; what is under way is given up, and raises."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def _units(self, points: Floats, count: int) -> Floats:
        if points.shape != (count, self.dimension) or not np.isfinite(points).all():
            raise LlmInvalidOutput(
                f"{self.identity}: expected finite numbers [{count}, {self.dimension}], got "
                f"{list(points.shape)}"
            )
        lengths = np.linalg.norm(points, axis=1, keepdims=True)
        if not lengths.all():
            raise LlmInvalidOutput(f"{self.identity}: expected a direction, got zeros")
        units: Floats = points / lengths
        return units

    def _started(
        self, observer: LlmObserver | None
    ) -> tuple[asyncio.AbstractEventLoop, EmbeddingProvider]:
        with self._lock:
            if self._closed:
                raise self._is_closed()
            if self._thread is None or self._embedder is None:
                thread = LoopThread("text-embedder", at_end=self._end_all)
                self._embedder = thread.made(lambda: self._make(observer))
                self._thread = thread
            return self._thread.loop, self._embedder

    async def _end_all(self) -> None:
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._embedder is not None:
            await self._embedder.close()

    def _is_closed(self) -> LlmUnavailable:
        return LlmUnavailable(f"{self.identity}: the server is stopping")
