"""What every engine agrees on: neighbours, and the similarity that they are ordered by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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


Checkpoint = Callable[[], None]
"""Called before each piece of work; raises where there is no time for more."""


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
