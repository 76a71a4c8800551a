"""The benchmark beside other servers: that they answer alike is what makes it one."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark_modules import benchmark

calls, servers = benchmark("peer_calls"), benchmark("peer_servers")
share = benchmark("kernel_share")
CANDIDATES = 100
USERS = 20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("peers") / "bundle"
    benchmark("synthetic").build(out, items=2_000, dimension=16)
    return out


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(servers, "ENVIRONMENTS", tmp_path)
    return tmp_path


def answers(server: Any) -> list[Any]:
    async def ask() -> list[Any]:
        wire = server.peer.wire()
        await wire.connect(server.port, 1)
        found = [
            wire.items(await wire.ask(wire.request(f"user-{row}", CANDIDATES), 0))
            for row in range(USERS)
        ]
        await wire.close()
        return found

    return asyncio.run(ask())


def reference() -> Any:
    """The reference server, in the environment of the tests."""
    return replace(
        servers.PEERS["reference"],
        command=lambda bundle, port: [sys.executable, "reference_server.py", bundle, str(port)],
    )


def test_the_reference_server_answers_as_shortlist_does(bundle: Path, logs: Path) -> None:
    with (
        servers.started(servers.own_server(bundle, workers=0), bundle) as own,
        servers.started(reference(), bundle) as other,
    ):
        ours, theirs = answers(own), answers(other)
        assert other.cpu_s() > 0
    assert [ids for ids, _ in theirs] == [ids for ids, _ in ours]
    assert len({tuple(ids) for ids, _ in ours}) == USERS
    for (_, our_scores), (_, their_scores) in zip(ours, theirs, strict=True):
        assert their_scores == pytest.approx(our_scores, abs=1e-5)


def test_the_kernels_are_a_part_of_their_stages_and_the_stages_of_the_process(
    bundle: Path, logs: Path
) -> None:
    small = share.Job(name="small", candidate_count=CANDIDATES, requests=40)
    (job,) = share.measure(bundle, logs / "clock.json", rounds=1, jobs=[small])["jobs"]
    spent = job["cpu_us"]
    for kernel, stage in zip(
        ("query_tower", "search", "ranker", "selection"),
        ("query", "retrieval", "ranking", "select"),
        strict=True,
    ):
        assert spent[kernel] > 0, kernel
        assert spent[kernel] < spent[f"stage {stage}"], kernel
    stages = sum(value for name, value in spent.items() if name.startswith("stage "))
    assert stages < spent["process"]
    assert 0 < job["share"]["median"] < 1


def test_a_peer_that_does_not_start_is_left_out_with_its_own_words(
    bundle: Path, logs: Path
) -> None:
    absent = replace(reference(), command=lambda *_: [sys.executable, "-c", "import no_such_peer"])
    with (
        pytest.raises(servers.Skipped, match="No module named 'no_such_peer'"),
        servers.started(absent, bundle),
    ):
        pass


def test_a_peer_that_cannot_be_installed_is_left_out(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "FOLDER", tmp_path)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/reference.txt").write_text("./no-such-package\n")
    with pytest.raises(servers.Skipped, match="no-such-package"):
        servers.installed(reference())


@pytest.mark.parametrize("raw", [True, False])
def test_both_forms_of_the_open_protocol_are_read(raw: bool) -> None:
    wire = calls.InferWire()
    response = wire._response()
    ids, scores = response.outputs.add(name="id"), response.outputs.add(name="score")
    if raw:
        response.raw_output_contents.append(b"\x01\x00\x00\x00a\x02\x00\x00\x00bc")
        response.raw_output_contents.append(b"\x00\x00\x80\x3f\x00\x00\x00\x00")
    else:
        ids.contents.bytes_contents.extend([b"a", b"bc"])
        scores.contents.fp32_contents.extend([1.0, 0.0])
    assert wire.items(response.SerializeToString()) == (["a", "bc"], [1.0, 0.0])


def test_every_peer_is_pinned_to_the_kernels_of_the_server() -> None:
    own = servers.pins(servers.ROOT / "constraints-server.txt")
    for peer in servers.PEERS.values():
        pins = servers.pins(servers.FOLDER / f"requirements/{peer.name}.txt")
        assert {"hnswlib", "numpy", "onnxruntime", *peer.packages} <= set(pins)
        assert all(pins[kernel] == own[kernel] for kernel in ("hnswlib", "onnxruntime"))
