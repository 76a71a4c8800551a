"""Which of the scored items make the list, and in which order. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.arrays import Floats, Rows
from shortlist_server.funnel.options import Exploration
from shortlist_server.funnel.types import Candidates, Ranking, ShortList


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Candidates in the order in which they stand for the list; places are positions among the
    candidates.
    """

    scores: NDArray[np.float64]
    """float64 [candidates], as they came."""
    ranked: Rows
    """Places by score, best first: int64 [candidates]."""
    explored: Rows | None
    """The same after exploration; None where there was none."""
    places: Rows
    """Those of them that reach the least score, in the order that counts."""
    keys: NDArray[np.float64]
    """float64 [candidates]: what that order is by."""
    reranked: Rows | None = None
    """int64 [candidates]: position of each place after the language model, -1 where it was not
    shown it; None where its order was not taken, or not asked for.
    """


def ordered(
    rows: Rows,
    scores: NDArray[np.floating],
    *,
    score_min: float | None,
    exploration: Exploration | None,
    seed: int,
) -> Order:
    """Put candidates in order: by score, highest first, equal scores by their rows; or by chance.

    Args:
        rows: int64 [n], without repetition.
        scores: [n], finite.
        score_min: Least score of those that stand for the list; None for no bound.
        exploration: Its temperature; None for none.
        seed: Its seed.
    """
    wide: NDArray[np.float64] = scores.astype(np.float64)
    ranked = np.lexsort((rows, -wide))
    keys, explored, places = wide, None, ranked
    if exploration is not None:
        # Adding Gumbel noise and sorting draws without replacement in proportion to
        # exp(score / temperature): Kool et al., "Stochastic Beams and Where to Find Them", ICML
        # 2019.
        keys = wide / exploration.temperature + _gumbel(rows, seed)
        explored = places = np.lexsort((rows, -keys))
    if score_min is not None:
        places = places[wide[places] >= score_min]
    return Order(scores=wide, ranked=ranked, explored=explored, places=places, keys=keys)


def reordered(order: Order, rows: Rows, reranked: Rows) -> Order:
    """Return an order in which some candidates have changed places among themselves.

    Each takes the position, and the key, of the one whose place it takes: all others stay where
    they are.

    Args:
        order: The order before.
        rows: The candidates, int64 [candidates].
        reranked: Some of those that stand for the list, in their new order: int64 [n], without
            repetition.
    """
    place_of = {row: place for place, row in enumerate(rows.tolist())}
    moved = np.array([place_of[row] for row in reranked.tolist()], np.int64)
    slots = np.isin(order.places, moved)
    before = order.places[slots]
    places, keys = order.places.copy(), order.keys.copy()
    places[slots] = moved
    keys[moved] = order.keys[before]
    positions = np.full(len(rows), -1, np.int64)
    standing = order.ranked if order.explored is None else order.explored
    positions[moved] = _positions(standing)[before]
    return replace(order, places=places, keys=keys, reranked=positions)


def placed(chosen: Sequence[int], pins: Sequence[tuple[int, int | None]], limit: int) -> list[int]:
    """Return the list: pinned items at their places, the chosen ones in order between them.

    Args:
        chosen: Places of the chosen candidates.
        pins: Place of each pinned candidate, and its position in the list; None for the first that
            is free.
        limit: Length of the list, at most.
    """
    fixed = {position: place for place, position in pins if position is not None}
    rest = iter([*(place for place, position in pins if position is None), *chosen])
    length = min(limit, len(pins) + len(chosen))
    result = []
    for position in range(length):
        place = fixed.pop(position, None)
        if place is None:
            place = next(rest, None)
        if place is None:
            break
        result.append(place)
    # A list that is shorter than a pinned item's position ends with it.
    result += [fixed[position] for position in sorted(fixed)]
    return result[:limit]


def short_list(
    candidates: Candidates,
    ranking: Ranking,
    order: Order,
    places: Sequence[int],
    diversified: Sequence[int] | None,
) -> ShortList:
    """Return the items at these places, with all that is known of them.

    Args:
        candidates: What the sources found.
        ranking: What the ranker made of it.
        order: The order of the candidates.
        places: The list: places among the candidates.
        diversified: The order after diversity and caps; None where there were neither.
    """
    taken = np.array(places, np.int64)
    retrieved, ranked = candidates.retrieval_scores, ranking.scores
    return ShortList(
        rows=candidates.rows[taken],
        scores=order.scores[taken],
        retrieval_scores=None if retrieved is None else retrieved[taken],
        ranking_scores=None if ranked is None else ranked[taken],
        outputs={name: values[taken] for name, values in ranking.outputs.items()},
        sources=_sources(candidates, taken),
        candidate_positions=taken,
        ranking_positions=_positions(order.ranked)[taken],
        exploration_positions=None if order.explored is None else _positions(order.explored)[taken],
        rerank_positions=None if order.reranked is None else order.reranked[taken],
        diversity_positions=None
        if diversified is None
        else _positions(np.array(diversified, np.int64), len(candidates.rows))[taken],
    )


def weighted_sum(
    outputs: Mapping[str, Floats], weights: Mapping[str, float], count: int
) -> NDArray[np.float64]:
    """Return the ranking scores: the outputs, each times its weight, in the order of the weights.

    Args:
        outputs: float32 [count] by name.
        weights: By name of the output; outputs not named have the weight 0.
        count: Number of items.

    Returns:
        float64 [count].
    """
    total = np.zeros(count, np.float64)
    for name, weight in weights.items():
        total += weight * outputs[name].astype(np.float64)
    return total


def _sources(candidates: Candidates, taken: Rows) -> tuple[tuple[tuple[str, int], ...], ...]:
    """Return for each item the sources that found it, with its position there."""
    if len(candidates.found) == 1 and len(candidates.found[0]) == len(candidates.rows):
        name = candidates.source_names[0]
        return tuple(((name, place),) for place in taken.tolist())
    rows = candidates.rows[taken].tolist()
    places = [
        {row: position for position, row in enumerate(found.tolist())} for found in candidates.found
    ]
    named = list(zip(candidates.source_names, places, strict=True))
    return tuple(
        tuple((name, positions[row]) for name, positions in named if row in positions)
        for row in rows
    )


def _positions(order: Rows, count: int | None = None) -> Rows:
    """Return where each place stands in an order; -1 where it does not."""
    positions = np.full(len(order) if count is None else count, -1, np.int64)
    positions[order] = np.arange(len(order))
    return positions


def _gumbel(rows: Rows, seed: int) -> NDArray[np.float64]:
    """Return Gumbel noise for items, the same for the same item and seed whatever else is beside
    it: SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA
    2014) of the two.
    """
    bits = _splitmix(rows.astype(np.uint64) ^ _splitmix(np.array([seed % 2**64], np.uint64)))
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    noise: NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise


def _splitmix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = state + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = bits ^ (bits >> np.uint64(31))
    return mixed
