"""Bad requests: each is refused with a status, a reason, and a message that names field, expected
and got.
"""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from shortlist.v1 import errors_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub

INVALID = grpc.StatusCode.INVALID_ARGUMENT
USER = types.Query(user=types.UserQuery(id="u1"))


def user(**fields: Any) -> types.Query:
    return types.Query(user=types.UserQuery(**fields))


def embedding(*values: float) -> types.Query:
    return types.Query(embedding=types.Embedding(values=values))


def recommend(query: types.Query | None = USER, **fields: Any) -> tuple[str, Any]:
    return "Recommend", pb.RecommendRequest(query=query, **fields)


def retrieve(**fields: Any) -> tuple[str, Any]:
    return "Retrieve", pb.RetrieveRequest(query=USER, **fields)


def rank(*item_ids: str, query: types.Query = USER, **fields: Any) -> tuple[str, Any]:
    return "Rank", pb.RankRequest(query=query, item_ids=item_ids, **fields)


def similar(item_id: str = "i1", **fields: Any) -> tuple[str, Any]:
    return "FindSimilarItems", pb.FindSimilarItemsRequest(item_id=item_id, **fields)


def options(**fields: Any) -> types.RetrievalOptions:
    return types.RetrievalOptions(**fields)


def history(**fields: Any) -> types.Query:
    return user(history=[types.HistoryEvent(**({"item_id": "i1"} | fields))])


NAN = float("nan")
LONG = "x" * 257

CASES = [
    # call, reason, field, expected (a part), got
    (recommend(None), "FIELD_REQUIRED", "query", "embedding, text", "none"),
    (recommend(types.Query()), "FIELD_REQUIRED", "query", "embedding, text", "none"),
    (recommend(types.Query(text="a" * 2049)), "OUT_OF_RANGE", "query.text", "2048", "2049 bytes"),
    (
        recommend(types.Query(text=" \n\x07")),
        "INVALID_VALUE",
        "query.text",
        "words",
        "nothing but white space and control characters",
    ),
    (
        recommend(types.Query(text="a heist")),
        "INVALID_VALUE",
        "query.text",
        "none: the bundle has no text embeddings",
        "a text",
    ),
    (
        recommend(sources=[types.SourceOptions(text=types.TextSource())]),
        "INVALID_VALUE",
        "sources[0].text",
        "another: the bundle has no text embeddings",
        "text",
    ),
    (
        similar(similarity=2),
        "INVALID_VALUE",
        "similarity",
        "another: the bundle has no text embeddings",
        "text",
    ),
    (similar(similarity=7), "INVALID_VALUE", "similarity", "a value of Similarity", "7"),
    (recommend(limit=501), "OUT_OF_RANGE", "limit", "1..500", "501"),
    (recommend(limit=-1), "OUT_OF_RANGE", "limit", "1..500", "-1"),
    (
        recommend(retrieval=options(candidate_count=4097)),
        "OUT_OF_RANGE",
        "retrieval.candidate_count",
        "1..4096",
        "4097",
    ),
    (
        recommend(limit=30, retrieval=options(candidate_count=29)),
        "OUT_OF_RANGE",
        "retrieval.candidate_count",
        "30",
        "29",
    ),
    (
        recommend(retrieval=options(candidate_count=19)),
        "OUT_OF_RANGE",
        "retrieval.candidate_count",
        "20",
        "19",
    ),
    (recommend(retrieval=options(ef=4097)), "OUT_OF_RANGE", "retrieval.ef", "1..4096", "4097"),
    (
        recommend(retrieval=options(ef=10, exact=True)),
        "INVALID_VALUE",
        "retrieval.ef",
        "0 where retrieval.exact",
        "10",
    ),
    (
        recommend(embedding(*[1.0] * 7)),
        "DIMENSION_MISMATCH",
        "query.embedding.values",
        "8 numbers",
        "7 numbers",
    ),
    (
        recommend(embedding()),
        "DIMENSION_MISMATCH",
        "query.embedding.values",
        "8 numbers",
        "0 numbers",
    ),
    (
        recommend(embedding(1, 2, NAN, 4, 5, 6, 7, 8)),
        "INVALID_VALUE",
        "query.embedding.values[2]",
        "finite",
        "nan",
    ),
    (
        recommend(embedding(*[float("inf")] * 8)),
        "INVALID_VALUE",
        "query.embedding.values[0]",
        "finite",
        "inf",
    ),
    (
        recommend(embedding(*[3e38] * 8)),
        "OUT_OF_RANGE",
        "query.embedding.values[0]",
        "1e+15",
        "3e+38",
    ),
    (
        recommend(types.Query(items=types.ItemsQuery())),
        "FIELD_REQUIRED",
        "query.items.item_ids",
        "1..1000",
        "none",
    ),
    (
        recommend(types.Query(items=types.ItemsQuery(item_ids=["i1"] * 1001))),
        "OUT_OF_RANGE",
        "query.items.item_ids",
        "1000",
        "1001",
    ),
    (recommend(user(id=LONG)), "OUT_OF_RANGE", "query.user.id", "256 bytes", "257 bytes"),
    (recommend(user(id="é" * 129)), "OUT_OF_RANGE", "query.user.id", "256 bytes", "258 bytes"),
    (
        recommend(history(item_id="")),
        "FIELD_REQUIRED",
        "query.user.history[0].item_id",
        "1..256",
        "an empty text",
    ),
    (
        recommend(history(rating=NAN)),
        "INVALID_VALUE",
        "query.user.history[0].rating",
        "finite",
        "nan",
    ),
    (
        recommend(history(action="x" * 65)),
        "OUT_OF_RANGE",
        "query.user.history[0].action",
        "64",
        "65 bytes",
    ),
    (
        recommend(user(history=[types.HistoryEvent(item_id="i1")] * 1001)),
        "OUT_OF_RANGE",
        "query.user.history",
        "1000",
        "1001",
    ),
    (
        recommend(user(features={"age": types.Value(string_value="old")})),
        "FEATURE_TYPE_MISMATCH",
        'query.user.features["age"]',
        "double",
        "string",
    ),
    (
        recommend(user(features={"age": types.Value(double_value=NAN)})),
        "INVALID_VALUE",
        'query.user.features["age"]',
        "finite",
        "nan",
    ),
    (
        recommend(user(features={"age": types.Value()})),
        "INVALID_VALUE",
        'query.user.features["age"]',
        "one kind",
        "a Value without a kind",
    ),
    (
        recommend(
            types.Query(user=types.UserQuery(), context={"hour": types.Value(double_value=1)})
        ),
        "FEATURE_TYPE_MISMATCH",
        'query.context["hour"]',
        "int64",
        "double",
    ),
    (
        recommend(user(features={f"f{n}": types.Value(bool_value=True) for n in range(257)})),
        "OUT_OF_RANGE",
        "query.user.features",
        "256",
        "257",
    ),
    (
        recommend(exclusions=types.Exclusions(item_ids=["i1"] * 100_001)),
        "OUT_OF_RANGE",
        "exclusions.item_ids",
        "100000",
        "100001",
    ),
    (
        recommend(exclusions=types.Exclusions(item_ids=["i1", ""])),
        "FIELD_REQUIRED",
        "exclusions.item_ids[1]",
        "1..256",
        "an empty text",
    ),
    (recommend(attributes=["title"] * 257), "OUT_OF_RANGE", "attributes", "256", "257"),
    (
        recommend(output_weights={"like": NAN}),
        "INVALID_VALUE",
        'output_weights["like"]',
        "finite",
        "nan",
    ),
    (
        recommend(output_weights={"lik": 1.0}),
        "UNKNOWN_OUTPUT",
        "output_weights",
        "rating, like",
        "lik",
    ),
    (
        recommend(user(features={"agee": types.Value(int64_value=1)}), strict=True),
        "UNKNOWN_FEATURE",
        "query.user.features",
        "age, segment",
        "agee",
    ),
    (
        recommend(strict=True, attributes=["titel"]),
        "UNKNOWN_ATTRIBUTE",
        "attributes",
        "genres, title, year",
        "titel",
    ),
    (
        recommend(history(item_id="ghost"), strict=True),
        "UNKNOWN_ITEM",
        "query.user.history",
        "ids of items",
        "ghost",
    ),
    (
        retrieve(retrieval=options(candidate_count=-1)),
        "OUT_OF_RANGE",
        "retrieval.candidate_count",
        "1..4096",
        "-1",
    ),
    (rank(), "FIELD_REQUIRED", "item_ids", "1..4096", "none"),
    (rank(*["i1"] * 4097), "OUT_OF_RANGE", "item_ids", "4096", "4097"),
    (rank("i1", LONG), "OUT_OF_RANGE", "item_ids[1]", "256 bytes", "257 bytes"),
    (
        rank("i1", "i2", "i3", excluded_item_ids=["i3", "i1"]),
        "EXCLUDED_ITEM_REQUESTED",
        "item_ids",
        "none of",
        "i1, i3",
    ),
    (rank("i1", "ghost", strict=True), "UNKNOWN_ITEM", "item_ids", "ids of items", "ghost"),
    (similar(""), "FIELD_REQUIRED", "item_id", "the id of an item", "none"),
    (similar(limit=501), "OUT_OF_RANGE", "limit", "1..500", "501"),
]


@pytest.mark.parametrize(
    ("call", "reason", "field", "expected", "got"),
    CASES,
    ids=[f"{case[1]}-{case[2]}-{case[4][:12]}" for case in CASES],
)
def test_bad_request_is_refused_by_field(
    stub: Stub, refuse: Any, call: tuple[str, Any], reason: str, field: str, expected: str, got: str
) -> None:
    method, request = call
    refusal = refuse(getattr(stub, method), request)
    assert refusal.code is INVALID
    assert (refusal.info.domain, refusal.info.reason) == ("shortlist", reason)
    assert refusal.info.metadata["field"] == field
    assert expected in refusal.info.metadata["expected"]
    assert refusal.info.metadata["got"] == got
    for part in (field, expected, got):
        assert part in refusal.message
    assert [violation.field for violation in refusal.violations] == [field]
    assert errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (
            recommend(types.Query(items=types.ItemsQuery(item_ids=["ghost"]))),
            "query.items.item_ids",
        ),
        (similar("ghost"), "item_id"),
    ],
)
def test_query_over_items_of_which_none_is_known_is_not_found(
    stub: Stub, refuse: Any, call: tuple[str, Any], field: str
) -> None:
    refusal = refuse(getattr(stub, call[0]), call[1])
    assert refusal.code is grpc.StatusCode.NOT_FOUND
    assert refusal.info.reason == "UNKNOWN_ITEM"
    assert refusal.info.metadata["field"] == field
    assert refusal.info.metadata["got"] == "ghost"


def test_error_that_lists_much_still_arrives_with_its_details(stub: Stub, refuse: Any) -> None:
    """gRPC drops metadata over 8 KiB, and the error with it."""
    ghosts = [f"{number:036}é" for number in range(100)]
    for call in (
        rank(*ghosts, strict=True),
        recommend(strict=True, attributes=["x" * 100_000]),
        recommend(user(features={"ü" * 50_000: types.Value(int64_value=1)}), strict=True),
    ):
        refusal = refuse(getattr(stub, call[0]), call[1])
        assert refusal.code is INVALID
        assert refusal.info.reason.startswith("UNKNOWN_")
        assert refusal.info.metadata["got"].endswith("...")
        assert len(refusal.info.metadata["got"]) > 100


def test_oversized_request_is_refused_before_it_is_read(stub: Stub) -> None:
    request = pb.RecommendRequest(query=USER, attributes=["x" * (4 << 20)])
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4194304" in caught.value.details()


def test_exclusions_at_their_limit_are_answered(stub: Stub) -> None:
    excluded = [f"i{number}" for number in range(40, 100_040)]
    answer = stub.Recommend(
        pb.RecommendRequest(query=USER, limit=60, exclusions=types.Exclusions(item_ids=excluded)),
        timeout=10,
    )
    assert {int(item.id.removeprefix("i")) for item in answer.items} <= set(range(40))


@pytest.mark.parametrize("timeout", [0.0, 1e-6])
def test_expired_deadline_ends_the_call(stub: Stub, timeout: float) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Recommend(pb.RecommendRequest(query=USER), timeout=timeout)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/shortlist.v1.RecommendationService/Guess")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_bytes_that_are_no_message_do_not_harm_the_server(
    channel: grpc.Channel, stub: Stub
) -> None:
    call = channel.unary_unary("/shortlist.v1.RecommendationService/Recommend")
    with pytest.raises(grpc.RpcError):
        call(b"\xff\xff\xff", timeout=10)
    assert stub.Recommend(pb.RecommendRequest(query=USER), timeout=10).items
