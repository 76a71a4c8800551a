"""Requests logged by a server, and answered again: MovieLens over real sockets."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import movielens_world
import pytest
from movielens_requests import Answered, make_requests, send
from serving_process import ServingProcess, run_server
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_exporters.export import export_bundle
from shortlist_server.observability.log_file import finished_files
from shortlist_server.replay.reader import read_log

COUNT = 1_000
PATIENT = ("--default-timeout-ms", "60000")
"""Rows of a batch have the server's default: nothing is left out on a machine that is busy."""


@dataclass(frozen=True)
class Logged:
    """A log, and what its requests were answered."""

    folder: Path
    answers: list[Answered]


@pytest.fixture(scope="module")
def bundles(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles of MovieLens that differ in their rankers."""
    folder = tmp_path_factory.mktemp("movielens")
    made = []
    for seed in (7, 8):
        spec = movielens_world.write_spec(real_data / "ml-100k", folder / f"spec-{seed}", seed=seed)
        export_bundle(spec, folder / f"bundle-{seed}", version=str(seed))
        made.append(folder / f"bundle-{seed}")
    return made[0], made[1]


def answers_of(target: str, requests: list[Any]) -> list[Answered]:
    with grpc.insecure_channel(target) as channel:
        return send(Stub(channel), requests)


@pytest.fixture(scope="module")
def logged(bundles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """A thousand requests, logged in several files; the index is searched in all its ways."""
    folder = tmp_path_factory.mktemp("logged") / "log"
    settings = ("--request-log", folder, "--request-log-file-s", "0.5", "--exact-items-max", "0")
    with ServingProcess(bundles[0], *settings, *PATIENT) as server:
        answers = answers_of(server.target, make_requests(COUNT))
        code, log = server.end()
    assert code == 0
    assert "dropped" not in log
    return Logged(folder, answers)


def replay(*arguments: str | Path, code: int = 0) -> Any:
    result = run_server("replay", *arguments, "--json")
    assert result.returncode == code, result.stderr
    return json.loads(result.stdout)


def test_log_has_every_answer_bit_by_bit(logged: Logged) -> None:
    rows = {placed.row.request_id: placed.row for placed in read_log(logged.folder)}
    assert len(rows) == len(logged.answers) == COUNT
    assert len(finished_files(logged.folder)) > 1
    assert Counter(row.kind for row in rows.values()) == Counter(
        {"recommend": 572, "retrieve": 143, "rank": 143, "find_similar_items": 142}
    )
    for answered in logged.answers:
        row = rows[answered.response.info.request_id]
        assert row.item_ids == tuple(answered.ids)
        assert row.scores == tuple(item.score for item in answered.response.items)
        assert row.request == answered.request.SerializeToString(deterministic=True)
    plans = Counter(
        source.plan.split(": ")[-1].split()[0]
        for answered in logged.answers
        for source in answered.response.info.sources
    )
    assert plans["hnsw"] > 50
    assert plans["exact"] > 50


def test_same_bundle_answers_the_same_bit_by_bit(
    logged: Logged, bundles: tuple[Path, Path]
) -> None:
    report = replay(logged.folder, "--bundle", bundles[0], "--fail-on", "reordered")
    assert report["machine"]["same_as_log"]
    (comparison,) = report["comparisons"]
    assert comparison["identical"] == comparison["bit_identical"] == COUNT
    assert comparison["score_change_max"] == 0
    assert comparison["overlap_mean"] == 1
    assert report["log"]["request_count"] == report["bundles"][0]["answered_in_log"] == COUNT
    assert all(
        0 < figure < 1_000 for one in report["latency_ms"].values() for figure in one.values()
    )


def test_report_about_another_bundle_is_what_a_server_of_it_answers(
    logged: Logged, bundles: tuple[Path, Path]
) -> None:
    with ServingProcess(bundles[1], *PATIENT) as server:
        live = answers_of(server.target, [answered.again() for answered in logged.answers])
    by_request = {one.request.SerializeToString(deterministic=True): one for one in live}
    counts: Counter[str] = Counter()
    overlaps, changes = [], []
    for old in logged.answers:
        new = by_request[old.again().SerializeToString(deterministic=True)]
        if old.ids == new.ids:
            counts["identical"] += 1
        elif set(old.ids) == set(new.ids):
            counts["reordered"] += 1
        else:
            counts["different"] += 1
        common = set(old.ids) & set(new.ids)
        overlaps.append(
            len(common) / max(len(old.ids), len(new.ids), 1) if old.ids or new.ids else 1
        )
        changes += [abs(old.scores[item] - new.scores[item]) for item in common]
    assert min(counts[name] for name in ("identical", "reordered", "different")) > 20

    report = replay(
        logged.folder,
        "--bundle",
        bundles[0],
        "--bundle",
        bundles[1],
        "--fail-on",
        "different",
        code=3,
    )
    of_a, of_b, b_to_a = report["comparisons"]
    assert of_a["identical"] == COUNT
    for comparison in (of_b, b_to_a):
        assert {name: comparison[name] for name in counts} == counts
        assert comparison["errors"] == comparison["masked"] == 0
        assert comparison["overlap_mean"] == pytest.approx(sum(overlaps) / COUNT)
        assert comparison["score_change_max"] == pytest.approx(max(changes))
        assert comparison["score_change_mean"] == pytest.approx(sum(changes) / len(changes))
        assert len(comparison["examples"]) == 10
    assert [bundle["answered_in_log"] for bundle in report["bundles"]] == [COUNT, 0]
    text = run_server("replay", logged.folder, "--bundle", bundles[1], "--limit", "30").stdout
    assert "30 requests" in text
    assert "A against the log, the first that are not identical:" in text


def test_degraded_answers_replay_to_the_same_lists(
    bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    """A server in a hurry leaves out diversity and all sources but the first; a replay has time."""
    sources = [
        types.SourceOptions(nearest=types.NearestSource(), candidate_count=20),
        types.SourceOptions(popularity=types.PopularitySource(), candidate_count=20),
    ]
    selection = types.SelectionOptions(diversity=0.9)
    requests = [
        pb.RecommendRequest(
            query=types.Query(user=types.UserQuery(id=str(user))),
            limit=30,
            sources=sources,
            selection=selection,
        )
        for user in range(1, 61)
    ]
    hurry = ("--source-share", "1e-9", "--diversity-share", "1e-9")
    with ServingProcess(bundles[0], "--request-log", tmp_path / "log", *hurry) as server:
        answers = answers_of(server.target, requests)
    with ServingProcess(bundles[0]) as server:
        leisurely = answers_of(server.target, requests)
    for answered, other in zip(answers, leisurely, strict=True):
        left_out = {(one.stage, one.source) for one in answered.response.info.degraded}
        assert left_out == {("retrieval", "popularity"), ("diversity", "")}
        assert answered.ids != other.ids
    (comparison,) = replay(tmp_path / "log", "--bundle", bundles[0])["comparisons"]
    assert comparison["bit_identical"] == len(requests)


def test_killed_server_leaves_a_log_that_can_be_read(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    settings = ("--request-log", folder, "--request-log-file-s", "0.1")
    query = types.Query(user=types.UserQuery(id="u1"))
    with ServingProcess(tiny_bundle, *settings) as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = Stub(channel)
            sent = 0
            while len(finished_files(folder)) < 3:
                stub.Recommend(pb.RecommendRequest(query=query, limit=3), timeout=10)
                sent += 1
            killed = threading.Timer(0.25, server.process.send_signal, [signal.SIGKILL])
            killed.start()
            with contextlib.suppress(grpc.RpcError):
                while True:
                    stub.Recommend(pb.RecommendRequest(query=query, limit=3), timeout=10)
                    sent += 1
            killed.join()
        assert server.process.wait(10) == -signal.SIGKILL
    report = replay(folder, "--bundle", tiny_bundle, "--fail-on", "reordered")
    assert 0 < report["log"]["request_count"] <= sent
    unfinished = list(folder.glob(".*"))
    with ServingProcess(tiny_bundle, *settings):
        assert not [path for path in unfinished if path.exists()]
    assert replay(folder, "--bundle", tiny_bundle)["log"] == report["log"]


@pytest.mark.parametrize("users", ["hash", "drop"])
def test_log_without_users_has_no_byte_of_them(
    tiny_bundle: Path, tmp_path: Path, users: str
) -> None:
    """Every file of the folder, as it is and unpacked, is searched for what was sent."""
    query = types.Query(user=types.UserQuery(id="plaintext-user"))
    query.user.features["segment"].string_value = "plaintext-segment"
    query.user.features["age"].double_value = 12_345.678
    query.user.features["unknown"].int64_value = 7_777_777
    query.context["situation"].string_value = "plaintext-value"
    query.user.history.add(item_id="plaintext-item", action="plaintext-action", rating=1.25)
    query.user.history.add(item_id="i3").time.seconds = 1_111_111_111
    request = pb.RecommendRequest(
        query=query,
        limit=5,
        exclusions=types.Exclusions(item_ids=["plaintext-excluded", "i4"]),
        explain=True,
        debug=True,
    )
    settings = ("--request-log-users", users, "--request-log-salt-file", tmp_path / "salt")
    with ServingProcess(tiny_bundle, "--request-log", tmp_path / "log", *settings) as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = Stub(channel)
            call = [("x-request-id", "plaintext-id")]
            answer = stub.Recommend(request, timeout=10, metadata=call)
            stub.Retrieve(pb.RetrieveRequest(query=query), timeout=10, metadata=call)
            stub.Rank(pb.RankRequest(query=query, item_ids=["i1"]), timeout=10, metadata=call)
            list(stub.BatchRecommend(pb.BatchRecommendRequest(requests=[request]), metadata=call))
        code, _ = server.end()
    assert code == 0
    assert answer.info.answered_query.history_item_ids == ["i3"]
    files = list((tmp_path / "log").iterdir())
    rows = [placed.row for placed in read_log(tmp_path / "log")]
    assert len(files) == 1
    assert len(rows) == 4
    numbers = types.Value(double_value=12_345.678).SerializeToString()[1:]
    for content in (files[0].read_bytes(), *(repr(row).encode() + row.request for row in rows)):
        assert b"plaintext" not in content
        assert numbers not in content
    for row in rows:
        kept = pb.RecommendRequest.FromString(row.request).query.user
        assert not any(event.HasField("time") or event.HasField("rating") for event in kept.history)
        names = sorted(kept.features)
        assert names == ([] if users == "drop" else ["age", "segment", "unknown"])
    assert (tmp_path / "salt").exists() == (users == "hash")


def test_log_without_its_extra_is_one_sentence_that_names_it(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ImportError('not installed')\n")
    for arguments in (
        ("serve", "--bundle", tiny_bundle, "--request-log", tmp_path / "log"),
        ("replay", tmp_path, "--bundle", tiny_bundle),
    ):
        result = run_server(*arguments, PYTHONPATH=str(tmp_path))
        assert result.returncode == 1
        assert result.stderr.strip() == (
            "shortlist-server: the request log needs an optional part of Shortlist; install it "
            "with: pip install 'shortlist[replay]'"
        )


def test_settings_of_the_log_are_shown_as_toml(tiny_bundle: Path, tmp_path: Path) -> None:
    shown = run_server("show-config", "--bundle", tiny_bundle, "--request-log", tmp_path).stdout
    assert f'request_log = "{tmp_path}"' in shown
    assert "# request_log_salt_file is not set" in shown
