from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist_server.llm.answer import schema_problem
from shortlist_server.llm.item_ratings import RATING_SCHEMA, ItemRatings, read_ratings

HANDLES = ["c01", "c02", "c03"]


def read(ratings: Any) -> ItemRatings:
    return read_ratings({"ratings": ratings}, HANDLES, lowest=1, highest=5)


def entries(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"handle": handle, "rating": rating} for handle, rating in pairs]


def test_one_rating_of_each_item_is_taken_in_the_order_shown() -> None:
    said = read(entries(("c03", 2), ("c01", 4.5), ("c02", 1)))
    assert said.ratings == (4.5, 1.0, 2.0)
    assert (said.clamped, said.violations) == (frozenset(), frozenset())


@pytest.mark.parametrize(
    ("ratings", "violations"),
    [
        (None, {"shape"}),
        ({}, {"shape"}),
        ([], {"missing"}),
        (["c01", "c02", "c03"], {"shape", "missing"}),
        (entries(("c01", 1), ("c02", 2)), {"missing"}),
        (entries(("c01", 1), ("c02", 2), ("c02", 2)), {"duplicate", "missing"}),
        (entries(("c01", 1), ("c02", 2), ("c03", 2), ("c01", 1)), {"duplicate"}),
        (entries(("c01", 1), ("c02", 2), ("c03", 2), ("c04", 1)), {"foreign"}),
        (entries(("C01", 1), ("c02", 2), ("c03", 2)), {"foreign", "missing"}),
        (entries((1, 1), ("c02", 2), ("c03", 2)), {"foreign", "missing"}),
        (entries(("c01", "4"), ("c02", 2), ("c03", 2)), {"shape", "missing"}),
        (entries(("c01", True), ("c02", 2), ("c03", 2)), {"shape", "missing"}),
        (entries(("c01", None), ("c02", 2), ("c03", 2)), {"shape", "missing"}),
        (entries(("c01", float("nan")), ("c02", 2), ("c03", 2)), {"shape", "missing"}),
        (entries(("c01", 9), ("c02", 2), ("c02", 2)), {"duplicate", "missing"}),
        (entries(("c01", 1)) * 100_000, {"duplicate", "missing"}),
    ],
)
def test_what_is_not_one_rating_of_each_is_not_taken(ratings: Any, violations: set[str]) -> None:
    said = read(ratings)
    assert said.ratings is None
    assert said.violations == violations


@pytest.mark.parametrize(
    ("said", "taken"),
    [(0.99, 1), (-1e300, 1), (-(10**400), 1), (5.01, 5), (10**400, 5), (float("inf"), 5)],
)
def test_a_rating_out_of_bounds_is_at_the_bound_and_flagged(said: Any, taken: float) -> None:
    found = read(entries(("c01", 1), ("c02", said), ("c03", 5)))
    assert found.ratings == (1, taken, 5)
    assert (found.clamped, found.violations) == ({1}, {"clamped"})


@given(st.lists(st.floats(allow_nan=False) | st.integers(), min_size=3, max_size=3))
def test_whatever_is_taken_is_in_bounds(numbers: list[float]) -> None:
    found = read(entries(*zip(HANDLES, numbers, strict=True)))
    assert found.ratings is not None
    for said, taken in zip(numbers, found.ratings, strict=True):
        assert 1 <= taken <= 5
        assert (taken == said) == (1 <= said <= 5)


def test_the_schema_takes_numbers_out_of_bounds_and_no_others() -> None:
    assert schema_problem({"ratings": entries(("c01", 9.5))}, RATING_SCHEMA) is None
    for wrong in ("9", None, True):
        assert schema_problem({"ratings": entries(("c01", wrong))}, RATING_SCHEMA)
