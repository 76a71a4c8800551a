"""What an index of item embeddings can do, and the similarity that every engine agrees on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Metric = Literal["inner_product", "cosine", "l2"]


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Items near a query, best first; equal scores in order of their rows."""

    rows: NDArray[np.int64]
    """int64 [found]."""
    scores: NDArray[np.float32]
    """float32 [found], higher is better: see `similarity`."""


class VectorIndex(Protocol):
    """An index over the item embeddings of one bundle."""

    @property
    def size(self) -> int:
        """Number of items."""

    def search(
        self, query: NDArray[np.float32], k: int, *, ef: int, excluded: NDArray[np.int64]
    ) -> Neighbors:
        """Return the k items nearest to a query.

        Args:
            query: [dimension] float32, of unit length if the metric is cosine.
            k: 1 or more. Fewer come back, never padding, where fewer items exist that are not
                excluded.
            ef: Search width of a graph; engines without one ignore it.
            excluded: int64 rows, without repetition, that must not come back.
        """


def similarity(
    vectors: NDArray[np.float32], query: NDArray[np.float32], metric: Metric
) -> NDArray[np.float32]:
    """Return how similar each vector is to the query, higher is better.

    Inner product; the same for cosine, where both have unit length; minus the squared Euclidean
    distance for l2. The score of a vector does not depend on which others are beside it: einsum
    sums each row by itself, where a BLAS product may sum the rows of a block in another order.

    Args:
        vectors: [n, dimension] float32.
        query: [dimension] float32.
        metric: The bundle's metric.

    Returns:
        [n] float32.
    """
    if metric == "l2":
        difference = vectors - query
        scores: NDArray[np.float32] = -np.einsum("ij,ij->i", difference, difference)
        return scores
    product: NDArray[np.float32] = np.einsum("ij,j->i", vectors, query)
    return product


def best_first(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> Neighbors:
    """Return the first k of rows by score, highest first, equal scores in order of their rows."""
    order = np.lexsort((rows, -scores))[:k]
    return Neighbors(rows[order], scores[order])
