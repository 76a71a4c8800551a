"""Keys without the scope `rerank` have no language model asked: they are answered without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import RunningServer
from conversing import Answered, served, understand, word
from llm_stub import Asked, LlmStub, reverse_handles
from reranked_world import request_of, titles
from shortlist.v1 import conversation_pb2, types_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1.conversation_pb2_grpc import ConversationServiceStub
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_server.access.api_keys import entry, make_key
from shortlist_server.generation import Generation

NOT_ALLOWED = types_pb2.DEGRADED_REASON_LLM_NOT_ALLOWED
SPENDS, SAVES = make_key(), make_key()


@pytest.fixture(scope="module")
def stub() -> Iterator[LlmStub]:
    with LlmStub() as running:
        yield running


@pytest.fixture(scope="module")
def channel(
    stub: LlmStub,
    tiny_bundle: Path,
    generation: Generation,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[grpc.Channel]:
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text(
        entry(SPENDS, name="spends", scopes=["recommend", "rerank"])
        + entry(SAVES, name="saves", scopes=["recommend"])
    )
    running = RunningServer(
        tiny_bundle,
        generation,
        api_keys_file=keys,
        llm=served("openai-compatible", stub, cache_bytes=1 << 20),
    )
    with grpc.insecure_channel(running.target) as opened:
        yield opened
    running.stop()


def rule(asked: Asked) -> Any:
    reranks = "candidates" in asked.data
    return reverse_handles("order")(asked) if reranks else understand(asked)


@pytest.fixture(autouse=True)
def well_behaved(stub: LlmStub) -> None:
    stub.rule, stub.talk = rule, word
    stub.asked.clear()


def by(key: str) -> dict[str, Any]:
    return {"timeout": 20, "metadata": (("authorization", f"Bearer {key}"),)}


def recommend(channel: grpc.Channel, key: str) -> pb.RecommendResponse:
    return RecommendationServiceStub(channel).Recommend(request_of(), **by(key))


def stream(channel: grpc.Channel, key: str) -> pb.RecommendResponse:
    request = pb.StreamRecommendRequest(request=request_of())
    *_, last = RecommendationServiceStub(channel).StreamRecommend(request, **by(key))
    return last.response


def batch(channel: grpc.Channel, key: str) -> pb.RecommendResponse:
    request = pb.BatchRecommendRequest(requests=[request_of()])
    (row,) = RecommendationServiceStub(channel).BatchRecommend(request, **by(key))
    return row.response


@pytest.mark.parametrize("call", [recommend, stream, batch])
def test_the_order_of_ranking_stands_and_the_answer_says_why(
    channel: grpc.Channel, stub: LlmStub, call: Any
) -> None:
    request = request_of()
    request.ClearField("rerank")
    plain = RecommendationServiceStub(channel).Recommend(request, **by(SAVES))
    saved = call(channel, SAVES)
    assert titles(saved) == titles(plain)
    (degraded,) = saved.info.degraded
    assert (degraded.stage, degraded.reason) == ("rerank", NOT_ALLOWED)
    assert "lacks the scope `rerank`" in degraded.message
    assert not stub.asked
    spent = call(channel, SPENDS)
    assert titles(spent) != titles(plain)
    assert not spent.info.degraded
    # What is kept for others is not for who may not ask.
    assert titles(call(channel, SAVES)) == titles(plain)


def test_named_items_are_scored_by_the_bundle(channel: grpc.Channel, stub: LlmStub) -> None:
    rank = RecommendationServiceStub(channel).Rank
    named = {"query": request_of().query, "item_ids": ["i1", "i2", "i3"]}
    plain = rank(pb.RankRequest(**named), **by(SAVES))
    saved = rank(pb.RankRequest(ranker=types_pb2.RANKER_LLM, **named), **by(SAVES))
    assert [(item.id, item.score) for item in saved.items] == [
        (item.id, item.score) for item in plain.items
    ]
    assert [one.reason for one in saved.info.degraded] == [NOT_ALLOWED]
    assert not stub.asked


def test_turns_are_answered_without_a_model(channel: grpc.Channel, stub: LlmStub) -> None:
    request = conversation_pb2.ConverseRequest(text="A comedy", limit=3)
    converse = ConversationServiceStub(channel).Converse
    saved = Answered(converse(request, **by(SAVES)))
    assert saved.degraded == {"intent": "LLM_NOT_ALLOWED", "reply": "LLM_NOT_ALLOWED"}
    assert len(saved.items) == 3
    assert saved.end.reply.startswith("Here is what I found:")
    assert (saved.end.language_model.input_token_count, saved.end.language_model.price) == (0, 0)
    assert not stub.asked
    spent = Answered(converse(request, **by(SPENDS)))
    assert not spent.degraded
    assert len(stub.asked) == 2
