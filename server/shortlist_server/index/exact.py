"""Exact search: every allowed item compared. Ground truth, and the faster way in small catalogues
and narrow filters.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.allowed import Allowed
from shortlist_server.index.vector_index import (
    Checkpoint,
    Metric,
    Neighbors,
    best_first,
    similarity,
)

CHUNK_NUMBERS = 1 << 21
"""Components compared by one kernel call: about 0.5 ms of work for one core of the build machine,
so that a deadline is noticed in time.
"""
GATHERED_ROWS = 4_096
"""Rows copied together before they are compared: 1 MiB at 64 dimensions, which stays in the
cache.
"""
SAMPLE_ROWS = 4_096
EPSILON = float(np.finfo(np.float32).eps)


class ExactIndex:
    """Compares the query with all vectors, or with those of the allowed items alone."""

    def __init__(self, vectors: NDArray[np.float32], metric: Metric) -> None:
        """Wrap vectors; nothing is copied.

        Args:
            vectors: [items, dimension] float32, of unit length if the metric is cosine.
            metric: The bundle's metric.
        """
        self._vectors = vectors
        self._metric: Metric = metric
        self._chunk_rows = max(1, CHUNK_NUMBERS // vectors.shape[1])
        self._buffers = threading.local()
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        self._length_max = float(np.sqrt(squares.max(initial=0)))

    @property
    def size(self) -> int:
        """Number of items."""
        return len(self._vectors)

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        allowed: Allowed,
        checkpoint: Checkpoint,
        by_rows: bool = False,
    ) -> Neighbors:
        """Return the k allowed items nearest to a query, or all where they are fewer.

        Args:
            query: [dimension] float32, of unit length if the metric is cosine.
            k: 1 or more.
            allowed: Which items may come back.
            checkpoint: Called before each piece of work; what it raises ends the search.
            by_rows: Whether to gather the allowed rows and compare those, instead of comparing all
                and striking out the others: faster where few are allowed. The answer is the same.
        """
        k = min(k, allowed.count)
        if k <= 0:
            return Neighbors(np.empty(0, np.int64), np.empty(0, np.float32))
        if by_rows:
            rows = allowed.rows
            coarse = self._scores_of(rows, query, checkpoint)
            rows = rows[_at_least_kth(coarse, k, self._slack(query))]
        else:
            coarse = self._all_scores(query, checkpoint)
            _strike_out(coarse, allowed)
            rows = _at_least_kth(coarse, k, self._slack(query))
        checkpoint()
        return best_first(rows, self._similarity(rows, query, checkpoint), k)

    def _all_scores(
        self, query: NDArray[np.float32], checkpoint: Checkpoint
    ) -> NDArray[np.float32]:
        scores = np.empty(self.size, np.float32)
        for start in range(0, self.size, self._chunk_rows):
            checkpoint()
            part = self._vectors[start : start + self._chunk_rows]
            self._compare(part, query, scores[start : start + len(part)])
        return scores

    def _scores_of(
        self, rows: NDArray[np.int64], query: NDArray[np.float32], checkpoint: Checkpoint
    ) -> NDArray[np.float32]:
        scores = np.empty(len(rows), np.float32)
        buffer = self._buffer()
        for number, start in enumerate(range(0, len(rows), len(buffer))):
            if not number % 8:
                checkpoint()
            chunk = rows[start : start + len(buffer)]
            part = buffer[: len(chunk)]
            # Not self._vectors[chunk], which is slower and asks the system for new memory each
            # time. mode="clip" lets numpy write straight into `out`; rows are never outside.
            np.take(self._vectors, chunk, axis=0, out=part, mode="clip")
            self._compare(part, query, scores[start : start + len(chunk)])
        return scores

    def _compare(
        self, part: NDArray[np.float32], query: NDArray[np.float32], out: NDArray[np.float32]
    ) -> None:
        if self._metric == "l2":
            # Not |v|^2 - 2 v.q + |q|^2, which is one product but loses all digits far from the
            # origin.
            out[:] = similarity(part, query, "l2")
        else:
            np.dot(part, query, out=out)

    def _slack(self, query: NDArray[np.float32]) -> float:
        """Return how far a coarse score may be from what `similarity` gives: both round sums of
        `dimension` products, in different orders. Items that near to the cut are compared again.
        """
        if self._metric == "l2":
            return 0.0  # the same function
        length = float(np.linalg.norm(query.astype(np.float64)))
        return 2 * len(query) * EPSILON * length * self._length_max

    def _similarity(
        self, rows: NDArray[np.int64], query: NDArray[np.float32], checkpoint: Checkpoint
    ) -> NDArray[np.float32]:
        if len(rows) <= self._chunk_rows:
            return similarity(self._vectors[rows], query, self._metric)
        parts = []
        for start in range(0, len(rows), self._chunk_rows):
            checkpoint()
            chunk = rows[start : start + self._chunk_rows]
            parts.append(similarity(self._vectors[chunk], query, self._metric))
        return np.concatenate(parts)

    def _buffer(self) -> NDArray[np.float32]:
        buffer: NDArray[np.float32] | None = getattr(self._buffers, "rows", None)
        if buffer is None:
            count = min(GATHERED_ROWS, self._chunk_rows, max(1, self.size))
            buffer = np.empty((count, self._vectors.shape[1]), np.float32)
            self._buffers.rows = buffer
        return buffer


def _strike_out(scores: NDArray[np.float32], allowed: Allowed) -> None:
    if allowed.selection is None:
        scores[allowed.excluded] = -np.inf
    else:
        np.copyto(scores, -np.inf, where=~allowed.mask)


def _at_least_kth(scores: NDArray[np.float32], k: int, slack: float) -> NDArray[np.int64]:
    """Return the positions of the scores that reach the k-th largest, less a slack."""
    if k >= len(scores):
        return np.arange(len(scores))
    # In float64: in float32 the difference may round to the k-th score itself.
    bound = float(_kth_largest(scores, k)) - slack
    return np.flatnonzero(scores >= bound)


def _kth_largest(scores: NDArray[np.float32], k: int) -> np.float32:
    """Return the k-th largest score.

    Partitioning 100,000 scores takes longer than comparing them. A bound that a sample gives
    leaves few of them to partition; where it leaves too few, all are.
    """
    step = len(scores) // SAMPLE_ROWS
    if step > 1:
        sample = scores[::step]
        wanted = min(len(sample), int(1.25 * k / step) + 16)
        bound = np.partition(sample, len(sample) - wanted)[len(sample) - wanted]
        above = scores[scores >= bound]
        if len(above) >= k:
            scores = above
    largest: np.float32 = np.partition(scores, len(scores) - k)[len(scores) - k]
    return largest
