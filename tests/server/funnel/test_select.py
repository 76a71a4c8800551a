from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shortlist_server.funnel.select import ordered, weighted_sum


def top_positions(rows: np.ndarray, scores: np.ndarray, limit: int) -> np.ndarray:
    return ordered(rows, scores, score_min=None, exploration=None, seed=0).places[:limit]


SCORES = hnp.arrays(np.float64, st.integers(0, 50), elements=st.integers(-3, 3).map(float))


@given(scores=SCORES, limit=st.integers(1, 60), seed=st.integers(0, 9))
def test_top_positions_are_those_of_a_plain_sort_with_ties_by_row(
    scores: np.ndarray, limit: int, seed: int
) -> None:
    rows = np.random.default_rng(seed).permutation(len(scores)).astype(np.int64)
    got = top_positions(rows, scores, limit)
    expected = sorted(range(len(scores)), key=lambda position: (-scores[position], rows[position]))[
        :limit
    ]
    assert got.tolist() == expected


@given(scores=SCORES, seed=st.integers(0, 9))
def test_the_order_in_which_candidates_come_does_not_matter(scores: np.ndarray, seed: int) -> None:
    rows = np.arange(len(scores))
    shuffled = np.random.default_rng(seed).permutation(len(scores))
    straight = rows[top_positions(rows, scores, 10)]
    mixed = rows[shuffled][top_positions(rows[shuffled], scores[shuffled], 10)]
    assert straight.tolist() == mixed.tolist()


def test_outputs_without_a_weight_do_not_count() -> None:
    outputs = {"rating": np.array([1, 2], np.float32), "like": np.array([5, 7], np.float32)}
    assert weighted_sum(outputs, {"rating": 2.0}, 2).tolist() == [2, 4]
    assert weighted_sum(outputs, {"rating": 1.0, "like": -1.0}, 2).tolist() == [-4, -5]
