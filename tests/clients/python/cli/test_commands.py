"""What the commands of `shortlist` ask the server for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from shortlist.v1 import bundle_pb2, recommendation_pb2, types_pb2

if TYPE_CHECKING:
    from tests.clients.python.conftest import FakeServer, Hang

BUNDLE = bundle_pb2.GetActiveBundleResponse(
    bundle=bundle_pb2.BundleInfo(
        features=[
            bundle_pb2.FieldInfo(name="user.age", type=types_pb2.VALUE_TYPE_INT64),
            bundle_pb2.FieldInfo(name="user.zip", type=types_pb2.VALUE_TYPE_STRING),
            bundle_pb2.FieldInfo(name="context.hour", type=types_pb2.VALUE_TYPE_INT64),
        ]
    )
)


def test_every_option_of_recommend_reaches_the_request(
    shortlist: Callable[..., int], fake_server: FakeServer
) -> None:
    fake_server.script(BUNDLE)
    arguments = (
        "recommend --user 42 --limit 7 --candidates 100 --ef 300 --exclude 1 2 --exclude 3 "
        "--include-seen --strict --attributes title year --history 50:4.5 181 a:b x:5: "
        "--feature age=33 zip=01234 --feature agee=1 --context hour=20"
    )
    assert shortlist(*arguments.split()) == 0
    described, asked = fake_server.received
    assert described.method == "GetActiveBundle"
    assert asked.request == recommendation_pb2.RecommendRequest(
        query=types_pb2.Query(
            user=types_pb2.UserQuery(
                id="42",
                features={
                    "age": types_pb2.Value(int64_value=33),
                    "zip": types_pb2.Value(string_value="01234"),
                    "agee": types_pb2.Value(string_value="1"),
                },
                history=[
                    types_pb2.HistoryEvent(item_id="50", rating=4.5),
                    types_pb2.HistoryEvent(item_id="181"),
                    types_pb2.HistoryEvent(item_id="a:b"),
                    types_pb2.HistoryEvent(item_id="x:5"),
                ],
            ),
            context={"hour": types_pb2.Value(int64_value=20)},
        ),
        limit=7,
        retrieval=types_pb2.RetrievalOptions(candidate_count=100, ef=300),
        exclusions=types_pb2.Exclusions(item_ids=["1", "2", "3"], seen=False),
        attributes=["title", "year"],
        strict=True,
    )


def test_the_other_commands_call_their_methods(
    shortlist: Callable[..., int], fake_server: FakeServer
) -> None:
    options = "--exact --candidates 9 --exclude 1 --strict"
    assert shortlist("retrieve", "--items", "50", "181", *options.split()) == 0
    assert shortlist("similar", "50", "--limit", "3", *options.split()) == 0
    assert shortlist("rank", "1", "2", "--user", "42", "--strict") == 0
    retrieval = types_pb2.RetrievalOptions(candidate_count=9, exact=True)
    retrieve, similar, rank = (call.request for call in fake_server.received)
    assert retrieve == recommendation_pb2.RetrieveRequest(
        query=types_pb2.Query(items=types_pb2.ItemsQuery(item_ids=["50", "181"])),
        retrieval=retrieval,
        exclusions=types_pb2.Exclusions(item_ids=["1"], seen=True),
        attributes=["*"],
        strict=True,
    )
    assert similar == recommendation_pb2.FindSimilarItemsRequest(
        item_id="50",
        limit=3,
        retrieval=retrieval,
        excluded_item_ids=["1"],
        attributes=["*"],
        strict=True,
    )
    assert rank == recommendation_pb2.RankRequest(
        query=types_pb2.Query(user=types_pb2.UserQuery(id="42")),
        item_ids=["1", "2"],
        attributes=["*"],
        strict=True,
    )


def test_features_cost_a_second_call_and_nothing_else_does(
    shortlist: Callable[..., int], fake_server: FakeServer
) -> None:
    shortlist("recommend", "--user", "42", "--history", "1:5")
    assert [call.method for call in fake_server.received] == ["Recommend"]
    shortlist("rank", "1", "--user", "42", "--context", "hour=1")
    assert [call.method for call in fake_server.received[1:]] == ["GetActiveBundle", "Rank"]


def test_a_value_that_is_not_of_its_type_is_refused_like_by_the_server(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.script(BUNDLE)
    assert shortlist("recommend", "--feature", "age=old") == 2
    assert "--feature age=old: expected int64" in capsys.readouterr().err


def test_the_target_may_be_named_by_option(
    shortlist: Callable[..., int],
    fake_server: FakeServer,
    start_server: Callable[..., FakeServer],
) -> None:
    other = start_server()
    assert shortlist("info", "--target", other.target) == 0
    assert (len(other.received), len(fake_server.received)) == (1, 0)


def test_the_timeout_is_the_deadline(
    shortlist: Callable[..., int], fake_server: FakeServer, hang: Hang
) -> None:
    fake_server.script(hang)
    assert shortlist("info", "--timeout", "0.05") == 1
