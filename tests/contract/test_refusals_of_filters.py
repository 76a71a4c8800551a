"""Filters out of their bounds, or against the schema: each is refused by its field."""

from __future__ import annotations

from typing import Any

import pytest
from request_messages import (
    EXISTS,
    KINDS,
    NAN,
    Call,
    between,
    contains,
    equals,
    filtered,
    is_in,
    joined,
    nested,
    recommend,
    texts,
)
from shortlist.v1 import types_pb2 as types

CASES = [
    # call, reason, field, expected (a part), got (the beginning)
    (recommend(filter=types.Filter()), "FIELD_REQUIRED", "filter", KINDS, "none"),
    (
        recommend(exclusions=types.Exclusions(filter=types.Filter())),
        "FIELD_REQUIRED",
        "exclusions.filter",
        KINDS,
        "none",
    ),
    (
        recommend(filter=joined("all_of", EXISTS, types.Filter())),
        "FIELD_REQUIRED",
        "filter.all_of.filters[1]",
        KINDS,
        "none",
    ),
    (
        recommend(filter=joined("any_of")),
        "FIELD_REQUIRED",
        "filter.any_of.filters",
        "1 or more",
        "none",
    ),
    (
        recommend(filter=nested(17)),
        "OUT_OF_RANGE",
        "filter" + ".none_of.filters[0]" * 16,
        "16 levels",
        "17",
    ),
    (
        recommend(filter=joined("any_of", *[EXISTS] * 1_025)),
        "OUT_OF_RANGE",
        "filter.any_of.filters",
        "1024",
        "1025",
    ),
    (
        recommend(filter=joined("any_of", *[EXISTS] * 1_024)),
        "OUT_OF_RANGE",
        "filter",
        "1024",
        "1025",
    ),
    (
        filtered(exists=types.ExistsCondition()),
        "FIELD_REQUIRED",
        "filter.exists.attribute",
        "the name",
        "none",
    ),
    (equals("year"), "INVALID_VALUE", "filter.equals.value", "one string, int64", "none"),
    (
        equals("title", string_list=texts("a")),
        "INVALID_VALUE",
        "filter.equals.value",
        "one string, int64",
        "string_list",
    ),
    (equals("year", double_value=NAN), "INVALID_VALUE", "filter.equals.value", "finite", "nan"),
    (contains("genres"), "INVALID_VALUE", "filter.contains.value", "one string, int64", "none"),
    (is_in("year"), "INVALID_VALUE", "filter.is_in.values", "a list", "none"),
    (is_in("year", int64_value=3), "INVALID_VALUE", "filter.is_in.values", "a list", "int64_value"),
    (
        is_in("title", string_list=texts()),
        "FIELD_REQUIRED",
        "filter.is_in.values",
        "1 or more",
        "none",
    ),
    (
        is_in("title", string_list=texts(*["x"] * 10_001)),
        "OUT_OF_RANGE",
        "filter.is_in.values",
        "10000",
        "10001",
    ),
    (
        is_in("year", double_list=types.DoubleList(values=[1, NAN])),
        "INVALID_VALUE",
        "filter.is_in.values[1]",
        "finite",
        "nan",
    ),
    (between("year"), "FIELD_REQUIRED", "filter.range", "at_least, above, at_most, below", "none"),
    (
        between("year", at_least=1, above=1),
        "INVALID_VALUE",
        "filter.range",
        "at_least or above",
        "both",
    ),
    (
        between("year", at_most=1, below=1),
        "INVALID_VALUE",
        "filter.range",
        "at_most or below",
        "both",
    ),
    (
        filtered(range=types.RangeCondition(attribute="year", below=types.Value())),
        "INVALID_VALUE",
        "filter.range.below",
        "one string, int64",
        "none",
    ),
    # Against the bundle's schema.
    (
        equals("yaer", int64_value=1),
        "UNKNOWN_ATTRIBUTE",
        "filter.equals.attribute",
        "year, genres, title (did you mean 'year'?)",
        "yaer",
    ),
    (
        recommend(
            exclusions=types.Exclusions(
                filter=joined("none_of", EXISTS, equals("tilte", bool_value=True)[1].filter)
            )
        ),
        "UNKNOWN_ATTRIBUTE",
        "exclusions.filter.none_of.filters[1].equals.attribute",
        "title, ",
        "tilte",
    ),
    (
        filtered(exists=types.ExistsCondition(attribute="x" * 400)),
        "UNKNOWN_ATTRIBUTE",
        "filter.exists.attribute",
        "genres, title, year",
        "x" * 320 + " ...",
    ),
    (
        equals("year", string_value="1990"),
        "ATTRIBUTE_TYPE_MISMATCH",
        "filter.equals.value",
        "int64, the type of year",
        "string '1990'",
    ),
    (
        equals("year", double_value=1.0),
        "ATTRIBUTE_TYPE_MISMATCH",
        "filter.equals.value",
        "int64, the type of year",
        "double 1.0",
    ),
    (
        equals("year", bool_value=True),
        "ATTRIBUTE_TYPE_MISMATCH",
        "filter.equals.value",
        "int64, the type of year",
        "bool True",
    ),
    (
        equals("title", int64_value=1),
        "ATTRIBUTE_TYPE_MISMATCH",
        "filter.equals.value",
        "string, the type of title",
        "int64 1",
    ),
    (
        equals("genres", string_value="Drama"),
        "ATTRIBUTE_TYPE_MISMATCH",
        "filter.equals",
        "contains or exists",
        "equals",
    ),
    (
        is_in("genres", string_list=texts("Drama")),
        "ATTRIBUTE_TYPE_MISMATCH",
        "filter.is_in",
        "contains or exists: genres is string_list",
        "is_in",
    ),
    (
        between("genres", below=3),
        "ATTRIBUTE_TYPE_MISMATCH",
        "filter.range",
        "contains or exists",
        "range",
    ),
    (
        between("title", below=3),
        "ATTRIBUTE_TYPE_MISMATCH",
        "filter.range.below",
        "string",
        "int64 3",
    ),
    (
        contains("year", int64_value=1),
        "ATTRIBUTE_TYPE_MISMATCH",
        "filter.contains",
        "equals, is_in or range",
        "contains, and year is int64",
    ),
    (
        contains("genres", int64_value=1),
        "ATTRIBUTE_TYPE_MISMATCH",
        "filter.contains.value",
        "string, the type of genres",
        "int64 1",
    ),
]


@pytest.mark.parametrize(
    ("call", "reason", "field", "expected", "got"),
    CASES,
    ids=[f"{number}-{case[2][:60]}" for number, case in enumerate(CASES)],
)
def test_bad_filter_is_refused_by_field(
    check_refused: Any, call: Call, reason: str, field: str, expected: str, got: str
) -> None:
    check_refused(call, reason, field, expected, got)
