"""Orders drawn at random: the Plackett-Luce model, by seeds that are given."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shortlist_server.funnel.options import Exploration
from shortlist_server.funnel.select import ordered

DRAWS = 6_000


def drawn(rows: np.ndarray, scores: np.ndarray, temperature: float, seed: int) -> list[int]:
    """The rows in the order drawn."""
    exploration = Exploration(temperature=temperature)
    order = ordered(rows, scores, score_min=None, exploration=exploration, seed=seed)
    return [int(rows[place]) for place in order.places]


def plackett_luce(scores: dict[int, float], temperature: float, order: tuple[int, ...]) -> float:
    """The probability of an order: each next in proportion to exp(score / temperature)."""
    weights = {row: math.exp(score / temperature) for row, score in scores.items()}
    probability = 1.0
    left = set(weights)
    for row in order:
        probability *= weights[row] / sum(weights[other] for other in left)
        left.remove(row)
    return probability


@pytest.mark.parametrize("temperature", [0.4, 1.0, 5.0])
@pytest.mark.parametrize("first_seed", [0, -3_000, 2**62])
def test_orders_are_drawn_as_often_as_plackett_luce_says(
    temperature: float, first_seed: int
) -> None:
    scores = {3: 0.2, 17: -0.5, 100_000: 0.9, 4: 0.0}
    rows, values = np.array(list(scores)), np.array(list(scores.values()))
    counts = Counter(
        tuple(drawn(rows, values, temperature, first_seed + seed)) for seed in range(DRAWS)
    )
    chi_square = 0.0
    for order in itertools.permutations(scores):
        expected = DRAWS * plackett_luce(scores, temperature, order)
        chi_square += (counts[order] - expected) ** 2 / expected
    # 23 degrees of freedom: beyond 49.7 in one of a thousand runs; the seeds are fixed.
    assert chi_square < 49.7


def test_the_best_item_is_first_as_often_as_its_softmax_among_many() -> None:
    rows = np.arange(50)
    scores = np.linspace(0, 3, 50)
    weights = np.exp(scores) / np.exp(scores).sum()
    firsts = Counter(drawn(rows, scores, 1.0, seed)[0] for seed in range(DRAWS))
    expected = DRAWS * weights
    chi_square = sum((firsts[row] - expected[row]) ** 2 / expected[row] for row in range(50))
    assert chi_square < 85.4  # 49 degrees of freedom, one of a thousand


SCORES = hnp.arrays(np.float64, st.integers(1, 40), elements=st.integers(-8, 8).map(float))


@given(scores=SCORES, seed=st.integers(-(2**63), 2**63 - 1))
def test_a_draw_does_not_depend_on_who_is_beside_or_before_an_item(
    scores: np.ndarray, seed: int
) -> None:
    rows = np.arange(len(scores)) * 3
    whole = drawn(rows, scores, 2.0, seed)
    assert sorted(whole) == rows.tolist()
    assert drawn(rows[::-1], scores[::-1], 2.0, seed) == whole
    half = drawn(rows[::2], scores[::2], 2.0, seed)
    assert half == [row for row in whole if row in set(rows[::2].tolist())]


@given(scores=SCORES, seed=st.integers(0, 99))
def test_at_the_lowest_temperature_the_best_come_first(scores: np.ndarray, seed: int) -> None:
    rows = np.arange(len(scores))
    order = drawn(rows, scores, 1e-6, seed)
    assert [scores[row] for row in order] == sorted(scores.tolist(), reverse=True)


def test_the_largest_scores_and_temperatures_draw_an_order_too() -> None:
    rows = np.arange(4)
    for temperature in (1e-6, 1e6):
        for scale in (1e-300, 1e300):
            order = drawn(rows, np.array([1.0, -1.0, 0.5, 0.0]) * scale, temperature, 3)
            assert sorted(order) == [0, 1, 2, 3]


def test_items_below_the_least_score_are_not_drawn() -> None:
    rows, scores = np.arange(20), np.arange(20) / 2
    exploration = Exploration(temperature=50.0)
    for seed in range(50):
        order = ordered(rows, scores, score_min=5.0, exploration=exploration, seed=seed)
        assert sorted(order.places.tolist()) == list(range(10, 20))
        assert order.explored is not None
        assert sorted(order.explored.tolist()) == list(range(20))
        assert order.ranked.tolist() == list(range(19, -1, -1))
