"""Filters in Python: how they are made, joined and shown."""

from __future__ import annotations

from typing import Any

import pytest
import shortlist_client
from hypothesis import given
from hypothesis import strategies as st
from shortlist_client import Filter, all_of, any_of, attribute, none_of
from shortlist_client.filters import AllOf, AnyOf, NoneOf

A, B, C = (attribute(name).equals(1) for name in "abc")

CONDITIONS = [
    attribute("title").equals("Heat"),
    attribute("year").is_in([1990, 1995]),
    attribute("year").between(1990, 1999),
    attribute("year").at_least(1990),
    attribute("year").above(1990),
    attribute("year").at_most(1990.5),
    attribute("year").below(1990),
    attribute("genres").contains("Drama"),
    attribute("title").exists(),
]
FILTERS = st.recursive(
    st.sampled_from(CONDITIONS),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        inner.map(lambda one: ~one),
    ),
    max_leaves=12,
)


@given(FILTERS)
def test_the_repr_of_a_filter_is_the_python_that_makes_it(filter_: Filter) -> None:
    again = eval(repr(filter_), vars(shortlist_client).copy())
    assert again == filter_
    assert hash(again) == hash(filter_)


def test_a_filter_reads_like_what_it_means() -> None:
    drama = attribute("genres").contains("Drama")
    wanted = attribute("year").between(1990, 1999) & (drama | attribute("title").exists()) & ~drama
    assert repr(wanted) == (
        "attribute('year').between(1990, 1999)"
        " & (attribute('genres').contains('Drama') | attribute('title').exists())"
        " & ~attribute('genres').contains('Drama')"
    )


def test_chains_of_one_operator_stay_flat() -> None:
    assert A & B & C == AllOf((A, B, C)) == A & (B & C) == all_of(A, B, C)
    assert A | B | C == AnyOf((A, B, C)) == A | (B | C) == any_of(A, B, C)
    assert AnyOf((AllOf((A, B)), C)) == (A & B) | C


def test_negation_of_negation_is_the_filter_itself() -> None:
    assert NoneOf((A,)) == ~A
    assert ~~A == A
    assert ~(A | B) == NoneOf((A, B)) == none_of(A, B)
    assert ~~(A | B) == A | B
    assert NoneOf((AllOf((A, B)),)) == ~(A & B)


def test_a_list_of_one_filter_is_that_filter() -> None:
    assert all_of(A) == any_of(A) == A
    assert none_of(A) == ~A


@pytest.mark.parametrize(
    "misuse", [lambda: A and B, lambda: A or B, lambda: not A, lambda: 1 if A else 2]
)
def test_pythons_own_and_or_not_are_refused_with_what_to_write_instead(misuse: Any) -> None:
    with pytest.raises(TypeError, match=r"join filters by & \| ~"):
        misuse()


def test_an_attribute_alone_is_no_condition() -> None:
    with pytest.raises(TypeError, match=r"attribute\('year'\) is no condition yet"):
        bool(attribute("year"))


@pytest.mark.parametrize("other", [True, None, "x", attribute("x")])
def test_filters_join_filters_only(other: Any) -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        A & other
    with pytest.raises(TypeError, match="unsupported operand"):
        A | other


def test_equal_filters_are_one_in_a_set() -> None:
    again = attribute("year").is_in([1990, 1995]) & attribute("title").exists()
    assert len({again, attribute("year").is_in((1990, 1995)) & attribute("title").exists()}) == 1
