"""The recall monitor: some live searches are answered again by exact search, off their path.

A graph that finds fewer of the true neighbours than it did, after new vectors or under new filters,
shows here before it shows in the business.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, Full, Queue

import numpy as np

from shortlist_server.funnel.allowed import Allowed
from shortlist_server.funnel.arrays import Floats
from shortlist_server.index.layers import ItemSearch
from shortlist_server.index.vector_index import Neighbors

logger = logging.getLogger(__name__)

BOUNDS = (0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 1.0)
"""Where buckets begin and end, as shares of the catalogue that are allowed; the last one holds
searches without filter or exclusion.
"""
WAITING_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallBucket:
    """Recall of the searches that left a similar share of the catalogue."""

    selectivity_min: float
    selectivity_max: float
    query_count: int
    recall: float | None
    """Share of the true neighbours that were found; None where nothing was checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallSnapshot:
    """What the monitor knows."""

    buckets: tuple[RecallBucket, ...]
    dropped_count: int
    """Searches that were to be checked and were not, since others waited already."""


@dataclass(frozen=True, slots=True)
class _Sample:
    searcher: ItemSearch
    query: Floats
    k: int
    allowed: Allowed
    found: Neighbors


class RecallMonitor:
    """Checks searches one after the other, in a thread that takes a small share of one core."""

    def __init__(self, *, cpu_share: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Begin with nothing checked. The thread starts with the first search: what has threads
        cannot be forked.

        Args:
            cpu_share: Most of one core that checking may take, over time: more than 0, at most 1.
            sleep: Lets time pass; takes seconds.
        """
        self._cpu_share = cpu_share
        self._sleep = sleep
        self._queue: Queue[_Sample] = Queue(WAITING_MAX)
        self._counts = np.zeros((len(BOUNDS) - 1, 3), np.int64)
        """Of each bucket the searches, the true neighbours, and those of them that were found."""
        self._dropped = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(
        self, searcher: ItemSearch, query: Floats, k: int, allowed: Allowed, found: Neighbors
    ) -> None:
        """Take a search to be checked; never waits."""
        if self._thread is None:
            self._start()
        try:
            self._queue.put_nowait(_Sample(searcher, query, k, allowed, found))
        except Full:
            with self._lock:
                self._dropped += 1

    def snapshot(self) -> RecallSnapshot:
        """Return what was measured so far."""
        with self._lock:
            counts, dropped = self._counts.tolist(), self._dropped
        return RecallSnapshot(
            buckets=tuple(
                RecallBucket(
                    selectivity_min=low,
                    selectivity_max=high,
                    query_count=queries,
                    recall=hits / wanted if wanted else None,
                )
                for low, high, (queries, wanted, hits) in zip(
                    BOUNDS, BOUNDS[1:], counts, strict=False
                )
            ),
            dropped_count=dropped,
        )

    def settle(self) -> None:
        """Wait until all that was taken has been checked."""
        self._queue.join()

    def close(self) -> None:
        """Stop checking."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="recall", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while not self._closed.is_set():
            try:
                sample = self._queue.get(timeout=0.1)
            except Empty:
                continue
            begin = time.thread_time()
            try:
                self._check(sample)
            except Exception:
                logger.exception("the recall monitor could not check a search")
            finally:
                self._queue.task_done()
            # What was worked is rested for, so that requests keep the core.
            self._sleep((time.thread_time() - begin) * (1 / self._cpu_share - 1))

    def _check(self, sample: _Sample) -> None:
        truth, _ = sample.searcher.search(
            sample.query, sample.k, allowed=sample.allowed, checkpoint=self._pause, exact=True
        )
        hits = np.intersect1d(truth.rows, sample.found.rows, assume_unique=True)
        share = sample.allowed.count / sample.allowed.size
        bucket = len(BOUNDS) - 2
        if share < 1:
            bucket = int(np.searchsorted(BOUNDS[1:-1], share, side="right"))
        with self._lock:
            self._counts[bucket] += (1, len(truth.rows), len(hits))

    def _pause(self) -> None:
        """Let others run between the pieces of a scan."""
        self._sleep(0)
