"""`shortlist-server serve` with a language model, alone and with workers."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from llm_stub import LlmStub, rate_by_number, rating_of_title, reverse_handles
from serving_process import ServingProcess, run_server
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub


@pytest.mark.parametrize("workers", [0, 2])
def test_the_order_of_the_configured_model_reaches_the_caller(
    tiny_bundle: Path, tmp_path: Path, workers: int
) -> None:
    with LlmStub() as model:
        model.rule = reverse_handles("order")
        file = tmp_path / "server.toml"
        file.write_text(
            f'workers = {workers}\n[llm]\nprovider = "openai-compatible"\nmodel = "m-1"\n'
            f'base_url = "{model.openai_url}"\n[rerank]\nhistory_count = 1\n'
        )
        with (
            ServingProcess(tiny_bundle, "--config", str(file)) as serving,
            grpc.insecure_channel(serving.target) as channel,
        ):
            request = pb.RecommendRequest(
                query=types.Query(user=types.UserQuery(id="u1")),
                attributes=["title"],
                rerank=types.RerankOptions(candidate_count=4),
            )
            answer = RecommendationServiceStub(channel).Recommend(request, timeout=20)
        data = model.asked[0].data
        shown = [one["title"] for one in data["candidates"]]
        got = [item.attributes["title"].string_value for item in answer.items]
        assert got[:4] == shown[::-1]
        assert len(data["history"]) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_ratings_of_the_configured_model_reach_the_caller(
    tiny_bundle: Path, tmp_path: Path, workers: int
) -> None:
    with LlmStub() as model:
        model.rule = rate_by_number
        file = tmp_path / "server.toml"
        file.write_text(
            f'workers = {workers}\n[llm]\nprovider = "openai-compatible"\nmodel = "m-1"\n'
            f'base_url = "{model.openai_url}"\n[rating]\nllm_weight = 2.0\nranker_weight = 0.25\n'
        )
        with (
            ServingProcess(tiny_bundle, "--config", str(file)) as serving,
            grpc.insecure_channel(serving.target) as channel,
        ):
            request = pb.RankRequest(
                query=types.Query(user=types.UserQuery(id="u1")),
                item_ids=["i3", "i4", "i5"],
                attributes=["title"],
                ranker=types.RANKER_BLEND,
            )
            answer = RecommendationServiceStub(channel).Rank(request, timeout=20)
    assert len(answer.items) == 3
    for item in answer.items:
        said = rating_of_title(item.attributes["title"].string_value)
        assert item.llm_rating == said
        assert item.score == 2.0 * said + 0.25 * item.ranking_score


def test_a_prompt_that_is_none_keeps_the_server_from_starting(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    prompt, file = tmp_path / "prompt.toml", tmp_path / "server.toml"
    prompt.write_text("title = 3")
    file.write_text(f'[rerank]\nprompt_file = "{prompt}"\n')
    arguments = ("serve", "--bundle", str(tiny_bundle), "--listen", "127.0.0.1:0")
    result = run_server(*arguments, "--config", str(file))
    assert result.returncode == 1
    assert f"rerank.prompt_file: {prompt}: system: expected a text" in result.stderr
