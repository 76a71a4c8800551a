"""What the commands of `shortlist` ask the server for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from shortlist.v1 import bundle_pb2, catalog_pb2, recommendation_pb2, types_pb2
from shortlist_client import Filter, attribute
from shortlist_client.requests import filter_to_proto

if TYPE_CHECKING:
    from tests.clients.python.conftest import FakeServer, Hang

BUNDLE = bundle_pb2.GetActiveBundleResponse(
    bundle=bundle_pb2.BundleInfo(
        features=[
            bundle_pb2.FieldInfo(name="user.age", type=types_pb2.VALUE_TYPE_INT64),
            bundle_pb2.FieldInfo(name="user.zip", type=types_pb2.VALUE_TYPE_STRING),
            bundle_pb2.FieldInfo(name="context.hour", type=types_pb2.VALUE_TYPE_INT64),
        ],
        item_attributes=[
            bundle_pb2.FieldInfo(name="genres", type=types_pb2.VALUE_TYPE_STRING_LIST),
            bundle_pb2.FieldInfo(name="title", type=types_pb2.VALUE_TYPE_STRING),
            bundle_pb2.FieldInfo(name="year", type=types_pb2.VALUE_TYPE_INT64),
        ],
    )
)


def to_filter(filter_: Filter) -> types_pb2.Filter:
    message = filter_to_proto(filter_, "filter")
    assert message is not None
    return message


def test_every_option_of_recommend_reaches_the_request(
    shortlist: Callable[..., int], fake_server: FakeServer
) -> None:
    fake_server.script(BUNDLE)
    arguments = (
        "recommend --user 42 --limit 7 --candidates 100 --ef 300 --exclude 1 2 --exclude 3 "
        "--include-seen --strict --attributes title year --history 50:4.5 181 a:b x:5: "
        "--feature age=33 zip=01234 --feature agee=1 --context hour=20 "
        "--where year>=1990 genres:Drama --where title!=Heat "
        "--exclude-where year<1995 year>1991 --exclude-where genres:War "
        "--source nearest=100 popularity=20 --source recent_history trending=5 new "
        "--score-min -0.5 --diversity 0.25 --cap genres=3 year=1 --pin 9 8@2 x@5@ a@b "
        "--temperature 0.5 --seed -7 --rerank 30 --reasons --passes 2 --explain --debug"
    )
    assert shortlist(*arguments.split()) == 0
    described, asked = fake_server.received
    year, genres = attribute("year"), attribute("genres")
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
        exclusions=types_pb2.Exclusions(
            item_ids=["1", "2", "3"],
            seen=False,
            filter=to_filter((year.below(1995) & year.above(1991)) | genres.contains("War")),
        ),
        filter=to_filter(
            year.at_least(1990) & genres.contains("Drama") & ~attribute("title").equals("Heat")
        ),
        sources=[
            types_pb2.SourceOptions(candidate_count=100, nearest=types_pb2.NearestSource()),
            types_pb2.SourceOptions(candidate_count=20, popularity=types_pb2.PopularitySource()),
            types_pb2.SourceOptions(recent_history=types_pb2.HistorySource()),
            types_pb2.SourceOptions(name="trending", candidate_count=5),
            types_pb2.SourceOptions(name="new"),
        ],
        selection=types_pb2.SelectionOptions(
            score_min=-0.5,
            diversity=0.25,
            caps=[
                types_pb2.Cap(attribute="genres", item_count_max=3),
                types_pb2.Cap(attribute="year", item_count_max=1),
            ],
            pinned_items=[
                types_pb2.PinnedItem(item_id="9"),
                types_pb2.PinnedItem(item_id="8", position=2),
                types_pb2.PinnedItem(item_id="x@5"),
                types_pb2.PinnedItem(item_id="a@b"),
            ],
            exploration=types_pb2.Exploration(temperature=0.5, seed=-7),
        ),
        rerank=types_pb2.RerankOptions(candidate_count=30, reasons=True, passes=2),
        attributes=["title", "year"],
        strict=True,
        explain=True,
        debug=True,
    )


def test_the_other_commands_call_their_methods(
    shortlist: Callable[..., int], fake_server: FakeServer
) -> None:
    options = "--exact --candidates 9 --exclude 1 --strict"
    assert shortlist("retrieve", "--items", "50", "181", *options.split()) == 0
    assert shortlist("similar", "50", "--limit", "3", *options.split()) == 0
    assert shortlist("rank", "1", "2", "--user", "42", "--strict", "--ranker", "blend") == 0
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
        ranker=types_pb2.RANKER_BLEND,
        strict=True,
    )


def test_a_label_may_be_named(shortlist: Callable[..., int], fake_server: FakeServer) -> None:
    assert shortlist("item", "50", "--label", "canary") == 0
    assert shortlist("stats", "--label", "shadow") == 0
    item, stats = [call.request for call in fake_server.received]
    assert item == catalog_pb2.GetItemRequest(item_id="50", bundle_label="canary")
    assert stats == catalog_pb2.GetCatalogStatsRequest(bundle_label="shadow")


def test_bundles_are_listed_activated_and_taken_away(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (
        types_pb2.BundleId(name="films", version=version, sha256=version * 64)
        for version in ("1", "2")
    )
    fake_server.script(
        bundle_pb2.ListBundlesResponse(
            bundles=[
                bundle_pb2.BundleEntry(folder="a", id=one, active=True, labels=["stable"]),
                bundle_pb2.BundleEntry(folder="b", problem="manifest.json: cannot be parsed"),
            ]
        )
    )
    assert shortlist("bundles") == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split() for line in listed] == [
        ["bundle", "folder", "built", "active", "as"],
        ["films", "1", "a", "unknown", "stable"],
        ["b", "b", "unknown"],
        ["b:", "manifest.json:", "cannot", "be", "parsed"],
    ]
    switched = bundle_pb2.ActivateBundleResponse(bundle=two, previous=one, switched=True)
    for arguments, response, printed in (
        ("activate films 2", switched, "stable: films 2, was films 1"),
        (
            f"activate --sha256 {'2' * 64} --label canary",
            bundle_pb2.ActivateBundleResponse(bundle=two, switched=True),
            "canary: films 2, was none",
        ),
        (
            "activate films 2 --label canary",
            bundle_pb2.ActivateBundleResponse(bundle=two),
            "canary: films 2, as before",
        ),
        (
            "activate films 2 --validate",
            bundle_pb2.ActivateBundleResponse(bundle=two),
            "films 2 can be served",
        ),
        (
            "deactivate canary",
            bundle_pb2.DeactivateBundleResponse(previous=two),
            "canary: none, was films 2",
        ),
        ("deactivate shadow", bundle_pb2.DeactivateBundleResponse(), "shadow: none, was none"),
        (
            "roll-back --label canary",
            bundle_pb2.RollBackBundleResponse(bundle=one, previous=two),
            "canary: films 1, was films 2",
        ),
    ):
        fake_server.script(response)
        assert shortlist(*arguments.split()) == 0
        assert capsys.readouterr().out.strip() == printed
    requests = [call.request for call in fake_server.received[1:]]
    assert requests == [
        bundle_pb2.ActivateBundleRequest(name="films", version="2"),
        bundle_pb2.ActivateBundleRequest(sha256="2" * 64, label="canary"),
        bundle_pb2.ActivateBundleRequest(name="films", version="2", label="canary"),
        bundle_pb2.ActivateBundleRequest(name="films", version="2", validate_only=True),
        bundle_pb2.DeactivateBundleRequest(label="canary"),
        bundle_pb2.DeactivateBundleRequest(label="shadow"),
        bundle_pb2.RollBackBundleRequest(label="canary"),
    ]


def test_filters_and_explanations_go_with_every_command_that_has_them(
    shortlist: Callable[..., int], fake_server: FakeServer
) -> None:
    where = to_filter(attribute("year").equals(1990))
    fake_server.script(BUNDLE)
    options = "--where year=1990 --exclude-where year=1991 --source new --explain --debug"
    assert shortlist("retrieve", "--user", "42", *options.split()) == 0
    retrieve: Any = fake_server.received[-1].request
    assert retrieve.filter == where
    assert retrieve.exclusions.filter == to_filter(attribute("year").equals(1991))
    assert [source.name for source in retrieve.sources] == ["new"]
    assert (retrieve.explain, retrieve.debug) == (True, True)
    fake_server.script(BUNDLE)
    assert shortlist("similar", "50", "--where", "year=1990", "--debug") == 0
    similar: Any = fake_server.received[-1].request
    assert (similar.filter, similar.debug) == (where, True)
    assert shortlist("rank", "1", "--user", "42", "--explain", "--debug") == 0
    rank: Any = fake_server.received[-1].request
    assert (rank.explain, rank.debug) == (True, True)


def test_features_and_filters_together_cost_one_second_call(
    shortlist: Callable[..., int], fake_server: FakeServer
) -> None:
    fake_server.script(BUNDLE)
    options = "--feature age=33 --where year=1990 --exclude-where year=1991"
    assert shortlist("recommend", *options.split()) == 0
    assert [call.method for call in fake_server.received] == ["GetActiveBundle", "Recommend"]


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
    fake_server.script(BUNDLE)
    assert shortlist("recommend", "--user", "42", "--where", "year>=old") == 2
    assert (
        "--where year>=old: expected int64, as the bundle declares year, got 'old'"
        in capsys.readouterr().err
    )


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
    assert shortlist("info", "--timeout", "0.05") == 6
