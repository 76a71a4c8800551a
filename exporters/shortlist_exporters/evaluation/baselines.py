"""Recommenders that a bundle should beat: random, popularity, item-kNN, EASE and implicit ALS.

Each learns from the training part as ones and zeros, and scores every item for a user. They are
here so that nobody takes a figure for a good one that counting would reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from shortlist_server.errors import ConfigError

from shortlist_exporters.evaluation.holdout import Holdout

Integers = NDArray[np.int64]
Scores = NDArray[np.float32]

Scorer: TypeAlias = Callable[[Integers], Scores]
"""Scores of all items for some rows of the training matrix, [rows, items]."""

ROWS_AT_ONCE = 256
DENSE_ITEMS_MAX = 20_000
"""EASE inverts a matrix of items by items: at this number some 5 GB, and minutes."""
EASE_REGULARIZATION = 300.0
NEIGHBOUR_COUNT = 100
SHRINKAGE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A baseline by what it is called and how it learns."""

    name: str
    description: str
    learn: Callable[[Any, int], Scorer]
    """From the training matrix ([everybody, items] sparse) and a seed.

    Raises:
        ConfigError: the data are too large for it.
        MissingExtra: it needs a library that is not installed.
    """


def top_lists(scorer: Scorer, holdout: Holdout, length: int, *, exclude_seen: bool) -> Integers:
    """Return the best items of each test user, [users, length]: -1 behind the end; of equal scores
    the first item in the catalogue's order.

    Args:
        scorer: What a baseline learned from `holdout.train`.
        holdout: Whose users are asked for; the catalogue is that of the data set.
        length: How many items.
        exclude_seen: Whether what users did in training is left out.
    """
    rows = holdout.train_rows
    count = holdout.catalog_count
    width = min(length, count)
    lists = np.full((len(rows), length), -1, np.int64)
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[begin : begin + ROWS_AT_ONCE]
        scores = np.array(scorer(part)[:, :count], np.float64)
        if exclude_seen:
            seen = holdout.train[part].tocoo()
            scores[seen.row, seen.col] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :width]
        best[np.take_along_axis(scores, best, axis=1) == -np.inf] = -1
        lists[begin : begin + len(part), :width] = best
    return lists


def known_or_popular(scorer: Scorer, train: Any) -> Scorer:
    """Return a scorer that gives users who did nothing in training what is popular, as anybody
    would: else a model that knows users by what they did would seem worse than it is.
    """
    counts = _counts(train)
    new = np.diff(train.indptr) == 0

    def score(rows: Integers) -> Scores:
        scores = np.array(scorer(rows), np.float32)
        scores[new[rows]] = counts
        return scores

    return score


def learn_random(train: Any, seed: int) -> Scorer:
    """Return scores that mean nothing: the same for the same user and seed."""
    item_count = train.shape[1]

    def score(rows: Integers) -> Scores:
        return np.stack(
            [np.random.default_rng((seed, int(row))).random(item_count, np.float32) for row in rows]
        )

    return score


def learn_popularity(train: Any, seed: int) -> Scorer:
    """Return for everybody how many users did something with each item."""
    counts = _counts(train)
    return lambda rows: np.broadcast_to(counts, (len(rows), len(counts)))


def learn_item_knn(train: Any, seed: int) -> Scorer:
    """Return the sum of the similarities to what the user did, of each item's nearest.

    Deshpande, Karypis: Item-Based Top-N Recommendation Algorithms (TOIS 2004): cosine, 100
    neighbours an item, and a shrinkage of 10 for items that few share (Bell, Koren 2007).
    """
    counts = np.asarray(train.sum(axis=0)).ravel()
    norms = np.sqrt(np.maximum(counts, 1.0))
    by_item = sparse.csr_array(train.T)
    parts = []
    for begin in range(0, train.shape[1], ROWS_AT_ONCE):
        shared = (by_item[begin : begin + ROWS_AT_ONCE] @ train).toarray()
        own = np.arange(len(shared))
        scale = norms[begin : begin + len(shared), None] * norms + SHRINKAGE
        alike = shared / scale
        alike[own, begin + own] = 0.0
        kept = min(NEIGHBOUR_COUNT, alike.shape[1])
        least = np.partition(alike, alike.shape[1] - kept, axis=1)[:, -kept]
        alike[alike < least[:, None]] = 0.0
        parts.append(sparse.csr_array(alike.astype(np.float32)))
    neighbours = sparse.csr_array(sparse.vstack(parts)).T.tocsr()
    return known_or_popular(lambda rows: (train[rows] @ neighbours).toarray(), train)


def learn_ease(train: Any, seed: int) -> Scorer:
    """Return the scores of the linear item-item model with a closed solution.

    Steck: Embarrassingly Shallow Autoencoders for Sparse Data (WWW 2019), equation 8, with the
    regularization 300.
    """
    item_count = train.shape[1]
    if item_count > DENSE_ITEMS_MAX:
        raise ConfigError(
            f"baseline ease: expected at most {DENSE_ITEMS_MAX} items, got {item_count}; leave it "
            "out with --baselines random popularity item-knn als"
        )
    weights = (train.T @ train).toarray().astype(np.float32)
    weights[np.diag_indices(item_count)] += EASE_REGULARIZATION
    weights = linalg.inv(weights, overwrite_a=True, check_finite=False)
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0.0)
    return known_or_popular(lambda rows: train[rows] @ weights, train)


def learn_als(train: Any, seed: int) -> Scorer:
    """Return the scores of implicit ALS; see `als.py`."""
    from shortlist_exporters.evaluation.als import learn

    return known_or_popular(learn(train, seed), train)


def _counts(train: Any) -> Scores:
    """Return how many users did something with each item, [items]."""
    counts: Scores = np.asarray(train.sum(axis=0), np.float32).ravel()
    return counts


BASELINES = {
    one.name: one
    for one in (
        Baseline(name="random", description="items at random", learn=learn_random),
        Baseline(
            name="popularity",
            description="what most users did something with, the same for all",
            learn=learn_popularity,
        ),
        Baseline(
            name="item-knn",
            description=f"cosine, {NEIGHBOUR_COUNT} neighbours an item, shrinkage {SHRINKAGE:g}",
            learn=learn_item_knn,
        ),
        Baseline(
            name="ease",
            description=f"linear item-item model, regularization {EASE_REGULARIZATION:g}",
            learn=learn_ease,
        ),
        Baseline(
            name="als",
            description="implicit matrix factorization, 64 factors, weight 2, regularization 20",
            learn=learn_als,
        ),
    )
}
"""By name, weakest first."""
