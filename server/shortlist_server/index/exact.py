"""Exact search: every allowed item compared. Ground truth, and the faster way in small catalogues
and narrow filters.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.allowed import Allowed
from shortlist_server.funnel.arrays import Mask
from shortlist_server.index.coarse import CHUNK_NUMBERS, CoarseScan, Float32Scan
from shortlist_server.index.vector_index import (
    Checkpoint,
    Metric,
    Neighbors,
    best_first,
    similarity,
)

GATHERED_ROWS = 4_096
"""Rows copied together before they are compared: 1 MiB at 64 dimensions, which stays in the
cache.
"""
SAMPLE_ROWS = 1_024


class ExactIndex:
    """Compares the query with all vectors, or with those of the allowed items alone."""

    def __init__(
        self, vectors: NDArray[np.float32], metric: Metric, coarse: CoarseScan | None = None
    ) -> None:
        """Wrap vectors; nothing is copied.

        Args:
            vectors: [items, dimension] float32, of unit length if the metric is cosine.
            metric: The bundle's metric.
            coarse: Tells which items to compare exactly; None for float32. Only speed.
        """
        self._vectors = vectors
        self._metric: Metric = metric
        self._float32 = Float32Scan(vectors, metric)
        self._coarse = self._float32 if coarse is None else coarse
        self._chunk_rows = max(1, CHUNK_NUMBERS // vectors.shape[1])
        self._buffers = threading.local()

    @property
    def vectors(self) -> NDArray[np.float32]:
        """What is compared, [items, dimension]."""
        return self._vectors

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
        if k == allowed.count:
            rows = allowed.rows
        elif by_rows:
            rows = allowed.rows
            coarse = self._scores_of(rows, query, checkpoint)
            rows = rows[_reaching_kth(coarse, k, self._float32.error(query))]
        else:
            coarse, error = self._coarse.scores(query, checkpoint)
            if allowed.held is None:
                coarse[allowed.excluded] = -np.inf
                rows = _reaching_kth(coarse, k, error)
            else:
                rows = _reaching_kth(coarse, k, error, allowed.mask)
        checkpoint()
        return best_first(rows, self._similarity(rows, query, checkpoint), k)

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
            self._float32.compare(part, query, scores[start : start + len(chunk)])
        return scores

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


def _reaching_kth(
    scores: NDArray[np.float32], k: int, error: float, mask: Mask | None = None
) -> NDArray[np.int64]:
    """Return the positions that may be among the k largest, where each score may be off by an
    error; more than k are left.

    Partitioning 100,000 scores takes longer than comparing them. A bound that a sample gives
    leaves few of them to partition; where it leaves too few, all are.

    Args:
        scores: float32 [n].
        k: At most the number of positions in question.
        error: How far off a score may be, 0 or more.
        mask: The positions in question, bool [n]; None for all.
    """
    # In float64: in float32 the difference may round to the k-th score itself.
    slack = 2.0 * error
    step = max(1, len(scores) // SAMPLE_ROWS)
    sample = scores[::step] if mask is None else scores[::step][mask[::step]]
    wanted = int(1.25 * k / step) + 16
    if step > 1 and wanted < len(sample):
        bound = np.partition(sample, len(sample) - wanted)[len(sample) - wanted]
        near = _at_least(scores, float(bound) - slack, mask)
        found = scores[near]
        if np.count_nonzero(found >= bound) >= k:
            return near[found >= float(_kth_largest(found, k)) - slack]
    near = np.arange(len(scores)) if mask is None else np.flatnonzero(mask)
    found = scores[near]
    return near[found >= float(_kth_largest(found, k)) - slack]


def _at_least(scores: NDArray[np.float32], bound: float, mask: Mask | None) -> NDArray[np.int64]:
    reach = scores >= bound
    if mask is not None:
        reach &= mask
    return np.flatnonzero(reach)


def _kth_largest(scores: NDArray[np.float32], k: int) -> np.float32:
    largest: np.float32 = np.partition(scores, len(scores) - k)[len(scores) - k]
    return largest
