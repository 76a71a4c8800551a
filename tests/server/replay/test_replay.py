"""Whole replays and their reports, by the command, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_world
from request_logs import answer, user, write_log
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_exporters.export import export_bundle
from shortlist_server import cli
from shortlist_server.generation import Generation
from shortlist_server.observability import machine
from shortlist_server.observability.masking import Masking

LEAST = types.Filter(
    range=types.RangeCondition(attribute="year", at_least=types.Value(int64_value=1990))
)


@pytest.fixture(scope="module")
def next_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world ranked the other way round, and without the items' years."""
    folder = tmp_path_factory.mktemp("next")
    items = {
        "file": "items.csv",
        "embeddings": "items.npy",
        "columns": ["title", "genres"],
        "lists": {"genres": "|"},
    }
    ranker = {
        "model": "ranker.onnx",
        "inputs": tiny_world.RANKER_INPUTS,
        "weights": {"rating": -1.0, "like": -0.5},
    }
    spec = tiny_world.write_spec(folder / "spec", items=items, ranker=ranker)
    export_bundle(spec, folder / "bundle", version="2")
    return folder / "bundle"


@pytest.fixture
def log(tmp_path: Path, generation: Generation) -> Path:
    """A list of all items that are left, a short list, one without ranking, and one by year."""
    requests = [
        pb.RecommendRequest(query=user(), limit=60),
        pb.RecommendRequest(query=user(), limit=3),
        pb.RetrieveRequest(query=user()),
        pb.RecommendRequest(query=user(), filter=LEAST),
    ]
    exchanges = [(one, answer(generation, one, f"r{place}")) for place, one in enumerate(requests)]
    write_log(tmp_path / "log", exchanges)
    return tmp_path / "log"


def replay(*arguments: str | Path) -> int:
    return cli.main(["replay", *map(str, arguments)])


def report_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    assert replay(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_report_counts_what_came_out_how(
    log: Path, tiny_bundle: Path, next_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of(capsys, log, "--bundle", tiny_bundle, "--bundle", next_bundle)
    same, other, between = report["comparisons"]
    assert (same["identical"], same["bit_identical"]) == (4, 4)
    for comparison in (other, between):
        counts = ("identical", "reordered", "different", "errors", "masked")
        assert [comparison[name] for name in counts] == [1, 1, 1, 1, 0]
        assert comparison["by_kind"]["retrieve"]["identical"] == 1
        assert comparison["by_kind"]["recommend"]["errors"] == 1
        outcomes = [(one["request_id"], one["outcome"]) for one in comparison["examples"]]
        assert outcomes == [("r0", "reordered"), ("r1", "different"), ("r3", "errors")]
        assert "year" in comparison["examples"][-1]["error"]
    assert [bundle["version"] for bundle in report["bundles"]] == ["1", "2"]
    assert report["log"]["bundles"][0]["request_count"] == 4
    assert report["machine"]["same_as_log"]


def test_table_says_the_same(
    log: Path, tiny_bundle: Path, next_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(log, "--bundle", tiny_bundle, "--bundle", next_bundle, "--examples", "2") == 0
    table = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split()[1:] for line in table.splitlines() if line}
    assert rows["identical"] == ["4", "1", "1"]
    assert rows["reordered"] == ["0", "1", "1"]
    assert rows["errors"] == ["0", "1", "1"]
    assert "B against A, the first that are not identical:" in table
    assert "row 0, r0, recommend: reordered, overlap 1.000" in table
    assert ", r3, " not in table
    assert replay(log, "--bundle", next_bundle) == 0
    assert ", r3, recommend: errors, filter.range.attribute" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("limit", "fail_on", "code"),
    [("1", "different", 0), ("1", "reordered", 3), ("2", "different", 3), ("4", "different", 3)],
)
def test_exit_code_is_what_the_caller_asked_for(
    log: Path, next_bundle: Path, limit: str, fail_on: str, code: int
) -> None:
    arguments = (log, "--bundle", next_bundle, "--limit", limit, "--fail-on", fail_on)
    assert replay(*arguments) == code


def test_same_bundle_passes_the_strictest_check(log: Path, tiny_bundle: Path) -> None:
    assert replay(log, "--bundle", tiny_bundle, "--fail-on", "reordered") == 0


def test_masked_requests_are_counted_by_field_and_are_no_verdict(
    tmp_path: Path,
    generation: Generation,
    tiny_bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    request = pb.RecommendRequest(query=user())
    write_log(tmp_path, [(request, answer(generation, request))] * 3, masking=Masking("drop"))
    report = report_of(capsys, tmp_path, "--bundle", tiny_bundle)
    assert report["comparisons"][0]["masked"] == 3
    assert report["comparisons"][0]["overlap_mean"] is None
    assert report["masked_fields"] == {"query.user.id": 3}
    assert report["latency_ms"] == {"log": None, "A": None}
    assert replay(tmp_path, "--bundle", tiny_bundle) == 0
    printed = capsys.readouterr().out
    assert "Not replayed, since the log does not have as sent: query.user.id (3)" in printed
    assert replay(tmp_path, "--bundle", tiny_bundle, "--fail-on", "different") == 1
    assert "none of the 3 requests" in capsys.readouterr().err


def test_other_machine_is_told(
    log: Path,
    tiny_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shortlist_server.replay.report.cpu_type", lambda: "abacus")
    assert replay(log, "--bundle", tiny_bundle) == 0
    printed = capsys.readouterr().out
    assert f"then: {machine.cpu_type()}" in printed
    assert "now:  abacus" in printed


def test_what_cannot_be_replayed_is_one_clear_line(
    log: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        ((tmp_path / "nowhere", "--bundle", tiny_bundle), "nowhere: no such file or folder"),
        ((log, "--bundle", tmp_path / "none"), "no such folder"),
        ((log, *("--bundle", tiny_bundle) * 3), "--bundle: expected one or two, got 3"),
        ((log, "--bundle", tiny_bundle, "--salt-file", tmp_path / "none"), "cannot read"),
    ):
        assert replay(*arguments) == 1
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
    for usage in (["--limit", "0"], ["--limit", "x"], ["--fail-on", "identical"]):
        with pytest.raises(SystemExit) as caught:
            replay(log, "--bundle", tiny_bundle, *usage)
        assert caught.value.code == 2
