"""Conditions as people type them."""

from __future__ import annotations

import argparse

import pytest
from shortlist_client import FieldInfo, Filter, InvalidValue, ValueType, attribute
from shortlist_client.cli.conditions import OPERATORS, filter_from_conditions
from shortlist_client.cli.notation import condition

YEAR, TITLE, GENRES = attribute("year"), attribute("title"), attribute("genres")
DECLARED = [
    FieldInfo(name="year", type=ValueType.INT64),
    FieldInfo(name="title", type=ValueType.STRING),
    FieldInfo(name="genres", type=ValueType.STRING_LIST),
    FieldInfo(name="sizes", type=ValueType.INT64_LIST),
    FieldInfo(name="price", type=ValueType.DOUBLE),
    FieldInfo(name="new", type=ValueType.BOOL),
    FieldInfo(name="hologram", type=ValueType.UNRECOGNIZED),
]


def read(*arguments: str) -> Filter:
    conditions = [condition(argument) for argument in arguments]
    return filter_from_conditions(conditions, DECLARED, flag="--where")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("year=1990", YEAR.equals(1990)),
        ("year!=1990", ~YEAR.equals(1990)),
        ("year>1990", YEAR.above(1990)),
        ("year>=1990", YEAR.at_least(1990)),
        ("year<1990", YEAR.below(1990)),
        ("year<=1990", YEAR.at_most(1990)),
        ("year >= 1990", YEAR.at_least(1990)),
        ("year=-5", YEAR.equals(-5)),
        ("price<9", attribute("price").below(9.0)),
        ("new=yes", attribute("new").equals(True)),
        ("genres:Drama", GENRES.contains("Drama")),
        ("sizes:42", attribute("sizes").contains(42)),
        ("title=1990", TITLE.equals("1990")),
        ("title=", TITLE.equals("")),
        ("title=2001: A Space Odyssey", TITLE.equals("2001: A Space Odyssey")),
        ("title=a>=b", TITLE.equals("a>=b")),
        ("genres:Sci-Fi, Drama", GENRES.contains("Sci-Fi, Drama")),
        ("yeer=1990", attribute("yeer").equals("1990")),
        ("hologram=1", attribute("hologram").equals("1")),
    ],
)
def test_a_condition_takes_the_type_that_the_bundle_declares(
    argument: str, expected: Filter
) -> None:
    assert repr(read(argument)) == repr(expected)


def test_several_conditions_must_all_hold() -> None:
    assert read("year>=1990", "genres:War") == YEAR.at_least(1990) & GENRES.contains("War")


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_is_read(operator: str) -> None:
    assert condition(f"title{operator}x").operator == operator


@pytest.mark.parametrize("argument", ["", "year", "=1990", ">=1990", " :x"])
def test_what_is_no_condition_is_refused(argument: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected an attribute, one of"):
        condition(argument)


@pytest.mark.parametrize(
    ("argument", "kind"),
    [("year=1990.5", "int64"), ("sizes:big", "int64"), ("price<x", "double"), ("new=2", "bool")],
)
def test_a_value_of_another_type_is_refused_by_name(argument: str, kind: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        read(argument)
    assert str(caught.value).startswith(f"--where {argument}: expected {kind}, as the bundle")
