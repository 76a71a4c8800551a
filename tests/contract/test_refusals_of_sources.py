"""Sources out of their bounds: each is refused by its field."""

from __future__ import annotations

from typing import Any

import pytest
from request_messages import LONG, NEAREST, TEXT, Call, caller, popularity, sources
from shortlist.v1 import types_pb2 as types

CASES = [
    # call, reason, field, expected (a part), got (the beginning)
    (
        sources(
            *[
                types.SourceOptions(name=f"s{n}", nearest=types.NearestSource(), candidate_count=1)
                for n in range(17)
            ]
        ),
        "OUT_OF_RANGE",
        "sources",
        "16",
        "17",
    ),
    (
        sources(types.SourceOptions()),
        "FIELD_REQUIRED",
        "sources[0]",
        "a name that the bundle configures, or a kind",
        "neither",
    ),
    (
        sources(types.SourceOptions(name="é" * 33)),
        "OUT_OF_RANGE",
        "sources[0].name",
        "64 bytes",
        "66 bytes",
    ),
    (
        sources(types.SourceOptions(name="a", candidate_count=-1)),
        "OUT_OF_RANGE",
        "sources[0].candidate_count",
        "1..4096",
        "-1",
    ),
    (
        sources(types.SourceOptions(name="a", candidate_count=4_097)),
        "OUT_OF_RANGE",
        "sources[0].candidate_count",
        "1..4096",
        "4097",
    ),
    (
        sources(NEAREST, NEAREST),
        "INVALID_VALUE",
        "sources[1].name",
        "a name for each source",
        "nearest twice",
    ),
    (
        # Unnamed, it is called after how the embedding came about: `two_tower`.
        sources(
            types.SourceOptions(name="two_tower", popularity=types.PopularitySource()), NEAREST
        ),
        "INVALID_VALUE",
        "sources[1].name",
        "a name for each source",
        "two_tower twice",
    ),
    (
        sources(
            types.SourceOptions(name="a", nearest=types.NearestSource(), candidate_count=4_000),
            popularity(),
        ),
        "OUT_OF_RANGE",
        "sources",
        "4096 candidates of all sources together",
        "4200",
    ),
    (
        sources(types.SourceOptions(name="nearst")),
        "UNKNOWN_SOURCE",
        "sources[0].name",
        "nearest",
        "nearst",
    ),
    (
        sources(types.SourceOptions(recent_history=types.HistorySource(event_count=1_001))),
        "OUT_OF_RANGE",
        "sources[0].recent_history.event_count",
        "1..1000",
        "1001",
    ),
    (
        sources(types.SourceOptions(recent_history=types.HistorySource(event_count=-1))),
        "OUT_OF_RANGE",
        "sources[0].recent_history.event_count",
        "1..1000",
        "-1",
    ),
    (
        sources(popularity(value=TEXT)),
        "FIELD_REQUIRED",
        "sources[0].popularity.attribute",
        "the attribute",
        "none",
    ),
    (
        sources(popularity(feature="user.segment")),
        "FIELD_REQUIRED",
        "sources[0].popularity.attribute",
        "the attribute",
        "none",
    ),
    (
        sources(popularity(attribute="title")),
        "INVALID_VALUE",
        "sources[0].popularity",
        "one of value and feature",
        "neither",
    ),
    (
        sources(popularity(attribute="title", value=TEXT, feature="user.segment")),
        "INVALID_VALUE",
        "sources[0].popularity",
        "one of value and feature",
        "both",
    ),
    (
        sources(popularity(attribute="title", value=types.Value())),
        "INVALID_VALUE",
        "sources[0].popularity.value",
        "one string",
        "none",
    ),
    (
        sources(NEAREST, popularity(attribute="titel", value=TEXT)),
        "UNKNOWN_ATTRIBUTE",
        "sources[1].popularity.attribute",
        "title, ",
        "titel",
    ),
    (
        sources(NEAREST, popularity(attribute="year", value=TEXT)),
        "ATTRIBUTE_TYPE_MISMATCH",
        "sources[1].popularity.value",
        "int64, the type of year",
        "string 'new'",
    ),
    (sources(caller()), "FIELD_REQUIRED", "sources[0].caller.item_ids", "1..4096", "none"),
    (
        sources(caller(*["i1"] * 4_097)),
        "OUT_OF_RANGE",
        "sources[0].caller.item_ids",
        "4096",
        "4097",
    ),
    (
        sources(caller("i1", LONG)),
        "OUT_OF_RANGE",
        "sources[0].caller.item_ids[1]",
        "256 bytes",
        "258 bytes",
    ),
    (
        sources(caller("i1", "ghost"), strict=True),
        "UNKNOWN_ITEM",
        "sources[0].caller.item_ids",
        "ids of items",
        "ghost",
    ),
]


@pytest.mark.parametrize(
    ("call", "reason", "field", "expected", "got"),
    CASES,
    ids=[f"{number}-{case[2][:60]}" for number, case in enumerate(CASES)],
)
def test_bad_source_is_refused_by_field(
    check_refused: Any, call: Call, reason: str, field: str, expected: str, got: str
) -> None:
    check_refused(call, reason, field, expected, got)
