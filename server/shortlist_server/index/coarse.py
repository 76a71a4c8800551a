"""Coarse scores of all items, with a bound on how far off they are.

An exact search needs no more: the items whose coarse score is within twice that bound of the k-th
are compared again, and the others cannot be among the nearest k.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shortlist_server.index.vector_index import Checkpoint, Metric, similarity

CHUNK_NUMBERS = 1 << 21
"""Components compared by one kernel call: about 0.5 ms of work for one core of the build machine,
so that a deadline is noticed in time.
"""
EPSILON = float(np.finfo(np.float32).eps)
TINY = float(np.finfo(np.float32).smallest_normal)
"""Below it float32 rounds by a fixed step, not by a share of the number, or to 0."""


class CoarseScan(Protocol):
    """Compares a query with all items, nearly."""

    def scores(
        self, query: NDArray[np.float32], checkpoint: Checkpoint
    ) -> tuple[NDArray[np.float32], float]:
        """Return scores, higher is better, and the most that one may be off.

        Args:
            query: [dimension] float32, of unit length if the metric is cosine.
            checkpoint: Called before each piece of work; what it raises ends the scan.

        Returns:
            Writable float32 [items]: what `similarity` gives, but for a factor and a constant that
            are the same for all items, and an error; and the largest size of that error.
        """


class Float32Scan:
    """Compares in float32: nothing is off but the rounding."""

    def __init__(self, vectors: NDArray[np.float32], metric: Metric) -> None:
        """Wrap vectors; nothing is copied.

        Args:
            vectors: [items, dimension] float32, of unit length if the metric is cosine.
            metric: The bundle's metric.
        """
        self._vectors = vectors
        self._metric: Metric = metric
        self._chunk_rows = max(1, CHUNK_NUMBERS // vectors.shape[1])
        self._length_max = length_max(vectors)

    def scores(
        self, query: NDArray[np.float32], checkpoint: Checkpoint
    ) -> tuple[NDArray[np.float32], float]:
        """Compare all; see `CoarseScan`."""
        scores = np.empty(len(self._vectors), np.float32)
        for start in range(0, len(scores), self._chunk_rows):
            checkpoint()
            part = self._vectors[start : start + self._chunk_rows]
            self.compare(part, query, scores[start : start + len(part)])
        return scores, self.error(query)

    def compare(
        self, part: NDArray[np.float32], query: NDArray[np.float32], out: NDArray[np.float32]
    ) -> None:
        """Write the scores of some of the vectors, copied together, into `out`."""
        if self._metric == "l2":
            # Not |v|^2 - 2 v.q + |q|^2, which is one product but loses all digits far from the
            # origin.
            out[:] = similarity(part, query, "l2")
        else:
            np.dot(part, query, out=out)

    def error(self, query: NDArray[np.float32]) -> float:
        """Return how far a score may be from what `similarity` gives: both round sums of
        `dimension` products, in different orders.
        """
        if self._metric == "l2":
            return 0.0  # the same function
        return len(query) * (EPSILON * length(query) * self._length_max + TINY)


def length(vector: NDArray[np.float32]) -> float:
    """Return the Euclidean length of a vector, computed in float64."""
    return float(np.linalg.norm(vector.astype(np.float64)))


def length_max(vectors: NDArray[np.float32]) -> float:
    """Return the Euclidean length of the longest of some vectors, [n, dimension]."""
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return float(np.sqrt(squares.max(initial=0)))
