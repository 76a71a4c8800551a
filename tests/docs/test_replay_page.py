"""docs/replay.md: its commands run as they stand, and its tables are complete."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import grpc
import pytest
import tiny_world
from serving_process import ServingProcess, run_server
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_exporters.export import export_bundle
from shortlist_server.config import ServerConfig
from shortlist_server.observability import log_row
from shortlist_server.replay.comparison import Outcome

PAGE = (Path(__file__).parents[2] / "docs/replay.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, tiny_bundle: Path) -> Path:
    """A folder with what the page takes for granted: two bundles, and its configuration."""
    (tmp_path / "bundle").symlink_to(tiny_bundle)
    ranker = {
        "model": "ranker.onnx",
        "inputs": tiny_world.RANKER_INPUTS,
        "weights": {"rating": 1.0, "like": -2.0},
    }
    spec = tiny_world.write_spec(tmp_path / "spec", ranker=ranker)
    export_bundle(spec, tmp_path / "next", version="2")
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "server.toml").write_text(toml)
    return tmp_path


def ask(target: str, count: int) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = RecommendationServiceStub(channel)
        for number in range(count):
            query = types.Query(user=types.UserQuery(id=f"u{number % tiny_world.USER_COUNT}"))
            stub.Recommend(
                pb.RecommendRequest(query=query, limit=5),
                timeout=10,
                metadata=[("x-request-id", f"page-{number}")],
            )


def test_commands_run_as_they_stand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    commands = re.findall(r"^\$ shortlist-server (.*)$", PAGE, re.MULTILINE)
    assert [command.split()[0] for command in commands] == [
        "serve",
        "replay",
        "replay",
        "replay",
        "serve",
        "replay",
    ]
    printed = []
    for command in commands:
        name, *arguments = shlex.split(command)
        if name == "serve":
            assert arguments[0] == "--bundle"
            with ServingProcess(Path(arguments[1]), *arguments[2:]) as server:
                ask(server.target, 200)
            continue
        result = run_server(name, *arguments)
        assert result.returncode == 0, f"{command}\n{result.stderr}"
        printed.append(result.stdout)
    same, other, checked, hashed = printed
    assert "B against A" not in same
    assert "B against A" in other
    assert "tiny 2" in other
    report = json.loads(checked)
    assert 5 < report["log"]["request_count"] < 50
    assert report["comparisons"][-1]["identical"] == report["log"]["request_count"]
    (identical,) = re.findall(r"^identical, bit by bit +(\d+)$", hashed, re.MULTILINE)
    assert identical == "200"
    code = run_server(
        "replay", "requests", "--bundle", "bundle", "--bundle", "next", "--fail-on", "different"
    ).returncode
    assert code == 3


def test_tables_are_complete() -> None:
    for name in ServerConfig.model_fields:
        if name.startswith("request_log"):
            assert f"| `{name}` |" in PAGE
    for outcome in Outcome:
        assert f"| `{outcome.value}` |" in PAGE
    for kind in log_row.KINDS.values():
        assert f"`{kind}`" in PAGE
