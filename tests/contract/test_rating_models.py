"""Ratings by real SDKs that ask a language model on a real socket, however it behaves: no call
fails, none outlives its time, and no item comes back that the caller did not name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm_behaviours as behave
import pytest
from google.protobuf.duration_pb2 import Duration
from llm_matrix import RIGHT, WRONG, name_of
from llm_providers import KEY
from llm_stub import INPUT_TOKENS, OUTPUT_TOKENS, Asked, rate_by_number, rating_of_title
from request_logs import write_log
from reranked_world import CALL_S, PROVIDERS, SHORT, World
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_server.generation import Generation
from shortlist_server.llm.prompt import rating_prompt
from shortlist_server.replay.reader import read_log
from shortlist_server.replay.runner import Replayer

IDS = [f"i{number}" for number in (3, 11, 8, 20, 5, 17)]
HISTORY = [types.HistoryEvent(item_id="i1", rating=4.5), types.HistoryEvent(item_id="i2", rating=1)]
USER = types.Query(user=types.UserQuery(id="u1", history=HISTORY))


@pytest.fixture(scope="module", params=PROVIDERS)
def world(
    request: pytest.FixtureRequest, tiny_bundle: Path, generation: Generation
) -> Iterator[World]:
    made = World(request.param, tiny_bundle, generation)
    yield made
    made.close()


def ready(world: World, *behaviours: behave.Behaviour) -> None:
    world.ready(*behaviours)
    world.llm.rule = rate_by_number


def asked(**fields: Any) -> pb.RankRequest:
    return pb.RankRequest(
        **{
            "query": USER,
            "item_ids": IDS,
            "attributes": ["title"],
            "ranker": types.RANKER_LLM,
            **fields,
        }
    )


def rank(world: World, **fields: Any) -> pb.RankResponse:
    return world.stub.Rank(asked(**fields), timeout=CALL_S)


def plain(world: World) -> pb.RankResponse:
    return rank(world, ranker=types.RANKER_BUNDLE)


def said(item: types.ScoredItem) -> float:
    """What the stub says of it."""
    return rating_of_title(item.attributes["title"].string_value)


@pytest.mark.parametrize("behaviours", RIGHT, ids=lambda one: "-".join(map(name_of, one)))
def test_the_models_ratings_reach_the_caller(
    world: World, behaviours: tuple[behave.Behaviour, ...]
) -> None:
    ready(world, *behaviours)
    before = plain(world)
    answer = rank(world)
    # One call for all items, however many tries it took.
    assert len(world.llm.asked) == len(behaviours)
    assert sorted(item.id for item in answer.items) == sorted(IDS)
    assert [item.llm_rating for item in answer.items] == sorted(map(said, answer.items))[::-1]
    assert [item.id for item in answer.items] != [item.id for item in before.items]
    bundles = {item.id: item.ranking_score for item in before.items}
    for place, item in enumerate(answer.items):
        assert item.score == item.llm_rating == said(item)
        assert not item.llm_rating_clamped
        assert item.ranking_score == bundles[item.id]
        assert item.ranking_position == place
    assert not answer.info.degraded
    told = answer.info.rating
    assert told.prompt == rating_prompt().version
    assert told.model.endswith("m-1")
    assert dict(zip(told.item_ids, told.ratings, strict=True)) == {
        item.id: item.llm_rating for item in answer.items
    }
    assert (told.llm_weight, told.ranker_weight, told.clamped_count) == (1, 0, 0)
    assert (told.input_token_count, told.output_token_count) == (INPUT_TOKENS, OUTPUT_TOKENS)
    assert told.price == pytest.approx((INPUT_TOKENS * 1_000 + OUTPUT_TOKENS * 2_000) / 1e6)
    stages = {stage.name: stage for stage in answer.info.stages}
    assert stages["rating"].outcome == types.STAGE_OUTCOME_OK
    assert (stages["rating"].items_in, stages["rating"].items_out) == (6, 6)


@pytest.mark.parametrize("ranker", [types.RANKER_LLM, types.RANKER_BLEND], ids=["llm", "blend"])
@pytest.mark.parametrize(("behaviour", "reason", "violations"), WRONG, ids=name_of)
def test_the_bundles_scores_stand_and_the_stage_says_why(
    world: World,
    behaviour: behave.Behaviour,
    reason: str,
    violations: tuple[str, ...],
    ranker: types.Ranker,
) -> None:
    ready(world, behaviour)
    late = reason == "LLM_TIMEOUT"
    answer = rank(world, ranker=ranker, **({"llm_timeout": SHORT} if late else {}))
    assert list(answer.items) == list(plain(world).items)
    (degraded,) = answer.info.degraded
    assert degraded.stage == "rating"
    assert degraded.reason == types.DegradedReason.Value(f"DEGRADED_REASON_{reason}")
    assert KEY not in degraded.message
    stages = {stage.name: stage for stage in answer.info.stages}
    assert stages["rating"].outcome == (
        types.STAGE_OUTCOME_OUT_OF_TIME if late else types.STAGE_OUTCOME_FAILED
    )
    assert tuple(answer.info.rating.violations) == violations
    assert not answer.info.rating.item_ids
    if late:
        world.llm.wait_cancelled()


def test_a_blend_is_the_sum_of_both_by_their_weights(world: World) -> None:
    ready(world)
    bundles = {item.id: item.ranking_score for item in plain(world).items}
    answer = rank(world, ranker=types.RANKER_BLEND)
    for item in answer.items:
        assert item.score == 0.5 * said(item) + 0.5 * bundles[item.id]
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)
    assert (answer.info.rating.llm_weight, answer.info.rating.ranker_weight) == (0.5, 0.5)


def test_a_rating_out_of_bounds_is_clamped_and_flagged(world: World) -> None:
    def rule(asked: Asked) -> Any:
        numbers = [0, -3, 5.5, 1e300, 5, 1]
        return {
            "ratings": [
                {"handle": one["handle"], "rating": number}
                for one, number in zip(asked.data["items"], numbers, strict=True)
            ]
        }

    ready(world)
    counted = violations(world)
    world.llm.rule = rule
    answer = rank(world)
    shown = [one["title"] for one in world.llm.asked[-1].data["items"]]
    found = {
        item.attributes["title"].string_value: (item.llm_rating, item.llm_rating_clamped)
        for item in answer.items
    }
    bounds = [(1, True), (1, True), (5, True), (5, True), (5, False), (1, False)]
    assert [found[title] for title in shown] == bounds
    assert not answer.info.degraded
    assert answer.info.rating.clamped_count == 4
    assert list(answer.info.rating.violations) == ["clamped"]
    assert violations(world) == counted + 1


def violations(world: World) -> float:
    metrics = world.server.metrics
    assert metrics is not None
    name = "shortlist_rating_violations_total"
    return metrics.registry.get_sample_value(name, {"kind": "clamped"}) or 0.0


def test_the_model_sees_the_users_ratings_and_no_order_of_the_callers(world: World) -> None:
    ready(world)
    rank(world)
    rank(world, item_ids=IDS[::-1])
    first, second = (one.data for one in world.llm.asked)
    assert [one["rating"] for one in first["history"]] == [4.5, 1]
    assert first == second
    titles = [one["title"] for one in first["items"]]
    assert sorted(titles) == sorted(f"Film {item_id[1:]} é" for item_id in IDS)


def test_a_model_that_hangs_is_given_up_in_time_for_the_answer(world: World) -> None:
    ready(world, behave.hang())
    answer = world.stub.Rank(asked(), timeout=3)
    assert [one.reason for one in answer.info.degraded] == [types.DEGRADED_REASON_LLM_TIMEOUT]
    world.llm.wait_cancelled()


def test_a_caller_who_goes_away_ends_the_call_of_the_model(world: World) -> None:
    ready(world, behave.hang())
    call = world.stub.Rank.future(asked(), timeout=CALL_S)
    world.llm.wait_asked()
    call.cancel()
    world.llm.wait_cancelled()


def test_of_a_user_of_whom_nothing_is_known_the_model_is_not_asked(world: World) -> None:
    ready(world)
    nobody = types.Query(user=types.UserQuery(id="nobody"))
    answer = rank(world, query=nobody)
    assert not world.llm.asked
    assert not answer.info.degraded
    stages = {stage.name: stage for stage in answer.info.stages}
    assert stages["rating"].outcome == types.STAGE_OUTCOME_SKIPPED
    assert "nothing is known of the user" in stages["rating"].plan
    unknown = rank(world, item_ids=["none", "neither"])
    assert not world.llm.asked
    assert list(unknown.unknown_item_ids) == ["none", "neither"]


def test_only_known_items_are_shown_each_once(world: World) -> None:
    ready(world)
    answer = rank(world, item_ids=["i3", "none", "i3", "i11"])
    assert len(world.llm.asked[-1].data["items"]) == 2
    assert sorted(item.id for item in answer.items) == ["i11", "i3"]
    assert list(answer.unknown_item_ids) == ["none"]


def test_what_was_asked_before_is_answered_from_the_cache(
    tiny_bundle: Path, generation: Generation
) -> None:
    cached = World("openai-compatible", tiny_bundle, generation, cache_bytes=1 << 20)
    try:
        ready(cached)
        first, again = rank(cached), rank(cached, item_ids=IDS[::-1])
        assert len(cached.llm.asked) == 1
        assert [item.id for item in first.items] == [item.id for item in again.items]
        assert first.info.rating.input_token_count == INPUT_TOKENS
        assert (again.info.rating.input_token_count, again.info.rating.price) == (0, 0)
    finally:
        cached.close()


def test_logged_ratings_are_replayed_without_the_model(
    world: World, generation: Generation, tmp_path: Path
) -> None:
    ready(world, behave.answer(), behave.answer(), behave.status(500))
    rankers = (types.RANKER_LLM, types.RANKER_BLEND, types.RANKER_LLM)
    write_log(tmp_path, [(asked(ranker=one), rank(world, ranker=one)) for one in rankers])
    count = len(world.llm.asked)
    rows = [placed.row for placed in read_log(tmp_path)]
    assert rows[0].scores != rows[1].scores != rows[2].scores
    for row in rows:
        replayed = Replayer(generation).answer(row)
        assert (replayed.item_ids, replayed.scores) == (row.item_ids, row.scores)
    assert len(world.llm.asked) == count


def test_debug_says_whose_word_was_asked_for(world: World) -> None:
    ready(world)
    assert rank(world, debug=True).info.answered_query.ranker == types.RANKER_LLM
    bundles = rank(world, debug=True, ranker=types.RANKER_UNSPECIFIED)
    assert bundles.info.answered_query.ranker == types.RANKER_UNSPECIFIED
    assert not bundles.info.HasField("rating")


@pytest.mark.parametrize(
    ("fields", "field", "expected", "got"),
    [
        (
            {"item_ids": [f"i{number}" for number in range(51)]},
            "item_ids",
            "1..50 ids where ranker asks a language model",
            "51 ids",
        ),
        ({"ranker": 9}, "ranker", "a value of Ranker", "9"),
        (
            {"llm_timeout": Duration()},
            "llm_timeout",
            "more than 0, at most 315576000000 s",
            "0 s",
        ),
        (
            {"llm_timeout": Duration(seconds=1, nanos=-1)},
            "llm_timeout.nanos",
            "0..999999999",
            "-1",
        ),
        (
            {"ranker": types.RANKER_BUNDLE, "llm_timeout": Duration(seconds=1)},
            "llm_timeout",
            "none where ranker asks no language model",
            "a Duration",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_by_its_field(
    world: World, refuse: Any, fields: dict[str, Any], field: str, expected: str, got: str
) -> None:
    refusal = refuse(world.stub.Rank, asked(**fields))
    assert refusal.code.name == "INVALID_ARGUMENT"
    assert dict(refusal.info.metadata) | {"field": field, "expected": expected, "got": got} == dict(
        refusal.info.metadata
    )


def test_a_server_without_a_model_says_so(stub: Any) -> None:
    answer = stub.Rank(asked(), timeout=10)
    (degraded,) = answer.info.degraded
    assert (degraded.stage, degraded.reason) == ("rating", types.DEGRADED_REASON_LLM_UNAVAILABLE)
    assert "the server has no language model" in degraded.message
    assert not answer.info.HasField("rating")
