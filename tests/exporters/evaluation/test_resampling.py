from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from shortlist_exporters.evaluation.measures import Measure, mean_over_users
from shortlist_exporters.evaluation.resampling import differences, intervals


def test_interval_is_that_of_the_normal_approximation_for_a_mean_of_many() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 2_000)

    found = intervals({"mean": mean_over_users(values)}, count=2_000, seed=3)["mean"]

    error = 1.96 * values.std() / np.sqrt(len(values))
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + error, abs=0.15 * error)


def test_users_are_drawn_not_pairs() -> None:
    """One user who has all pairs makes the figure sure of nothing but himself."""
    alone = Measure(numerators=np.array([50.0]), denominators=np.array([100.0]))
    many = Measure(numerators=np.tile([1.0, 0.0], 50), denominators=np.ones(100))

    found = intervals({"alone": alone}, count=200, seed=1)["alone"]

    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    assert intervals({"many": many}, count=200, seed=1)["many"].low < 0.45


def test_same_seed_gives_the_same_interval() -> None:
    measures = {"mean": mean_over_users(np.arange(30.0))}

    assert intervals(measures, count=100, seed=5) == intervals(measures, count=100, seed=5)
    assert intervals(measures, count=100, seed=5) != intervals(measures, count=100, seed=6)


def test_no_draws_give_intervals_without_width() -> None:
    found = intervals({"mean": mean_over_users(np.array([1.0, 3.0]))}, count=0, seed=1)["mean"]

    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_p_value_is_that_of_all_swaps() -> None:
    """Of six users all 64 ways to swap can be counted."""
    ours, theirs = (
        np.array([5.0, 3.0, 4.0, 6.0, 2.0, 5.0]),
        np.array([1.0, 2.0, 4.0, 3.0, 3.0, 1.0]),
    )
    observed = abs(float((ours - theirs).mean()))
    ways = [abs(float(((ours - theirs) * signs).mean())) for signs in product([1, -1], repeat=6)]
    exact = np.mean([way >= observed - 1e-12 for way in ways])

    found = differences(
        {"mean": mean_over_users(ours)}, {"mean": mean_over_users(theirs)}, count=100, seed=2
    )["mean"]

    assert found.value == pytest.approx((ours - theirs).mean())
    assert found.p_value == pytest.approx(exact, abs=0.01)


def test_what_is_the_same_differs_by_nothing() -> None:
    measure = Measure(numerators=np.arange(9.0), denominators=np.full(9, 4.0), root=True)

    found = differences({"rmse": measure}, {"rmse": measure}, count=50, swaps=100, seed=1)["rmse"]

    assert (found.value, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_figures_that_only_one_has_are_not_compared() -> None:
    one = mean_over_users(np.arange(3.0))

    assert differences({"a": one}, {"b": one}, count=10, seed=1) == {}
    assert list(differences({"a": one, "b": one}, {"b": one}, count=10, swaps=10, seed=1)) == ["b"]
