"""Selections, and the calls beside Recommend, out of their bounds: refused by field."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from request_messages import (
    KINDS,
    LONG,
    NAN,
    NEAREST,
    TEXT,
    USER,
    Call,
    cap,
    pin,
    recommend,
    rerank,
    select,
)
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types

CASES = [
    # call, reason, field, expected (a part), got (the beginning)
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
        "one of user, items, embedding, text",
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
        "one of user, items, embedding, text",
        "none",
    ),
    # What a language model is to do.
    (rerank(candidate_count=-1), "OUT_OF_RANGE", "rerank.candidate_count", "2..100", "-1"),
    (rerank(candidate_count=1), "OUT_OF_RANGE", "rerank.candidate_count", "2..100", "1"),
    (rerank(candidate_count=101), "OUT_OF_RANGE", "rerank.candidate_count", "2..100", "101"),
    (rerank(passes=-1), "OUT_OF_RANGE", "rerank.passes", "1..2", "-1"),
    (rerank(passes=3), "OUT_OF_RANGE", "rerank.passes", "1..2", "3"),
    (rerank(timeout=Duration()), "OUT_OF_RANGE", "rerank.timeout", "more than 0", "0 s"),
    (
        rerank(timeout=Duration(seconds=2**63 - 1)),
        "OUT_OF_RANGE",
        "rerank.timeout",
        "at most 315576000000 s",
        "9.22337e+18 s",
    ),
    (rerank(timeout=Duration(nanos=-1)), "OUT_OF_RANGE", "rerank.timeout", "more than 0", "-1e-09"),
    (
        rerank(timeout=Duration(seconds=1, nanos=10**9)),
        "INVALID_VALUE",
        "rerank.timeout.nanos",
        "0..999999999",
        "1000000000",
    ),
    (
        rerank(timeout=Duration(seconds=1, nanos=-1)),
        "INVALID_VALUE",
        "rerank.timeout.nanos",
        "0..999999999",
        "-1",
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
def test_bad_selection_is_refused_by_field(
    check_refused: Any, call: Call, reason: str, field: str, expected: str, got: str
) -> None:
    check_refused(call, reason, field, expected, got)
