"""Whether lists hold what users did next, and where.

Lists are [users, length] item numbers, -1 behind the end; `ranks` tells where in them the test
pairs are. Relevance is binary: a pair of the test part is relevant, everything else is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shortlist_exporters.evaluation.measures import Floats, Measure, mean_over_users

Integers = NDArray[np.int64]

NOWHERE = np.iinfo(np.int64).max
"""Rank of what is not in a list."""


def ranks(lists: Integers, offsets: Integers, items: Integers) -> Integers:
    """Return where in its user's list the item of each pair is, 0 for the first; `NOWHERE` if it is
    not there.

    Args:
        lists: [users, length].
        offsets: [users + 1]: the pairs of user i are `offsets[i]` to `offsets[i + 1]`.
        items: [pairs].
    """
    width = int(max(lists.max(initial=0), items.max(initial=0))) + 1
    users = np.repeat(np.arange(len(lists)), np.diff(offsets))
    present = lists >= 0
    keys = (np.arange(len(lists))[:, None] * width + lists)[present]
    places = np.broadcast_to(np.arange(lists.shape[1]), lists.shape)[present]
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    wanted = users * width + items
    at = np.searchsorted(keys, wanted)
    found = np.zeros(len(wanted), np.bool_)
    inside = at < len(keys)
    found[inside] = keys[at[inside]] == wanted[inside]
    result = np.full(len(wanted), NOWHERE, np.int64)
    result[found] = places[at[found]]
    return result


def list_measures(
    places: Integers, offsets: Integers, cutoffs: Sequence[int]
) -> dict[str, Measure]:
    """Return all figures of this module, by name and cutoff: `ndcg_at_10`."""
    kinds = {
        "hit": pair_hit,
        "recall": recall,
        "user_hit": user_hit,
        "ndcg": ndcg,
        "mrr": reciprocal_rank,
        "map": average_precision,
    }
    return {
        f"{name}_at_{k}": kind(places, offsets, k) for name, kind in kinds.items() for k in cutoffs
    }


def pair_hit(places: Integers, offsets: Integers, k: int) -> Measure:
    """Return the share of the pairs whose item is among the first k.

    What TensorFlow Recommenders calls factorized top-k categorical accuracy
    (`tfrs.metrics.FactorizedTopK`): users count by how many pairs they have.
    """
    return Measure(
        numerators=_by_user(places < k, offsets), denominators=np.diff(offsets).astype(np.float64)
    )


def recall(places: Integers, offsets: Integers, k: int) -> Measure:
    """Return the share of a user's pairs that are among the first k, in the mean over users.

    Manning, Raghavan, Schütze: Introduction to Information Retrieval (2008), 8.3. The denominator
    is not cut at k.
    """
    return mean_over_users(_by_user(places < k, offsets) / np.diff(offsets))


def user_hit(places: Integers, offsets: Integers, k: int) -> Measure:
    """Return the share of users with at least one pair among the first k: "hit rate" in many
    papers.

    Deshpande, Karypis: Item-Based Top-N Recommendation Algorithms (TOIS 2004); there each user has
    one pair, and it equals `pair_hit` and `recall`.
    """
    return mean_over_users((_by_user(places < k, offsets) > 0).astype(np.float64))


def ndcg(places: Integers, offsets: Integers, k: int) -> Measure:
    """Return the normalised discounted cumulative gain of the first k, in the mean over users.

    Järvelin, Kekäläinen: Cumulated Gain-Based Evaluation of IR Techniques (TOIS 2002), with the
    discount 1 / log2(rank + 1) for ranks from 1; the ideal list has min(pairs, k) relevant items
    at its head.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate(([0.0], np.cumsum(discounts)))[np.minimum(np.diff(offsets), k)]
    inside = places < k
    gains = np.zeros(len(places))
    gains[inside] = discounts[places[inside]]
    return mean_over_users(_by_user(gains, offsets) / ideal)


def reciprocal_rank(places: Integers, offsets: Integers, k: int) -> Measure:
    """Return 1 / rank of the first relevant item, 0 if it is not among the first k, in the mean
    over users (MRR).

    Voorhees: The TREC-8 Question Answering Track Report (1999).
    """
    first = np.minimum.reduceat(places, offsets[:-1])
    return mean_over_users(np.where(first < k, 1.0 / (np.minimum(first, k) + 1.0), 0.0))


def average_precision(places: Integers, offsets: Integers, k: int) -> Measure:
    """Return the precision at each relevant item among the first k, summed and divided by
    min(pairs, k), in the mean over users (MAP).

    Manning, Raghavan, Schütze (2008), 8.4, cut at k as in the Million Song Dataset Challenge
    (McFee et al. 2012): a list of relevant items alone has 1.
    """
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((places, users))
    rank, user = places[order], users[order]
    found = np.arange(len(rank)) - offsets[user] + 1.0
    precision = np.where(rank < k, found / (np.minimum(rank, k) + 1.0), 0.0)
    return mean_over_users(_by_user(precision, offsets) / np.minimum(np.diff(offsets), k))


def sampled_measures(
    places: Integers, ties: Integers, negatives: Integers, offsets: Integers, cutoffs: Sequence[int]
) -> dict[str, Measure]:
    """Return the figures of pairs that were each ranked among sampled negatives.

    Every pair is a query of its own with one relevant item, so that NDCG is 1 / log2(rank + 2) and
    MRR 1 / (rank + 1). He et al.: Neural Collaborative Filtering (WWW 2017). Such figures are no
    estimate of those over the whole catalogue, and may order systems otherwise: Krichene, Rendle:
    On Sampled Metrics for Item Recommendation (KDD 2020).

    Args:
        places: [pairs]: how many negatives have a higher score.
        ties: [pairs]: how many have the same; in lists they stand before the item.
        negatives: [pairs]: how many were sampled.
        offsets: [users + 1].
        cutoffs: Values of k.
    """
    counts = np.diff(offsets).astype(np.float64)
    rank = places + ties
    figures: dict[str, Floats] = {}
    for k in cutoffs:
        inside = rank < k
        figures[f"hit_at_{k}"] = inside.astype(np.float64)
        figures[f"ndcg_at_{k}"] = np.where(inside, 1.0 / np.log2(rank + 2.0), 0.0)
        figures[f"mrr_at_{k}"] = np.where(inside, 1.0 / (rank + 1.0), 0.0)
    figures["auc_sampled"] = 1.0 - (places + 0.5 * ties) / np.maximum(negatives, 1)
    return {
        name: Measure(numerators=_by_user(values, offsets), denominators=counts)
        for name, values in figures.items()
    }


def _by_user(values: Floats | NDArray[np.bool_], offsets: Integers) -> Floats:
    sums: Floats = np.add.reduceat(values.astype(np.float64), offsets[:-1])
    return sums
