"""Re-ranking by real SDKs that ask a language model on a real socket, however it behaves: no call
fails, none outlives its time, and no item comes back that was no candidate.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm_behaviours as behave
import pytest
from llm_matrix import RIGHT, WRONG, name_of
from llm_providers import KEY
from llm_stub import INPUT_TOKENS, OUTPUT_TOKENS, Asked
from request_logs import write_log
from reranked_world import CALL_S, PROVIDERS, SHORT, SHOWN, World, request_of, titles
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_server.generation import Generation
from shortlist_server.llm.prompt import rerank_prompt
from shortlist_server.replay.reader import read_log
from shortlist_server.replay.runner import Replayer


@pytest.fixture(scope="module", params=PROVIDERS)
def world(
    request: pytest.FixtureRequest, tiny_bundle: Path, generation: Generation
) -> Iterator[World]:
    made = World(request.param, tiny_bundle, generation)
    yield made
    made.close()


@pytest.mark.parametrize("behaviours", RIGHT, ids=lambda one: "-".join(map(name_of, one)))
def test_the_models_order_reaches_the_caller(
    world: World, how: str, behaviours: tuple[behave.Behaviour, ...]
) -> None:
    world.ready(*behaviours)
    plain = titles(world.plain())
    answer = world.ask(how)
    assert len(world.llm.asked) == len(behaviours)
    assert sorted(world.shown()) == sorted(plain[:SHOWN])
    assert titles(answer) == [*world.shown()[::-1], *plain[SHOWN:]]
    assert titles(answer) != plain
    assert not answer.info.degraded
    told = answer.info.rerank
    assert told.prompt == rerank_prompt().version
    assert told.model.endswith("m-1")
    assert list(told.item_ids) == [item.id for item in answer.items[:SHOWN]]
    assert (told.input_token_count, told.output_token_count) == (INPUT_TOKENS, OUTPUT_TOKENS)
    assert told.price == pytest.approx((INPUT_TOKENS * 1_000 + OUTPUT_TOKENS * 2_000) / 1e6)
    places = [item.rerank_position for item in answer.items if item.HasField("rerank_position")]
    assert places == list(range(SHOWN))
    assert sorted(item.ranking_position for item in answer.items) == list(range(10))


@pytest.mark.parametrize(("behaviour", "reason", "violations"), WRONG, ids=name_of)
def test_the_order_of_ranking_stands_and_the_stage_says_why(
    world: World,
    how: str,
    behaviour: behave.Behaviour,
    reason: str,
    violations: tuple[str, ...],
) -> None:
    world.ready(behaviour)
    plain = world.plain()
    late = reason == "LLM_TIMEOUT"
    answer = world.ask(how, **({"timeout": SHORT} if late else {}))
    assert list(answer.items) == list(plain.items)
    (degraded,) = answer.info.degraded
    assert degraded.stage == "rerank"
    assert degraded.reason == types.DegradedReason.Value(f"DEGRADED_REASON_{reason}")
    assert KEY not in degraded.message
    stages = {stage.name: stage for stage in answer.info.stages}
    assert stages["rerank"].outcome == (
        types.STAGE_OUTCOME_OUT_OF_TIME if late else types.STAGE_OUTCOME_FAILED
    )
    assert tuple(answer.info.rerank.violations) == violations
    assert not answer.info.rerank.item_ids
    if late:
        # The SDK's call has been cancelled: nobody waits for the model any more.
        world.llm.wait_cancelled()


def test_a_model_that_hangs_is_given_up_in_time_for_the_list(world: World) -> None:
    world.ready(behave.hang())
    answer = world.stub.Recommend(request_of(), timeout=3)
    assert [one.reason for one in answer.info.degraded] == [
        types.DEGRADED_REASON_LLM_TIMEOUT,
    ]
    world.llm.wait_cancelled()


def test_the_first_list_does_not_wait_for_the_model(world: World) -> None:
    world.ready(behave.hang())
    call = world.stub.StreamRecommend(
        pb.StreamRecommendRequest(request=request_of()), timeout=CALL_S
    )
    first = next(call)
    assert titles(first.response) == titles(world.plain())
    world.llm.wait_asked()
    assert not world.llm.asked[0].cancelled
    call.cancel()
    world.llm.wait_cancelled()


def test_a_caller_who_goes_away_ends_the_call_of_the_model(world: World) -> None:
    world.ready(behave.hang())
    call = world.stub.Recommend.future(request_of(), timeout=CALL_S)
    world.llm.wait_asked()
    call.cancel()
    world.llm.wait_cancelled()


def test_others_are_answered_while_a_call_waits_for_the_model(world: World) -> None:
    world.ready(behave.hang())
    waiting = [world.stub.Recommend.future(request_of(seed=n), timeout=CALL_S) for n in range(8)]
    world.llm.wait_asked(8)
    # Eight hang; two compute threads are there: none of them is held.
    for _ in range(5):
        assert len(world.plain().items) == 10
    assert not any(call.done() for call in waiting)
    for call in waiting:
        call.cancel()
    world.llm.wait_cancelled(8)


def test_what_was_asked_before_is_answered_from_the_cache(
    tiny_bundle: Path, generation: Generation
) -> None:
    cached = World("openai-compatible", tiny_bundle, generation, cache_bytes=1 << 20)
    try:
        cached.ready()
        first, again = cached.ask("Recommend"), cached.ask("StreamRecommend")
        assert len(cached.llm.asked) == 1
        assert list(first.items) == list(again.items)
        assert first.info.rerank.input_token_count == INPUT_TOKENS
        assert (again.info.rerank.input_token_count, again.info.rerank.price) == (0, 0)
    finally:
        cached.close()


@pytest.mark.parametrize(
    "wrong", [behave.duplicate_handles(), behave.foreign_handles()], ids=name_of
)
def test_an_answer_that_is_no_order_of_the_candidates_is_not_kept(
    tiny_bundle: Path, generation: Generation, wrong: behave.Behaviour
) -> None:
    cached = World("openai-compatible", tiny_bundle, generation, cache_bytes=1 << 20)
    try:
        cached.ready(wrong, behave.answer())
        first, second, third = (cached.ask("Recommend") for _ in range(3))
        assert titles(first) == titles(cached.plain())
        assert [one.reason for one in first.info.degraded] == [
            types.DEGRADED_REASON_LLM_INVALID_OUTPUT
        ]
        assert titles(second)[:SHOWN] == cached.shown()[::-1]
        assert list(third.items) == list(second.items)
        assert not second.info.degraded
        assert len(cached.llm.asked) == 2
    finally:
        cached.close()


def test_a_logged_order_is_replayed_without_the_model(
    world: World, generation: Generation, tmp_path: Path
) -> None:
    world.ready(behave.answer(), behave.status(500))
    exchanges = [
        (request_of(), world.stub.Recommend(request_of(), timeout=CALL_S)) for _ in range(2)
    ]
    write_log(tmp_path, exchanges)
    asked = len(world.llm.asked)
    taken, failed = (placed.row for placed in read_log(tmp_path))
    assert taken.item_ids != failed.item_ids
    for row in (taken, failed):
        replayed = Replayer(generation).answer(row)
        assert (replayed.item_ids, replayed.scores) == (row.item_ids, row.scores)
    assert len(world.llm.asked) == asked


def test_diversity_is_refined_first_and_the_model_last(world: World) -> None:
    world.ready()
    request = request_of()
    request.selection.diversity = 0.5
    lists = list(
        world.stub.StreamRecommend(pb.StreamRecommendRequest(request=request), timeout=CALL_S)
    )
    assert [(one.refinement, one.last) for one in lists] == [
        ("", False),
        ("diversity", False),
        ("rerank", True),
    ]
    whole = world.stub.Recommend(request, timeout=CALL_S)
    assert list(lists[-1].response.items) == list(whole.items)
    assert titles(whole)[0] == world.shown()[-1]
    names = [stage.name for stage in whole.info.stages]
    assert names.index("rerank") < names.index("diversity")


def test_a_row_of_a_batch_is_reranked_too(world: World) -> None:
    world.ready()
    rows = [request_of(), request_of(seed=5)]
    batch = world.stub.BatchRecommend(pb.BatchRecommendRequest(requests=rows), timeout=CALL_S)
    answers = {one.index: one.response for one in batch}
    assert titles(answers[0])[:SHOWN] == world.shown(0)[::-1]
    assert titles(answers[1])[:SHOWN] == world.shown(1)[::-1]
    assert world.shown(0) != world.shown(1)


def test_a_second_pass_is_asked_beside_the_first(world: World, how: str) -> None:
    world.ready()
    answer = world.ask(how, passes=2)
    assert world.shown(0) == world.shown(1)[::-1]
    # A model that goes by nothing but where a candidate stands is voted down.
    assert titles(answer) == titles(world.plain())
    assert answer.info.rerank.pass_count == 2
    assert answer.info.rerank.input_token_count == 2 * INPUT_TOKENS


def test_an_allowed_subset_keeps_the_list_whole(world: World, how: str) -> None:
    world.ready()
    world.llm.rule = lambda asked: {"order": [asked.data["candidates"][2]["handle"]]}
    answer = world.ask(how, subset=True)
    plain, first = titles(world.plain()), world.shown()[2]
    assert titles(answer) == [first, *(title for title in plain if title != first)]
    assert answer.info.rerank.left_out_count == SHOWN - 1
    refused = world.ask(how)
    assert titles(refused) == plain
    assert list(refused.info.rerank.violations) == ["missing"]


def test_reasons_reach_the_caller(world: World, how: str) -> None:
    def rule(asked: Asked) -> Any:
        return {
            "order": [
                {"handle": one["handle"], "reason": f"Like {one['title']}."}
                for one in asked.data["candidates"]
            ]
        }

    world.ready()
    world.llm.rule = rule
    answer = world.ask(how, reasons=True)
    assert titles(answer)[:SHOWN] == world.shown()
    assert [item.rerank_reason for item in answer.items] == [
        *(f"Like {title}." for title in world.shown()),
        *[""] * (10 - SHOWN),
    ]
