"""Exact search: every item compared. Ground truth, and the faster way in small catalogues."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shortlist_server.index.vector_index import Metric, Neighbors, best_first, similarity

CHUNK_ROWS = 16_384
"""Rows compared at once, so that what lies between fits into the cache."""


class ExactIndex:
    """Compares the query with all vectors."""

    def __init__(self, vectors: NDArray[np.float32], metric: Metric) -> None:
        """Wrap vectors; nothing is copied.

        Args:
            vectors: [items, dimension] float32, of unit length if the metric is cosine.
            metric: The bundle's metric.
        """
        self._vectors = vectors
        self._metric = metric

    @property
    def size(self) -> int:
        """Number of items."""
        return len(self._vectors)

    def search(
        self, query: NDArray[np.float32], k: int, *, ef: int = 0, excluded: NDArray[np.int64]
    ) -> Neighbors:
        """Return the k items nearest to a query; see `VectorIndex.search`."""
        coarse = self._all_scores(query)
        if len(excluded):
            coarse[excluded] = -np.inf
        rows = _largest(coarse, min(k, self.size - len(excluded)))
        return best_first(rows, similarity(self._vectors[rows], query, self._metric), k)

    def _all_scores(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._metric != "l2":
            scores: NDArray[np.float32] = self._vectors @ query
            return scores
        # Not |v|^2 - 2 v.q + |q|^2, which is one product but loses all digits far from the origin.
        return np.concatenate(
            [
                similarity(self._vectors[start : start + CHUNK_ROWS], query, "l2")
                for start in range(0, self.size, CHUNK_ROWS)
            ]
        )


def _largest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the rows of the k largest scores, in any order; at the k-th, equal scores go to the
    lower rows.
    """
    if k <= 0:
        return np.empty(0, np.int64)
    if k >= len(scores):
        return np.arange(len(scores))
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = np.flatnonzero(scores > threshold)
    level = np.flatnonzero(scores == threshold)[: k - len(above)]
    return np.concatenate([above, level])
