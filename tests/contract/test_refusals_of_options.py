"""Filters, sources and selections out of their bounds: each is refused by its field."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from shortlist.v1 import errors_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub

USER = types.Query(user=types.UserQuery(id="u1"))
NAN = float("nan")
LONG = "é" * 129
EXISTS = types.Filter(exists=types.ExistsCondition(attribute="year"))
KINDS = "one of all_of, any_of, none_of, equals, is_in, range, contains, exists"


def recommend(**fields: Any) -> tuple[str, Any]:
    return "Recommend", pb.RecommendRequest(**({"query": USER} | fields))


def filtered(**kind: Any) -> tuple[str, Any]:
    return recommend(filter=types.Filter(**kind))


def equals(attribute: str, **held: Any) -> tuple[str, Any]:
    return filtered(equals=types.EqualsCondition(attribute=attribute, value=types.Value(**held)))


def contains(attribute: str, **held: Any) -> tuple[str, Any]:
    return filtered(
        contains=types.ContainsCondition(attribute=attribute, value=types.Value(**held))
    )


def is_in(attribute: str, **held: Any) -> tuple[str, Any]:
    return filtered(is_in=types.InCondition(attribute=attribute, values=types.Value(**held)))


def between(attribute: str, **bounds: Any) -> tuple[str, Any]:
    held = {name: types.Value(int64_value=bound) for name, bound in bounds.items()}
    return filtered(range=types.RangeCondition(attribute=attribute, **held))  # type: ignore[arg-type]


def joined(kind: str, *parts: types.Filter) -> types.Filter:
    return types.Filter(**{kind: types.FilterList(filters=parts)})  # type: ignore[arg-type]


def nested(levels: int) -> types.Filter:
    inner = EXISTS
    for _ in range(levels - 1):
        inner = joined("none_of", inner)
    return inner


def sources(*messages: types.SourceOptions, **fields: Any) -> tuple[str, Any]:
    return recommend(sources=messages, **fields)


def popularity(**fields: Any) -> types.SourceOptions:
    return types.SourceOptions(popularity=types.PopularitySource(**fields))


def caller(*item_ids: str) -> types.SourceOptions:
    return types.SourceOptions(caller=types.CallerSource(item_ids=item_ids))


NEAREST = types.SourceOptions(nearest=types.NearestSource())


def select(limit: int = 20, **fields: Any) -> tuple[str, Any]:
    return recommend(limit=limit, selection=types.SelectionOptions(**fields))


def cap(attribute: str = "year", most: int = 1) -> types.Cap:
    return types.Cap(attribute=attribute, item_count_max=most)


def pin(item_id: str = "i1", **fields: Any) -> types.PinnedItem:
    return types.PinnedItem(item_id=item_id, **fields)


def texts(*values: str) -> types.StringList:
    return types.StringList(values=values)


TEXT = types.Value(string_value="new")

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
    # Sources.
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
    # Selection.
    (select(score_min=NAN), "INVALID_VALUE", "selection.score_min", "finite", "nan"),
    (select(score_min=float("-inf")), "INVALID_VALUE", "selection.score_min", "finite", "-inf"),
    (select(diversity=-0.1), "OUT_OF_RANGE", "selection.diversity", "0..1", "-0.1"),
    (select(diversity=1.5), "OUT_OF_RANGE", "selection.diversity", "0..1", "1.5"),
    (select(diversity=NAN), "OUT_OF_RANGE", "selection.diversity", "0..1", "nan"),
    (select(caps=[cap()] * 17), "OUT_OF_RANGE", "selection.caps", "16", "17"),
    (
        select(caps=[cap(), cap("")]),
        "FIELD_REQUIRED",
        "selection.caps[1].attribute",
        "the name",
        "none",
    ),
    (select(caps=[cap(most=0)]), "OUT_OF_RANGE", "selection.caps[0].item_count_max", "1..500", "0"),
    (
        select(caps=[cap(most=501)]),
        "OUT_OF_RANGE",
        "selection.caps[0].item_count_max",
        "1..500",
        "501",
    ),
    (
        select(caps=[cap(), cap("yea")]),
        "UNKNOWN_ATTRIBUTE",
        "selection.caps[1].attribute",
        "year, ",
        "yea",
    ),
    (
        select(500, pinned_items=[pin(f"i{n}") for n in range(101)]),
        "OUT_OF_RANGE",
        "selection.pinned_items",
        "100",
        "101",
    ),
    (
        select(2, pinned_items=[pin(f"i{n}") for n in range(3)]),
        "OUT_OF_RANGE",
        "selection.pinned_items",
        "2",
        "3",
    ),
    (
        select(pinned_items=[pin("")]),
        "FIELD_REQUIRED",
        "selection.pinned_items[0].item_id",
        "1..256",
        "an empty text",
    ),
    (
        select(pinned_items=[pin(LONG)]),
        "OUT_OF_RANGE",
        "selection.pinned_items[0].item_id",
        "256 bytes",
        "258 bytes",
    ),
    (
        select(pinned_items=[pin(), pin()]),
        "INVALID_VALUE",
        "selection.pinned_items[1].item_id",
        "no item twice",
        "i1",
    ),
    (
        select(5, pinned_items=[pin(position=5)]),
        "OUT_OF_RANGE",
        "selection.pinned_items[0].position",
        "0..4",
        "5",
    ),
    (
        select(pinned_items=[pin(position=-1)]),
        "OUT_OF_RANGE",
        "selection.pinned_items[0].position",
        "0..19",
        "-1",
    ),
    (
        select(pinned_items=[pin(position=0), pin("i2", position=0)]),
        "INVALID_VALUE",
        "selection.pinned_items[1].position",
        "no position twice",
        "0",
    ),
    (
        recommend(
            selection=types.SelectionOptions(pinned_items=[pin("i1"), pin("i2"), pin("i3")]),
            exclusions=types.Exclusions(item_ids=["i3", "i1"]),
        ),
        "EXCLUDED_ITEM_REQUESTED",
        "selection.pinned_items",
        "none of exclusions.item_ids",
        "i1, i3",
    ),
    (
        recommend(selection=types.SelectionOptions(pinned_items=[pin("ghost")]), strict=True),
        "UNKNOWN_ITEM",
        "selection.pinned_items",
        "ids of items",
        "ghost",
    ),
    *(
        (
            select(exploration=types.Exploration(temperature=temperature)),
            "OUT_OF_RANGE",
            "selection.exploration.temperature",
            "1e-06..1e+06, or 0",
            got,
        )
        for temperature, got in ((-1.0, "-1"), (1e-7, "1e-07"), (1.1e6, "1.1e+06"), (NAN, "nan"))
    ),
    # What else there is beside Recommend.
    (
        ("Retrieve", pb.RetrieveRequest(query=USER, filter=types.Filter())),
        "FIELD_REQUIRED",
        "filter",
        KINDS,
        "none",
    ),
    (
        ("Retrieve", pb.RetrieveRequest(query=USER, sources=[NEAREST, NEAREST])),
        "INVALID_VALUE",
        "sources[1].name",
        "a name",
        "nearest twice",
    ),
    (
        ("Retrieve", pb.RetrieveRequest(query=USER, retrieval=types.RetrievalOptions(ef=4_097))),
        "OUT_OF_RANGE",
        "retrieval.ef",
        "1..4096",
        "4097",
    ),
    (
        ("Retrieve", pb.RetrieveRequest(query=USER, attributes=["a"] * 257)),
        "OUT_OF_RANGE",
        "attributes",
        "256",
        "257",
    ),
    (
        ("Retrieve", pb.RetrieveRequest(query=USER, exclusions=types.Exclusions(item_ids=[""]))),
        "FIELD_REQUIRED",
        "exclusions.item_ids[0]",
        "1..256",
        "an empty text",
    ),
    (
        ("Retrieve", pb.RetrieveRequest()),
        "FIELD_REQUIRED",
        "query",
        "one of user, items, embedding",
        "none",
    ),
    (
        ("FindSimilarItems", pb.FindSimilarItemsRequest(item_id="i1", filter=types.Filter())),
        "FIELD_REQUIRED",
        "filter",
        KINDS,
        "none",
    ),
    (
        (
            "FindSimilarItems",
            pb.FindSimilarItemsRequest(
                item_id="i1", limit=5, retrieval=types.RetrievalOptions(candidate_count=4)
            ),
        ),
        "OUT_OF_RANGE",
        "retrieval.candidate_count",
        "at least limit, which is 5",
        "4",
    ),
    (
        ("FindSimilarItems", pb.FindSimilarItemsRequest(item_id=LONG)),
        "OUT_OF_RANGE",
        "item_id[0]",
        "256 bytes",
        "258 bytes",
    ),
    (
        ("FindSimilarItems", pb.FindSimilarItemsRequest(item_id="i1", excluded_item_ids=[""])),
        "FIELD_REQUIRED",
        "excluded_item_ids[0]",
        "1..256",
        "an empty text",
    ),
    (
        ("FindSimilarItems", pb.FindSimilarItemsRequest(item_id="i1", attributes=["a"] * 257)),
        "OUT_OF_RANGE",
        "attributes",
        "256",
        "257",
    ),
    (
        ("Rank", pb.RankRequest(query=USER, item_ids=["i1"], excluded_item_ids=["i2"] * 100_001)),
        "OUT_OF_RANGE",
        "excluded_item_ids",
        "100000",
        "100001",
    ),
    (
        ("Rank", pb.RankRequest(query=USER, item_ids=["i1"], output_weights={"like": 2e15})),
        "OUT_OF_RANGE",
        'output_weights["like"]',
        "1e+15",
        "2e+15",
    ),
    (
        ("Rank", pb.RankRequest(query=USER, item_ids=["i1"], attributes=["a"] * 257)),
        "OUT_OF_RANGE",
        "attributes",
        "256",
        "257",
    ),
    (
        ("Rank", pb.RankRequest(item_ids=["i1"])),
        "FIELD_REQUIRED",
        "query",
        "one of user, items, embedding",
        "none",
    ),
    # Queries.
    (
        recommend(
            query=types.Query(user=types.UserQuery(), context={f"c{n}": TEXT for n in range(257)})
        ),
        "OUT_OF_RANGE",
        "query.context",
        "256",
        "257",
    ),
    (
        recommend(
            query=types.Query(
                user=types.UserQuery(
                    features={"age": types.Value(double_list=types.DoubleList(values=[1, NAN]))}
                )
            )
        ),
        "INVALID_VALUE",
        'query.user.features["age"]',
        "finite",
        "nan",
    ),
    (
        recommend(
            query=types.Query(
                user=types.UserQuery(history=[{"item_id": "i1", "time": {"nanos": 10**9}}])
            )
        ),
        "INVALID_VALUE",
        "query.user.history[0].time.nanos",
        "0..999999999",
        "1000000000",
    ),
    (
        recommend(query=types.Query(items=types.ItemsQuery(item_ids=["i1", ""]))),
        "FIELD_REQUIRED",
        "query.items.item_ids[1]",
        "1..256",
        "an empty text",
    ),
    (
        recommend(query=types.Query(user=types.UserQuery(history=[{"item_id": LONG}]))),
        "OUT_OF_RANGE",
        "query.user.history[0].item_id",
        "256 bytes",
        "258 bytes",
    ),
]


@pytest.mark.parametrize(
    ("call", "reason", "field", "expected", "got"),
    CASES,
    ids=[f"{number}-{case[2][:60]}" for number, case in enumerate(CASES)],
)
def test_option_out_of_bounds_is_refused_by_field(
    stub: Stub, refuse: Any, call: tuple[str, Any], reason: str, field: str, expected: str, got: str
) -> None:
    method, request = call
    refusal = refuse(getattr(stub, method), request)
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert refusal.info.domain == "shortlist"
    assert refusal.info.metadata["field"] == field
    assert expected in refusal.info.metadata["expected"]
    assert refusal.info.metadata["got"].startswith(got)
    assert refusal.message.startswith(f"{field}: expected ")
    assert [violation.field for violation in refusal.violations] == [field]
    assert errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")


ACCEPTED = {
    "a filter of 16 levels": recommend(filter=nested(16)),
    "1,024 parts": recommend(filter=joined("any_of", *[EXISTS] * 1_023)),
    "10,000 values": is_in("title", string_list=texts(*(f"t{n}" for n in range(10_000)))),
    "an integer where a double is": equals("year", int64_value=2**63 - 1),
    "16 sources": sources(
        *[
            types.SourceOptions(name=f"s{n}", nearest=types.NearestSource(), candidate_count=256)
            for n in range(16)
        ]
    ),
    "a name of 64 bytes": sources(
        types.SourceOptions(name="é" * 32, nearest=types.NearestSource())
    ),
    "4,096 named items": sources(
        types.SourceOptions(
            candidate_count=4_096, caller=types.CallerSource(item_ids=["i1"] * 4_096)
        )
    ),
    "1,000 events": sources(
        types.SourceOptions(recent_history=types.HistorySource(event_count=1_000))
    ),
    "16 caps": select(caps=[cap(most=500)] * 16),
    "100 pins": select(100, pinned_items=[pin(f"i{n}", position=n) for n in range(100)]),
    "diversity of 1": select(diversity=1.0),
    "the least temperature": select(exploration=types.Exploration(temperature=1e-6)),
    "the largest temperature": select(exploration=types.Exploration(temperature=1e6)),
    "the largest score_min": select(score_min=1.7e308),
    "the largest weights": recommend(output_weights={"rating": 1e15, "like": -1e15}),
    "ef at its largest": recommend(retrieval=types.RetrievalOptions(ef=4_096)),
    "the largest counts": recommend(
        limit=500, retrieval=types.RetrievalOptions(candidate_count=4_096, exact=True)
    ),
}


@pytest.mark.parametrize("call", ACCEPTED.values(), ids=ACCEPTED)
def test_option_at_its_bound_is_answered(stub: Stub, call: tuple[str, Any]) -> None:
    answer = getattr(stub, call[0])(call[1], timeout=20)
    assert answer.info.request_id
    assert not answer.info.degraded
