"""The whole way round: a server logs what its language model did, the log is evaluated, and a
server that reads the report asks the model no more.
"""

from __future__ import annotations

import json
import socket
import urllib.request
from dataclasses import asdict
from pathlib import Path

import grpc
import pytest
from llm_stub import Asked, LlmStub
from serving_process import ServingProcess, run_server
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_server.llm.lift_report import ArmLift, write_report
from shortlist_server.llm.prompt import packaged

OTHER = ArmLift(
    model="a/other",
    prompt="rerank@0",
    request_count=9,
    user_count=9,
    k=10,
    ndcg_with=0.5,
    ndcg_without=0.25,
    lift=0.25,
    lift_low=-0.5,
    lift_high=0.5,
    confidence=0.95,
    log="requests",
    last_time="2026-11-01T12:00:00+00:00",
)
USERS = [f"u{number}" for number in range(1, 13)]


def by_title(asked: Asked) -> object:
    """A rule: by title, from Z to A, which says nothing of users."""
    films = sorted(asked.data["candidates"], key=lambda film: film["title"], reverse=True)
    return {"order": [film["handle"] for film in films]}


def ask(target: str, user: str, *, rerank: bool = True) -> pb.RecommendResponse:
    request = pb.RecommendRequest(query=types.Query(user=types.UserQuery(id=user)), limit=8)
    if rerank:
        request.rerank.candidate_count = 8
    with grpc.insecure_channel(target) as channel:
        return RecommendationServiceStub(channel).Recommend(request, timeout=20)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_model_that_makes_lists_worse_is_switched_off(
    tiny_bundle: Path, tmp_path: Path, workers: int
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        metrics = f"127.0.0.1:{free.getsockname()[1]}"
    file, report = tmp_path / "server.toml", tmp_path / "lift.json"
    with LlmStub() as model:
        model.rule = by_title
        settings = (
            f'workers = {workers}\nmetrics_listen = "{metrics}"\n'
            f'request_log = "{tmp_path / "requests"}"\n'
            f'[llm]\nprovider = "openai-compatible"\nmodel = "m-1"\n'
            f'base_url = "{model.openai_url}"\ncache_bytes = 0\n'
            f'[rerank]\nlift_report = "{report}"\nlift_users_min = 10\n'
        )
        file.write_text(settings)
        liked = {}
        with ServingProcess(tiny_bundle, "--config", file) as serving:
            for user in USERS:
                plain, answer = (ask(serving.target, user, rerank=one) for one in (False, True))
                assert not answer.info.degraded
                # Of one of them nothing is known that a model could judge by.
                if answer.info.HasField("rerank"):
                    # What the ranker puts first is what this user takes next.
                    liked[user] = plain.items[0].id
        count = len(liked)
        assert len(model.asked) == count >= 10
        lines = [f"{user},{item}\n" for user, item in liked.items()]
        (tmp_path / "next.csv").write_text("".join(["user_id,item_id\n", *lines]))

        write_report(report, {OTHER.name: OTHER})
        arguments = ("--bundle", tiny_bundle, "--config", file, "--out", report)
        command = ("evaluate-rerank", tmp_path / "requests", *arguments)
        told = run_server(*command, "--next", tmp_path / "next.csv")
        assert told.returncode == 0, told.stderr
        assert "worse: a server that reads this report" in told.stdout
        assert f"left out: {2 * len(USERS) - count} not re-ranked" in told.stdout
        # Of the other nothing is in this log: what is known of it stays.
        other, arm = json.loads(report.read_text())["arms"]
        assert other == asdict(OTHER)
        assert arm["model"] == "openai-compatible/m-1"
        assert (arm["request_count"], arm["user_count"]) == (count, count)
        assert arm["ndcg_without"] == 1
        assert arm["lift_low"] <= arm["lift"] <= arm["lift_high"] < 0

        with ServingProcess(tiny_bundle, "--config", file) as serving:
            answer = ask(serving.target, "u1")
            with urllib.request.urlopen(f"http://{metrics}/metrics") as page:
                shown = page.read().decode()
        (degraded,) = answer.info.degraded
        assert degraded.reason == types.DEGRADED_REASON_LLM_SWITCHED_OFF
        stages = {stage.name: stage for stage in answer.info.stages}
        assert stages["rerank"].outcome == types.STAGE_OUTCOME_SKIPPED
        assert "switched off by the lift report: openai-compatible/m-1" in stages["rerank"].plan
        assert answer.items[0].id == liked["u1"]
        assert not answer.info.HasField("rerank")
        assert len(model.asked) == count
        assert "shortlist_rerank_arms_off 1" in shown
        assert 'reason="LLM_SWITCHED_OFF",stage="rerank"' in shown.replace(
            'stage="rerank",reason="LLM_SWITCHED_OFF"', 'reason="LLM_SWITCHED_OFF",stage="rerank"'
        )

        # Another version of the prompt is another arm.
        (tmp_path / "own.toml").write_text(packaged("rerank.toml").replace("one user", "a user"))
        file.write_text(f'{settings}prompt_file = "{tmp_path / "own.toml"}"\n')
        with ServingProcess(tiny_bundle, "--config", file) as serving:
            assert not ask(serving.target, "u1").info.degraded
        assert len(model.asked) == count + 1


def test_a_log_or_a_report_that_is_none_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    report = tmp_path / "lift.json"
    report.write_text('{"format": 1, "arms": []}')
    empty = run_server("evaluate-rerank", tmp_path, "--bundle", tiny_bundle, "--out", report)
    assert empty.returncode == 1
    assert "expected files requests-" in empty.stderr
    report.write_text("[]")
    broken = run_server("evaluate-rerank", tmp_path, "--bundle", tiny_bundle, "--out", report)
    assert broken.returncode == 1
    assert f"--out: {report}: format: expected 1" in broken.stderr


def test_a_report_that_is_none_keeps_the_server_from_starting(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    report, file = tmp_path / "lift.json", tmp_path / "server.toml"
    report.write_text('{"format": 7}')
    file.write_text(f'[rerank]\nlift_report = "{report}"\n')
    arguments = ("serve", "--bundle", tiny_bundle, "--listen", "127.0.0.1:0", "--config", file)
    result = run_server(*arguments)
    assert result.returncode == 1
    assert f"rerank.lift_report: {report}: format: expected 1" in result.stderr
