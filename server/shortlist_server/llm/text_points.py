"""Points of texts for threads that may wait: from an embedder in this process, or from a service
whose calls are asynchronous.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from shortlist_server.errors import DeadlineExceeded
from shortlist_server.funnel.arrays import Floats
from shortlist_server.llm.language_model import LlmInvalidOutput, LlmTimeout, TextEmbedder
from shortlist_server.llm.local_embedder import LocalEmbedder

ITEMS_TIMEOUT_S = 60.0
"""Time for the texts of some changed items."""


class TextPoints:
    """Embeds texts with one embedder; remembers those that were searched for.

    Safe to call from several threads at once. A service is called in an event loop of its own,
    which starts with the first call: whoever waits for it must be a thread that may.
    """

    def __init__(self, embedder: TextEmbedder | LocalEmbedder, *, cache_count: int) -> None:
        """Take the embedder.

        Args:
            embedder: What embeds.
            cache_count: Most query texts whose points are remembered, the last used ones; 0
                remembers none. Only speed.
        """
        self._embedder = embedder
        self.identity = embedder.identity
        self.dimension = embedder.dimension
        self.waits = not isinstance(embedder, LocalEmbedder)
        """Whether a call may wait for something outside this process."""
        self._cache_count = cache_count
        self._cache: OrderedDict[str, Floats] = OrderedDict()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def of_query(self, text: str, time_left_s: float) -> Floats:
        """Return the point of a text that is searched for, float32 [dimension].

        Raises:
            DeadlineExceeded: there is none in that time.
            LanguageModelError: there is none; its class says why.
        """
        with self._lock:
            if (known := self._cache.get(text)) is not None:
                self._cache.move_to_end(text)
                return known
        try:
            point: Floats = self._embedded([text], "query", time_left_s)[0]
        except LlmTimeout as error:
            raise DeadlineExceeded("retrieval") from error
        point.flags.writeable = False
        with self._lock:
            self._cache[text] = point
            while len(self._cache) > self._cache_count:
                self._cache.popitem(last=False)
        return point

    def of_items(self, texts: Sequence[str]) -> Floats:
        """Return the points of items' texts, float32 [n, dimension].

        Raises:
            LanguageModelError: there are none; its class says why.
        """
        return self._embedded(texts, "item", ITEMS_TIMEOUT_S)

    def _embedded(
        self, texts: Sequence[str], kind: Literal["query", "item"], time_left_s: float
    ) -> Floats:
        if isinstance(self._embedder, LocalEmbedder):
            return self._embedder.embed_now(texts, kind=kind, deadline_s=time_left_s)
        asked = asyncio.run_coroutine_threadsafe(
            self._embedder.embed(texts, kind=kind, deadline_s=time_left_s), self._running_loop()
        )
        try:
            points: Floats = np.asarray(asked.result(max(0.0, time_left_s)), np.float32)
        except concurrent.futures.TimeoutError as error:
            # By its protocol it has ended by itself; whether or not it keeps to that:
            asked.cancel()
            raise LlmTimeout(f"{self.identity}: no answer in {time_left_s:.3f} s") from error
        if points.shape != (len(texts), self.dimension) or not np.isfinite(points).all():
            raise LlmInvalidOutput(
                f"{self.identity}: expected finite numbers [{len(texts)}, {self.dimension}], got "
                f"{list(points.shape)}"
            )
        lengths = np.linalg.norm(points, axis=1, keepdims=True)
        if not lengths.all():
            raise LlmInvalidOutput(f"{self.identity}: expected a direction, got zeros")
        units: Floats = points / lengths
        return units

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name="text-embedder", daemon=True
                )
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """End the thread of its event loop, if there is one; what is under way is given up."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(_end_all())
    finally:
        loop.close()


async def _end_all() -> None:
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
