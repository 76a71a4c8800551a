"""What `shortlist` prints of the inside of an answer, and of the catalogue."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from shortlist.v1 import catalog_pb2, recommendation_pb2, types_pb2

if TYPE_CHECKING:
    from tests.clients.python.conftest import FakeServer


def numbers(*values: float) -> types_pb2.Value:
    return types_pb2.Value(double_list=types_pb2.DoubleList(values=values))


def test_what_was_left_out_and_where_candidates_came_from_are_told(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    info = types_pb2.AnswerInfo(
        request_id="mine",
        cold_start=True,
        cold_start_basis=types_pb2.COLD_START_BASIS_HISTORY,
        shortfall_reason=types_pb2.SHORTFALL_REASON_FILTER_EXHAUSTED,
        match_count=1234,
        seed=0,
        degraded=[
            types_pb2.Degradation(
                stage="retrieval",
                source="trending",
                reason=types_pb2.DEGRADED_REASON_OUT_OF_TIME,
                message="its share\nwas gone",
            ),
            types_pb2.Degradation(
                stage="diversity", reason=types_pb2.DEGRADED_REASON_FAILED, message="a fault"
            ),
        ],
        sources=[
            types_pb2.SourceReport(
                name="two_tower",
                outcome=types_pb2.STAGE_OUTCOME_OK,
                duration=Duration(nanos=1_250_000),
                item_count=200,
                plan="exact",
            ),
            types_pb2.SourceReport(name="trending", outcome=types_pb2.STAGE_OUTCOME_OUT_OF_TIME),
        ],
    )
    item = types_pb2.ScoredItem(
        id="50",
        source="two_tower",
        other_sources=[types_pb2.SourcePosition(source="trending", position=3)],
    )
    fake_server.script(recommendation_pb2.RecommendResponse(items=[item], info=info))
    assert shortlist("recommend", "--history", "1") == 0
    assert (
        capsys.readouterr().out
        == """\
#  id   score  retrieval  source
1  50  0.0000             two_tower, trending

cold start: the bundle does not know this user; answered from history
items that the filters match: 1,234
only 1 item: filter exhausted
degraded: retrieval of trending left out, out of time: its share was gone
degraded: diversity left out, failed: a fault
seed of the draw: 0
sources: two_tower 200 in 1.25 (exact) · trending out of time
total 0.00 ms
  () · request mine
"""
    )


ANSWER = recommendation_pb2.RecommendResponse(
    items=[
        types_pb2.ScoredItem(id="50", model_inputs={"item_id": numbers(17), "age": numbers(36.5)}),
        types_pb2.ScoredItem(id="9", model_inputs={"item_id": numbers(4)}),
    ],
    info=types_pb2.AnswerInfo(
        request_id="mine",
        model_inputs=[
            types_pb2.ModelInputs(
                model="query_tower",
                inputs={"user_id": numbers(3), "history": numbers(*range(10))},
            ),
            types_pb2.ModelInputs(model="ranker"),
        ],
        answered_query=types_pb2.AnsweredQuery(
            embedding=[0.5, -0.25],
            embedding_source="two_tower",
            features={"user.age": types_pb2.Value(int64_value=36)},
            filter="year >= 1990",
            excluded_item_count=1200,
            limit=20,
            sources=[
                types_pb2.SourceOptions(
                    name="two_tower", candidate_count=200, nearest=types_pb2.NearestSource()
                ),
                types_pb2.SourceOptions(popularity=types_pb2.PopularitySource()),
            ],
            output_weights={"rating": 1.0},
            selection=types_pb2.SelectionOptions(
                score_min=3.5,
                diversity=0.25,
                caps=[types_pb2.Cap(attribute="genres", item_count_max=3)],
                pinned_items=[
                    types_pb2.PinnedItem(item_id="9"),
                    types_pb2.PinnedItem(item_id="8", position=0),
                ],
                exploration=types_pb2.Exploration(temperature=0.5, seed=7),
            ),
            ef=300,
            budget=Duration(nanos=900_500_000),
        ),
    ),
)


def test_explain_and_debug_show_what_was_answered_and_what_was_fed(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.script(ANSWER)
    assert shortlist("recommend", "--user", "42", "--explain", "--debug") == 0
    assert (
        capsys.readouterr().out.partition("\n\n")[2]
        == """\
the query that was answered
embedding  two_tower: 0.5, -0.25
features   user.age=36
history    none
filter     year >= 1990
excluded   1,200 items
limit      20
sources    two_tower 200, Popularity
weights    rating=1
selection  score 3.5 or more, diversity 0.25, at most 3 of a genres, pinned 9 8@0, \
temperature 0.5 with seed 7
search     ef=300
budget     900.5 ms

what query_tower was fed for the query
history  0, 1, 2, 3, 4, 5, 6, 7 and 2 more
user_id  3

what the ranker was fed for each item
id  age   item_id
50  36.5  17
9         4

total 0.00 ms
  () · request mine
"""
    )


def test_a_query_that_left_all_to_the_server_is_told_in_words(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    info = types_pb2.AnswerInfo(answered_query=types_pb2.AnsweredQuery())
    fake_server.script(recommendation_pb2.RecommendResponse(info=info))
    assert shortlist("recommend", "--user", "42", "--debug") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "selection  the best" in lines
    assert "search     left to the server" in lines
    assert "sources    none" in lines


def test_json_has_all_of_it(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.script(ANSWER)
    assert shortlist("recommend", "--user", "42", "--explain", "--debug", "--json") == 0
    printed = json_format.Parse(capsys.readouterr().out, recommendation_pb2.RecommendResponse())
    assert printed == ANSWER


def test_stats_tell_how_large_the_catalogue_is_and_how_well_it_is_searched(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    stats = catalog_pb2.GetCatalogStatsResponse(
        item_count=1682,
        recall=[
            catalog_pb2.RecallBucket(selectivity_max=0.001),
            catalog_pb2.RecallBucket(
                selectivity_min=0.001, selectivity_max=1, query_count=1200, recall=0.99875
            ),
        ],
        recall_dropped_count=3,
    )
    fake_server.script(stats, stats)
    assert shortlist("stats") == 0
    assert (
        capsys.readouterr().out
        == """\
items             1,682
searches checked  1,200
checks dropped    3

catalogue left  searches  recall
0% to 0.1%             0
0.1% to 100%       1,200  0.9988
"""
    )
    assert shortlist("stats", "--json") == 0
    assert "recall" not in json.loads(capsys.readouterr().out)["recall"][0]


def test_stats_of_a_server_that_checks_nothing_say_so(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shortlist("stats") == 0
    assert "searches checked  none: the recall monitor is off" in capsys.readouterr().out
