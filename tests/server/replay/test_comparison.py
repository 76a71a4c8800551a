from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist_server.replay.comparison import Comparison, Outcome, Tally, compare

LISTS = st.lists(st.sampled_from("abcdef"), unique=True, max_size=6)


@given(old=LISTS, new=LISTS, draw=st.data())
def test_comparison_is_that_of_the_definition(
    old: list[str], new: list[str], draw: st.DataObject
) -> None:
    numbers = st.integers(-4, 4).map(lambda number: number / 4)
    old_scores = [draw.draw(numbers) for _ in old]
    new_scores = [draw.draw(numbers) for _ in new]
    result = compare(old, old_scores, new, new_scores)
    if old == new:
        assert result.outcome is Outcome.IDENTICAL
    elif set(old) == set(new):
        assert result.outcome is Outcome.REORDERED
    else:
        assert result.outcome is Outcome.DIFFERENT
    common = set(old) & set(new)
    changes = [abs(old_scores[old.index(item)] - new_scores[new.index(item)]) for item in common]
    assert result.common_count == len(common)
    assert result.score_change_max == max(changes, default=0)
    assert result.score_change_sum == sum(changes)
    assert result.overlap == (len(common) / max(len(old), len(new)) if old or new else 1)
    assert result.bit_identical == (old == new and old_scores == new_scores)


def test_bits_are_compared_not_values() -> None:
    assert not compare(["a"], [0.0], ["a"], [-0.0]).bit_identical
    close = compare(["a"], [1.0], ["a"], [math.nextafter(1.0, 2)])
    assert close.outcome is Outcome.IDENTICAL
    assert not close.bit_identical


def test_tally_sums_up() -> None:
    tally = Tally()
    assert (tally.overlap_mean, tally.score_change_mean, tally.compared_count) == (None, None, 0)
    tally.add("rank", compare(["a", "b"], [1.0, 0.0], ["a", "b"], [1.0, 0.5]))
    tally.add("rank", compare(["a", "b"], [1.0, 0.0], ["a", "c"], [3.0, 0.0]))
    tally.add("retrieve", Comparison(outcome=Outcome.ERROR))
    tally.add("retrieve", Comparison(outcome=Outcome.MASKED))
    assert tally.compared_count == 2
    assert tally.overlap_mean == 0.75
    assert tally.score_change_max == 2
    assert tally.score_change_mean == pytest.approx(2.5 / 3)
    assert tally.bit_identical_count == 0
    assert tally.by_kind["retrieve"] == {Outcome.ERROR: 1, Outcome.MASKED: 1}


@pytest.mark.parametrize(
    ("outcome", "worse_than_identical", "worse_than_reordered"),
    [
        (Outcome.IDENTICAL, False, False),
        (Outcome.REORDERED, True, False),
        (Outcome.DIFFERENT, True, True),
        (Outcome.ERROR, True, True),
        (Outcome.MASKED, False, False),
    ],
)
def test_worse_is_in_the_order_of_the_outcomes(
    outcome: Outcome, worse_than_identical: bool, worse_than_reordered: bool
) -> None:
    tally = Tally()
    tally.add("rank", Comparison(outcome=outcome))
    assert tally.is_worse_than(Outcome.IDENTICAL) == worse_than_identical
    assert tally.is_worse_than(Outcome.REORDERED) == worse_than_reordered
