"""Feature values and attributes between Python and the wire."""

from __future__ import annotations

import fractions
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist.v1 import types_pb2
from shortlist_client import InvalidValue, OutOfRange
from shortlist_client.values import value_from_proto, value_to_proto

INT64 = st.integers(-(2**63), 2**63 - 1)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.one_of(TEXT, INT64, FINITE, st.booleans())
LISTS = st.one_of(*(st.lists(kind, min_size=1) for kind in (TEXT, INT64, FINITE, st.booleans())))


@given(SCALARS | LISTS)
def test_values_come_back_as_they_were_sent_and_of_the_same_type(value: Any) -> None:
    back = value_from_proto(value_to_proto(value, "field"))
    assert back == (tuple(value) if isinstance(value, list) else value)
    if isinstance(value, list):
        assert isinstance(back, tuple)
        assert list(map(type, back)) == list(map(type, value))
    else:
        assert type(back) is type(value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("a", "string_value"),
        ("", "string_value"),
        (True, "bool_value"),
        (1, "int64_value"),
        (0, "int64_value"),
        (1.0, "double_value"),
        ([], "string_list"),
        ((), "string_list"),
        (["a"], "string_list"),
        ([False], "bool_list"),
        ((1, 2), "int64_list"),
        ([1, 2.5], "double_list"),
        (fractions.Fraction(1, 2), "double_value"),
        (np.int64(3), "int64_value"),
        (np.float32(0.5), "double_value"),
        ([np.int32(3), 4], "int64_list"),
    ],
)
def test_each_type_is_sent_as_its_kind(value: Any, kind: str) -> None:
    assert value_to_proto(value, "field").WhichOneof("kind") == kind


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, [1, 2**63]])
def test_integers_beyond_64_bits_are_refused(value: Any) -> None:
    with pytest.raises(OutOfRange, match="64 bits"):
        value_to_proto(value, "field")


def test_integers_too_long_to_print_are_refused_like_others() -> None:
    with pytest.raises(OutOfRange, match="an integer of 16610 bits"):
        value_to_proto(10**5000, "field")


def test_a_number_beyond_64_bits_among_floating_point_ones_is_refused() -> None:
    with pytest.raises(OutOfRange, match=r"field\[1\]"):
        value_to_proto([0.5, 10**400], "field")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1.0, math.nan]])
def test_numbers_that_are_not_finite_are_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match="a finite number"):
        value_to_proto(value, "field")


@pytest.mark.parametrize("value", [["a", 1], [True, 1], [1.0, "a"], [True, "a"]])
def test_lists_that_mix_types_are_refused_by_their_types(value: Any) -> None:
    with pytest.raises(InvalidValue, match="a list of one type"):
        value_to_proto(value, "field")


@pytest.mark.parametrize("value", [None, b"bytes", {"a": 1}, {1, 2}, object(), [None], [[1]]])
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match="expected"):
        value_to_proto(value, "field")


def test_refusals_stay_short_whatever_the_value() -> None:
    with pytest.raises(InvalidValue) as caught:
        value_to_proto(b"x" * 10_000, "field")
    assert len(str(caught.value)) < 250


def test_a_kind_that_this_version_does_not_know_is_no_value() -> None:
    assert value_from_proto(types_pb2.Value()) is None
