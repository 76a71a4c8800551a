from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import sparse
from shortlist_exporters.evaluation.catalog_metrics import (
    coverage,
    diversity,
    gini,
    novelty,
    popularity_lift,
)

# Four people and five items; nobody met the last.
TRAIN = np.array([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [1, 1, 0, 1, 0], [1, 0, 0, 0, 0]], np.float32)
COUNTS = TRAIN.sum(axis=0).astype(np.int64)
LISTS = np.array([[2, 3, 4], [0, 1, -1], [-1, -1, -1]])


def test_coverage_is_of_the_catalogue_and_of_the_first_k() -> None:
    assert coverage(LISTS, 5, 3) == 1.0
    assert coverage(LISTS, 5, 1) == 2 / 5


def test_gini_is_zero_where_all_are_shown_as_often() -> None:
    assert gini(np.array([[0, 1], [2, 3]]), 4, 2) == 0.0
    assert gini(np.array([[0], [0]]), 4, 1) == pytest.approx(3 / 4)  # (n - 1) / n of one of n


def test_gini_is_the_mean_difference_of_how_often_items_are_shown() -> None:
    lists = np.array([[0, 1], [0, 2], [0, 1]])
    shown = [3, 2, 1, 0, 0]
    expected = sum(abs(a - b) for a in shown for b in shown) / (2 * len(shown) * sum(shown))

    assert gini(lists, 5, 2) == pytest.approx(expected)


def test_novelty_is_the_surprise_of_the_items_and_nobodys_is_as_one_persons() -> None:
    figure = novelty(LISTS, COUNTS, 4, 3)

    assert figure.value == pytest.approx((2.0 + (0 + 1) / 2) / 2)
    assert figure.denominators.tolist() == [1.0, 1.0, 0.0]


def test_lift_is_against_what_the_user_had_seen_and_none_for_who_saw_nothing() -> None:
    seen = sparse.csr_array(np.array([[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0]]))

    figure = popularity_lift(LISTS, COUNTS, seen, 2)

    assert figure.value == pytest.approx(((1 / 2 - 1) + (3 / 1 - 1)) / 2)
    nobody = sparse.csr_array((3, 5))
    assert np.isnan(popularity_lift(LISTS, COUNTS, nobody, 2).value)


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    lists = np.array([[0, 1, 3], [2, 4, -1], [0, -1, -1]])

    figure = diversity(lists, sparse.csr_array(TRAIN), 3)

    def distance(a: int, b: int) -> float:
        norms = math.sqrt(COUNTS[a] * COUNTS[b])
        return 1 - (float(TRAIN[:, a] @ TRAIN[:, b]) / norms if norms else 0.0)

    first = np.mean([distance(*pair) for pair in combinations([0, 1, 3], 2)])
    assert figure.value == pytest.approx((first + distance(2, 4)) / 2, abs=1e-6)
    assert figure.denominators.tolist() == [1.0, 1.0, 0.0]
