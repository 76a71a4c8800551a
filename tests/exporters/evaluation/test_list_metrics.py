from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist_exporters.evaluation.list_metrics import (
    NOWHERE,
    list_measures,
    ranks,
    sampled_measures,
)

ITEM_COUNT = 12
LENGTH = 6


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]]]:
    """Lists of up to six items, and what each user did: one item or more."""
    users = draw(st.integers(1, 6))
    items = st.permutations(range(ITEM_COUNT))
    lists = [draw(items)[: draw(st.integers(0, LENGTH))] for _ in range(users)]
    wanted = [draw(items)[: draw(st.integers(1, ITEM_COUNT))] for _ in range(users)]
    return lists, wanted


def arrays(lists: list[list[int]], wanted: list[list[int]]) -> tuple[Any, Any, Any]:
    padded = np.full((len(lists), LENGTH), -1, np.int64)
    for row, one in enumerate(lists):
        padded[row, : len(one)] = one
    offsets = np.concatenate(([0], np.cumsum([len(one) for one in wanted]))).astype(np.int64)
    return padded, offsets, np.array([item for one in wanted for item in one], np.int64)


def plain(lists: list[list[int]], wanted: list[list[int]], k: int) -> dict[str, float]:
    """Every figure by its definition, item by item."""
    found = pairs = 0
    means: dict[str, list[float]] = {name: [] for name in ("recall", "user_hit", "ndcg", "mrr")}
    means["map"] = []
    for shown, relevant in zip(lists, wanted, strict=True):
        hits = [item in relevant for item in shown[:k]]
        found, pairs = found + sum(hits), pairs + len(relevant)
        means["recall"].append(sum(hits) / len(relevant))
        means["user_hit"].append(float(any(hits)))
        gain = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
        ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant))))
        means["ndcg"].append(gain / ideal)
        means["mrr"].append(1 / (hits.index(True) + 1) if any(hits) else 0.0)
        precisions = [sum(hits[: at + 1]) / (at + 1) for at, hit in enumerate(hits) if hit]
        means["map"].append(sum(precisions) / min(k, len(relevant)))
    return {"hit": found / pairs} | {name: sum(all_) / len(all_) for name, all_ in means.items()}


@given(worlds(), st.integers(1, LENGTH))
def test_figures_are_those_of_their_definitions(
    world: tuple[list[list[int]], list[list[int]]], k: int
) -> None:
    lists, offsets, items = arrays(*world)

    figures = list_measures(ranks(lists, offsets, items), offsets, [k])

    expected = {f"{name}_at_{k}": value for name, value in plain(*world, k).items()}
    assert {name: one.value for name, one in figures.items()} == pytest.approx(expected, abs=1e-12)


@given(worlds())
def test_ranks_are_places_in_the_users_own_list(
    world: tuple[list[list[int]], list[list[int]]],
) -> None:
    lists, wanted = world

    found = ranks(*arrays(lists, wanted))

    assert found.tolist() == [
        shown.index(item) if item in shown else NOWHERE
        for shown, relevant in zip(lists, wanted, strict=True)
        for item in relevant
    ]


def test_hand_made_case() -> None:
    """Two users; the first's second and fourth item are relevant of three that are, the second has
    nothing.
    """
    lists, offsets, items = arrays([[5, 1, 6, 2], [7, 8]], [[1, 2, 3], [0]])

    figures = list_measures(ranks(lists, offsets, items), offsets, [4])

    ideal = 1 + 1 / math.log2(3) + 1 / 2
    expected = {
        "hit_at_4": 2 / 4,
        "recall_at_4": (2 / 3 + 0) / 2,
        "user_hit_at_4": 0.5,
        "ndcg_at_4": (1 / math.log2(3) + 1 / math.log2(5)) / ideal / 2,
        "mrr_at_4": 0.5 / 2,
        "map_at_4": (1 / 2 + 2 / 4) / 3 / 2,
    }
    assert {name: one.value for name, one in figures.items()} == pytest.approx(expected)


def test_perfect_lists_have_one_everywhere() -> None:
    lists, offsets, items = arrays([[3, 4], [9]], [[3, 4], [9]])

    figures = list_measures(ranks(lists, offsets, items), offsets, [2, 5])

    assert {name: one.value for name, one in figures.items()} == dict.fromkeys(figures, 1.0)


def test_sampled_figures_count_each_pair_and_ties_against_it() -> None:
    offsets = np.array([0, 2, 3])
    above, ties = np.array([0, 9, 1]), np.array([0, 0, 2])

    figures = sampled_measures(above, ties, np.array([99, 99, 99]), offsets, [10, 3])

    values = {name: one.value for name, one in figures.items()}
    assert values["hit_at_10"] == 1.0
    assert values["hit_at_3"] == pytest.approx(1 / 3)
    assert values["mrr_at_10"] == pytest.approx((1 + 1 / 10 + 1 / 4) / 3)
    assert values["ndcg_at_3"] == pytest.approx(1 / 3)
    assert values["auc_sampled"] == pytest.approx(1 - (0 + 9 + 2) / 99 / 3)
