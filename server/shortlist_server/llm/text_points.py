"""Points of texts: from an embedder in this process, or from a service that is waited for."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal, Protocol

from shortlist_server.errors import DeadlineExceeded, TextEmbedderUnavailable
from shortlist_server.funnel.arrays import Floats
from shortlist_server.llm.language_model import (
    LanguageModelError,
    LlmBreakerOpen,
    LlmOverloaded,
    LlmTimeout,
)

logger = logging.getLogger(__name__)

ITEMS_TIMEOUT_S = 60.0
"""Time for the texts of some changed items."""
OVER_S = 0.01
"""With less than this left, a call that has failed was out of time."""
RETRY_MS = 1_000
"""When it is worth coming back, where the service does not say."""


class Embedder(Protocol):
    """What embeds texts in the thread that asks."""

    @property
    def identity(self) -> str:
        """Points of another identity are of another space."""

    @property
    def dimension(self) -> int:
        """Number of components."""

    @property
    def waits(self) -> bool:
        """Whether a call may wait for something outside this process."""

    def embed_now(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> Floats:
        """Return a point at unit length for each text; see `language_model.TextEmbedder`."""


class TextPoints:
    """Embeds texts with one embedder; remembers those that were searched for.

    Safe to call from several threads at once.
    """

    def __init__(self, embedder: Embedder, *, cache_count: int) -> None:
        """Take the embedder.

        Args:
            embedder: What embeds.
            cache_count: Most query texts whose points are remembered, the last used ones; 0
                remembers none. Only speed.
        """
        self._embedder = embedder
        self.identity = embedder.identity
        self.dimension = embedder.dimension
        self.waits = embedder.waits
        """Whether a call may wait for something outside this process."""
        self._cache_count = cache_count
        self._cache: OrderedDict[str, Floats] = OrderedDict()
        self._lock = threading.Lock()
        self._told = ""

    def of_query(self, text: str, time_left_s: float) -> Floats:
        """Return the point of a text that is searched for, float32 [dimension].

        Raises:
            DeadlineExceeded: there is none in that time.
            TextEmbedderUnavailable: there is none, and there was time.
        """
        with self._lock:
            if (known := self._cache.get(text)) is not None:
                self._cache.move_to_end(text)
                return known
        point = self._of_new_query(text, time_left_s)
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
        return self._embedder.embed_now(texts, kind="item", deadline_s=ITEMS_TIMEOUT_S)

    def _of_new_query(self, text: str, time_left_s: float) -> Floats:
        end = time.monotonic() + time_left_s
        try:
            points = self._embedder.embed_now([text], kind="query", deadline_s=time_left_s)
        except LanguageModelError as error:
            late = end - time.monotonic() < OVER_S if self.waits else isinstance(error, LlmTimeout)
            if late:
                raise DeadlineExceeded("retrieval") from error
            if not self.waits:
                raise
            self._tell(error)
            raise _unavailable(error) from error
        self._told = ""
        point: Floats = points[0]
        return point

    def _tell(self, error: LanguageModelError) -> None:
        # Once for each kind of failure in a row: there may be thousands.
        if self._told != error.reason:
            logger.warning("texts that are searched for cannot be embedded: %s", error)
        self._told = error.reason


def _unavailable(error: LanguageModelError) -> TextEmbedderUnavailable:
    delay_s = None
    if isinstance(error, LlmOverloaded | LlmBreakerOpen):
        delay_s = error.retry_delay_s
    return TextEmbedderUnavailable(
        problem=error.reason,
        retry_delay_ms=RETRY_MS if delay_s is None else math.ceil(delay_s * 1e3),
    )
