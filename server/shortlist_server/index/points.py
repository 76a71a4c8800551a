"""Points whose Euclidean order is that of a bundle's similarity: what graphs are built over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shortlist_server.index.vector_index import Metric


def points(vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Return the points to index, such that the nearest in Euclidean distance are the most similar.

    For l2 and for unit vectors (cosine) these are the vectors. For the inner product each gets one
    more component, sqrt(M^2 - |v|^2) with M the largest length, and a query gets 0 there: |q - v|^2
    = |q|^2 + M^2 - 2 q.v (Bachrach et al., "Speeding Up the Xbox Recommender System Using a
    Euclidean Transformation for Inner-Product Spaces", RecSys 2014). A graph over the inner product
    itself, which is no metric, finds far fewer of the true neighbours:
    `docs/decisions/005-inner-product-as-distance.md`.
    """
    if metric != "inner_product":
        return vectors
    return np.hstack([vectors, last_components(vectors)[:, np.newaxis]])


def last_components(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the component that `points` adds for the inner product, float32 [n]."""
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    last: NDArray[np.float32] = np.sqrt(np.maximum(squares.max(initial=0) - squares, 0)).astype(
        np.float32
    )
    return last


class QueryPoints:
    """Turns queries into points near which to search."""

    def __init__(self, vectors: NDArray[np.float32], metric: Metric) -> None:
        """Take what was indexed, [n, dimension] float32, and the bundle's metric."""
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        self._length_max = float(np.sqrt(squares.max(initial=0)))
        self._metric = metric

    def of(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the point to search near; see `points`.

        For the inner product, as long as the longest vector: the order does not depend on a query's
        length, but far from the points, or too near to 0, their distances from it drown in float32.
        """
        if self._metric != "inner_product":
            return query
        # In float64: what makes a query of length 1e-38 longer is more than float32 holds.
        whole = query.astype(np.float64)
        length = float(np.linalg.norm(whole))
        scale = self._length_max / length if length else 0.0
        return np.append(whole * scale, 0).astype(np.float32)
