"""Has a service embed the texts of changed items, after these are served.

What is written is acknowledged and served without it; a service that is away delays no change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from shortlist_server.catalog.changes import ChangedItems
from shortlist_server.catalog.item_texts import TOGETHER, Embed
from shortlist_server.catalog.pending_texts import PendingText
from shortlist_server.funnel.arrays import Floats
from shortlist_server.llm.language_model import LanguageModelError, LlmBreakerOpen, LlmOverloaded

logger = logging.getLogger(__name__)

RETRY_S_MIN = 0.5
RETRY_S_MAX = 30.0
"""Pause after a failure; it doubles with each, unless the service names one."""
REST_FACTOR, REST_S_MAX = 4, 0.5
"""So many times as long as making a snapshot took its thread rests, and no longer than that, so
that requests keep the core."""
FAILURES_MAX = 8
"""After so many in a row nothing more is asked where nobody waits: enough to find out by halves
which one of many texts the service does not take.
"""


class WaitingTexts(Protocol):
    """The items whose texts are to be embedded."""

    def due_texts(self, count: int) -> list[PendingText]:
        """Return texts that are to be embedded next, at most so many."""

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """Return a point for each text; waits.

        Raises:
            LanguageModelError: there is none.
        """

    def place_texts(self, texts: Sequence[PendingText], points: Floats) -> None:
        """Have items found by the points of their texts."""

    def put_last(self, texts: Sequence[PendingText], problem: str) -> None:
        """Note why texts have no points, and have them embedded after the others."""


class LateTexts:
    """Embeds texts in a thread, as long as there are any."""

    def __init__(self, items: WaitingTexts, label: str) -> None:
        """Embed nothing yet.

        Args:
            items: Their items.
            label: Of their bundle, for the log.
        """
        self._items = items
        self._label = label
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="late-texts", daemon=True)
        self._failures = 0
        self._together = TOGETHER

    def start(self) -> None:
        """Embed from now on."""
        self._thread.start()

    def nudge(self) -> None:
        """Look for texts: there may be some."""
        self._wake.set()

    def close(self) -> None:
        """Embed no more. A call that is under way is not waited for: it ends by its deadline, and
        what comes of it is not looked at.
        """
        self._closed.set()
        self._wake.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            texts = self._items.due_texts(self._together)
            if texts:
                self._closed.wait(self._embed(texts))
            else:
                self._wake.wait()
                self._wake.clear()

    def _embed(self, texts: Sequence[PendingText]) -> float:
        """Embed some texts; returns how long to rest, in seconds."""
        try:
            points = self._items.embed_texts([text.text for text in texts])
            if self._closed.is_set():
                return 0.0
            begin = time.perf_counter()
            self._items.place_texts(texts, points)
        except Exception as error:  # whatever it was, they are tried again
            return self._failed(texts, error)
        if self._failures:
            logger.info("texts of changed items are embedded again (%s bundle)", self._label)
        self._failures, self._together = 0, min(TOGETHER, 2 * self._together)
        return min(REST_FACTOR * (time.perf_counter() - begin), REST_S_MAX)

    def _failed(self, texts: Sequence[PendingText], error: Exception) -> float:
        if self._closed.is_set():
            return 0.0
        if not self._failures:
            known = isinstance(error, LanguageModelError)
            logger.warning(
                "texts of changed items cannot be embedded (%s bundle); trying again: %s",
                self._label,
                error,
                exc_info=None if known else error,
            )
        # If one of them is what the service does not take, the others must not wait for it.
        self._items.put_last(texts, str(error))
        self._together = max(1, len(texts) // 2)
        pause_s = min(RETRY_S_MIN * 2.0**self._failures, RETRY_S_MAX)
        self._failures = min(self._failures + 1, 16)
        if isinstance(error, LlmOverloaded | LlmBreakerOpen):
            pause_s = max(pause_s, error.retry_delay_s or 0.0)
        return pause_s


def embed_all(items: ChangedItems, embed: Embed) -> None:
    """Embed all texts that are to be embedded; one that cannot be is noted, and stays.

    Args:
        items: The items.
        embed: Returns a point for each text.
    """
    failures, together = 0, TOGETHER
    while untried := [text for text in items.pending if not text.problem]:
        texts = untried[:together]
        try:
            points = embed([text.text for text in texts])
        except LanguageModelError as error:
            failures += 1
            together = max(1, len(texts) // 2)
            if failures >= FAILURES_MAX:
                texts = untried
            if len(texts) == 1 or failures >= FAILURES_MAX:
                items.pending.put_last(texts, str(error))
            continue
        failures, together = 0, min(TOGETHER, 2 * together)
        items.place_texts(texts, points)
