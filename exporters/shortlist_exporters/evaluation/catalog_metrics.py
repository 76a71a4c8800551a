"""What lists are like beside being right: how much of the catalogue they show, how new, how varied,
how popular.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from shortlist_exporters.evaluation.measures import Floats, Measure, mean_over_users

Integers = NDArray[np.int64]


def coverage(lists: Integers, item_count: int, k: int) -> float:
    """Return the share of the catalogue that is in the first k of anybody's list.

    Ge, Delgado-Battenfeld, Jannach: Beyond Accuracy: Evaluating Recommender Systems by Coverage and
    Serendipity (RecSys 2010).
    """
    first = lists[:, :k]
    return len(np.unique(first[first >= 0])) / item_count


def gini(lists: Integers, item_count: int, k: int) -> float:
    """Return how unequally the catalogue's items are shown in the first k: 0 all as often, near 1 a
    single one always.

    Shani, Gunawardana: Evaluating Recommendation Systems (Recommender Systems Handbook, 2011);
    items that are never shown count.
    """
    first = lists[:, :k]
    shown = np.sort(np.bincount(first[first >= 0], minlength=item_count)[:item_count])
    if not shown.sum():
        return float("nan")
    places = np.arange(1, item_count + 1)
    return float(((2 * places - item_count - 1) * shown).sum() / (item_count * shown.sum()))


def novelty(lists: Integers, counts: Integers, user_count: int, k: int) -> Measure:
    """Return the mean self-information of the first k, in bits: how surprising it is that somebody
    has met them.

    -log2 of the share of the users who did something with the item in training (one user for items
    that nobody did). Zhou et al.: Solving the Apparent Diversity-Accuracy Dilemma (PNAS 2010).
    """
    return mean_over_users(
        _mean_of_lists(lists[:, :k], -np.log2(np.maximum(counts, 1) / user_count))
    )


def popularity_lift(lists: Integers, counts: Integers, seen: Any, k: int) -> Measure:
    """Return by how much the first k are more popular than what their users have seen: 0 as
    popular, 1 twice as much.

    Abdollahpouri et al.: The Connection Between Popularity Bias, Calibration, and Fairness in
    Recommendation (RecSys 2020), there for groups, here for each user. Popularity is how many users
    did something with an item in training; who has seen nothing has no part in the figure.

    Args:
        lists: [users, length].
        counts: [items].
        seen: [users, items] sparse.
        k: How many of each list.
    """
    popularity = counts.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        own = (seen @ popularity) / np.asarray(seen.sum(axis=1)).ravel()
        return mean_over_users(_mean_of_lists(lists[:, :k], popularity) / own - 1.0)


def diversity(lists: Integers, train: Any, k: int) -> Measure:
    """Return the mean distance between two items of the first k, 1 - cosine of who did something
    with them in training: 0 all by the same people, 1 nobody in common.

    Ziegler et al.: Improving Recommendation Lists Through Topic Diversification (WWW 2005), the
    distance being that of item-based collaborative filtering, so that it needs no attributes.

    Args:
        lists: [users, length].
        train: [everybody, items] sparse.
        k: How many of each list; lists with fewer than two have no part in the figure.
    """
    norms = np.sqrt(np.asarray(train.sum(axis=0)).ravel())
    norms[norms == 0] = 1.0
    units = sparse.csr_array((train / norms).T)
    values = np.full(len(lists), np.nan)
    for begin in range(0, len(lists), 256):  # of dense sums: what all users need does not fit
        first = lists[begin : begin + 256, :k]
        present = first >= 0
        rows = np.broadcast_to(np.arange(len(first))[:, None], first.shape)[present]
        chosen = sparse.csr_array(
            (np.ones(len(rows), np.float32), (rows, first[present])),
            shape=(len(first), units.shape[0]),
        )
        sums = (chosen @ units).toarray()
        own = chosen @ np.asarray(units.multiply(units).sum(axis=1)).ravel()
        count = present.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            alike = (np.square(sums).sum(axis=1) - own) / (count * (count - 1))
        values[begin : begin + 256] = np.where(count > 1, 1.0 - alike, np.nan)
    return mean_over_users(values)


def catalog_measures(
    lists: Integers, *, train: Any, seen: Any, cutoffs: Sequence[int]
) -> dict[str, Measure]:
    """Return the figures of this module that are means over users, by name and cutoff."""
    counts = np.asarray(train.sum(axis=0)).ravel().astype(np.int64)
    figures: dict[str, Measure] = {}
    for k in cutoffs:
        figures[f"novelty_at_{k}"] = novelty(lists, counts, train.shape[0], k)
        figures[f"popularity_lift_at_{k}"] = popularity_lift(lists, counts, seen, k)
        if k > 1:
            figures[f"diversity_at_{k}"] = diversity(lists, train, k)
    return figures


def _mean_of_lists(lists: Integers, values: Floats) -> Floats:
    """Return the mean of a number for each item, by list; NaN for empty lists."""
    present = lists >= 0
    sums = np.where(present, values[np.maximum(lists, 0)], 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = sums / present.sum(axis=1)
    return means
