"""The log of a server, line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import RunningServer
from serving_process import ServingProcess
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_server.access.api_keys import entry, make_key
from shortlist_server.generation import Generation

USER = types.Query(user=types.UserQuery(id="secret-user"))
REQUEST = pb.RecommendRequest(query=USER, limit=3)


def test_json_log_tells_of_calls_by_method_code_time_id_and_key(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    key = make_key()
    keys = tmp_path / "keys.toml"
    keys.write_text(entry(key, name="shop", scopes=["recommend"]))
    settings = ("--log-format", "json", "--access-log", "true", "--api-keys-file", str(keys))
    traced = ("--otel-endpoint", "http://127.0.0.1:9", "--trace-share", "0")
    with ServingProcess(tiny_bundle, *settings, *traced) as serving:
        with grpc.insecure_channel(serving.target) as channel:
            stub = RecommendationServiceStub(channel)
            mine = (("authorization", f"Bearer {key}"), ("x-request-id", "mine"))
            parent = ("traceparent", f"00-{'a' * 32}-{'b' * 16}-00")
            stub.Recommend(REQUEST, timeout=10, metadata=(*mine, parent))
            rows = pb.BatchRecommendRequest(requests=[REQUEST, pb.RecommendRequest()])
            list(stub.BatchRecommend(rows, timeout=10, metadata=mine))
            with pytest.raises(grpc.RpcError):
                stub.Recommend(pb.RecommendRequest(), timeout=10, metadata=mine)
            with pytest.raises(grpc.RpcError):
                stub.Recommend(REQUEST, timeout=10, metadata=(("x-request-id", "stranger"),))
        code, log = serving.end()
    assert code == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    calls = [line for line in lines if line["logger"] == "shortlist_server.access_log"]
    service = "/shortlist.v1.RecommendationService"
    assert [(call["method"], call["code"], call["request_id"]) for call in calls] == [
        (f"{service}/Recommend", "OK", "mine"),
        (f"{service}/BatchRecommend", "OK", "mine"),
        (f"{service}/Recommend", "INVALID_ARGUMENT", "mine"),
        (f"{service}/Recommend", "UNAUTHENTICATED", "stranger"),
    ]
    assert [call.get("caller") for call in calls] == ["shop", "shop", "shop", None]
    assert all(call["duration_ms"] > 0 for call in calls)
    assert calls[0]["trace_id"] == "a" * 32
    assert key not in log
    assert "secret-user" not in log


@pytest.fixture
def logging_server(tiny_bundle: Path, generation: Generation) -> Iterator[Any]:
    running = RunningServer(tiny_bundle, generation, access_log=True)
    yield running
    running.stop()


def test_text_log_tells_of_calls_too(
    logging_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level("INFO", logger="shortlist_server.access_log"),
        grpc.insecure_channel(logging_server.target) as channel,
    ):
        stub = RecommendationServiceStub(channel)
        stub.Recommend(REQUEST, timeout=10, metadata=(("x-request-id", "mine"),))
    (record,) = [one for one in caplog.records if one.name == "shortlist_server.access_log"]
    beginning = "mine /shortlist.v1.RecommendationService/Recommend OK after "
    assert record.getMessage().startswith(beginning)


def test_calls_are_not_logged_unless_it_is_asked_for(
    channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        RecommendationServiceStub(channel).Recommend(REQUEST, timeout=10)
    assert not [one for one in caplog.records if one.name == "shortlist_server.access_log"]
