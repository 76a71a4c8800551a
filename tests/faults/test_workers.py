"""Workers, their zygote and their supervisor are killed; bundles that cannot be served are refused.

Real processes throughout, and SIGKILL: nobody can clear up behind himself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from serving_process import COMMAND, run_server
from shortlist.v1 import bundle_pb2
from shortlist_server.access.api_keys import entry, make_key
from supervised import Load, Supervised, children, is_there, kill, until, write_bundle

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles that answer differently. Read-only."""
    root = tmp_path_factory.mktemp("bundles")
    for version, seed in (("1", 1), ("2", 2)):
        write_bundle(root, version, seed)
    return root


@pytest.fixture
def folder(bundles: Path, tmp_path: Path) -> Path:
    """A folder to serve from, with both bundles."""
    shutil.copytree(bundles, tmp_path / "bundles")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Supervised]:
    with Supervised(folder, "--workers", "2", bundle=folder / "bundles/1") as running:
        yield running


def refused(call: Any, *arguments: Any, **more: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **more)
    return caught.value


def test_worker_that_is_killed_is_started_again_and_the_others_answer(server: Supervised) -> None:
    first = server.workers()
    assert len(first) == 2
    expected = {"1": server.answers()}

    async def storm() -> Load:
        load = Load(server, expected)
        done = asyncio.Event()
        running = asyncio.create_task(load.run(50, done))
        for _ in range(3):
            victim = server.workers()[0]
            kill(victim)
            await asyncio.to_thread(
                until,
                lambda victim=victim: victim not in (w := server.workers()) and len(w) == 2,
                "another worker",
            )
            await asyncio.sleep(0.3)
        done.set()
        await running
        return load

    load = asyncio.run(storm())
    assert load.ends["OK"]
    assert not load.mixed
    # What fails is what the killed workers had in hand, or was on its way to them.
    failed = {end for end in load.ends if end != "OK"}
    assert all(end.startswith("UNAVAILABLE") for end in failed), failed
    assert server.version() == "1"
    code, log = server.end()
    assert code == 0
    assert "ended: signal SIGKILL" in log
    assert log.count("; again in ") == 3


def test_worker_that_ends_again_and_again_is_waited_for_longer_and_longer(
    server: Supervised,
) -> None:
    for _ in range(4):
        kill(victim := server.workers()[-1])
        until(lambda: not is_there(victim), "its end")
        until(lambda: len(server.workers()) == 2, "both workers")
    assert server.version() == "1"
    _, log = server.end()
    delays = [float(line.split()[-2]) for line in log.splitlines() if "; again in " in line]
    assert delays == [0.0, 0.1, 0.2, 0.4]


def test_zygote_that_is_killed_is_replaced_and_no_call_fails(server: Supervised) -> None:
    (zygote,) = server.zygotes()
    before = server.workers()
    expected = {"1": server.answers()}

    async def watch() -> Load:
        load = Load(server, expected)
        done = asyncio.Event()
        running = asyncio.create_task(load.run(50, done))
        kill(zygote)
        await asyncio.to_thread(
            until,
            lambda: len(server.workers()) == 2 and not any(map(is_there, before)),
            "workers of another zygote, and the end of those before",
        )
        done.set()
        await running
        return load

    load = asyncio.run(watch())
    assert set(load.ends) == {"OK"}
    assert not load.mixed
    assert zygote not in server.zygotes()
    assert server.version() == "1"


@pytest.mark.parametrize("listen", ["127.0.0.1:0"])
def test_supervisor_that_is_killed_leaves_nothing_and_can_be_started_at_once(
    folder: Path, listen: str
) -> None:
    with Supervised(folder, "--workers", "2", bundle=folder / "bundles/1") as server:
        server.activate("2")
        processes = [*server.zygotes(), *server.workers()]
        server.end(signal.SIGKILL)
        port = server.target.rpartition(":")[2]
        until(lambda: not any(map(is_there, processes)), "the end of all processes")
        again = Supervised(
            folder,
            *("--workers", "2", "--listen", f"127.0.0.1:{port}"),
            bundle=folder / "bundles/1",
        )
        with again:
            assert again.target == server.target
            # What was active is, though `bundle` is another.
            assert again.version() == "2"


def test_second_server_on_the_port_is_refused(server: Supervised) -> None:
    result = run_server(
        *("serve", "--workers", "1", "--listen", server.target, "--bundle"),
        server.folder / "bundles/1",
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"shortlist-server: listen: cannot bind {server.target}")
    assert "Traceback" not in result.stderr


def test_sigterm_ends_all_processes(server: Supervised) -> None:
    processes = [*server.zygotes(), *server.workers()]
    assert len(processes) == 3
    code, log = server.end()
    assert code == 0
    assert "Traceback" not in log
    assert not any(map(is_there, processes))


def test_bundle_that_cannot_be_served_is_refused_and_nothing_changes(server: Supervised) -> None:
    bad = server.folder / "bundles/2"
    sha256 = next(
        entry.id.sha256
        for entry in server.admin("ListBundles", bundle_pb2.ListBundlesRequest()).bundles
        if entry.folder == "2"
    )
    file = next(bad.glob("**/hnsw.bin"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    before, workers = server.answers(), server.workers()
    file.write_bytes(content)
    for validate_only in (True, False):
        error = refused(server.activate, "2", validate_only=validate_only)
        assert error.code() is Code.FAILED_PRECONDITION
        assert error.details().startswith("index/hnsw.bin: expected sha256")
        assert str(server.folder) not in error.details()
    assert (server.workers(), server.answers()) == (workers, before)
    assert server.serving_state()["active"]["stable"]["version"] == "1"
    # A file that nobody can parse: what it is nobody knows.
    (bad / "manifest.json").write_text("{")
    listed = server.admin("ListBundles", bundle_pb2.ListBundlesRequest()).bundles
    problems = {entry.folder: entry.problem for entry in listed}
    assert problems["1"] == ""
    assert problems["2"].startswith("manifest.json: cannot be parsed")
    error = refused(server.admin, "ActivateBundle", bundle_pb2.ActivateBundleRequest(sha256=sha256))
    assert error.code() is Code.NOT_FOUND


def test_process_that_dies_while_it_loads_changes_nothing(server: Supervised) -> None:
    """A model may end ONNX Runtime; here somebody kills the process instead."""

    async def murder() -> grpc.RpcError:
        known = set(server.zygotes())
        activating = asyncio.create_task(asyncio.to_thread(refused, server.activate, "2"))
        while not (new := set(server.zygotes()) - known):  # noqa: ASYNC110  # no event tells it
            await asyncio.sleep(0.005)
        kill(new.pop())
        return await activating

    error = asyncio.run(murder())
    assert error.code() is Code.FAILED_PRECONDITION
    assert error.details() == "2: the process that loaded it ended by signal SIGKILL"
    assert server.version() == "1"
    assert server.activate("2").switched
    assert server.version() == "2"


def test_validating_changes_nothing(server: Supervised) -> None:
    workers = server.workers()
    answer = server.activate("2", validate_only=True)
    assert (answer.bundle.version, answer.switched) == ("2", False)
    assert not answer.HasField("previous")
    assert (server.version(), server.workers()) == ("1", workers)
    assert len(server.zygotes()) == 1


def test_rolling_back_and_activating_again(server: Supervised) -> None:
    error = refused(server.admin, "RollBackBundle", bundle_pb2.RollBackBundleRequest())
    assert error.code() is Code.NOT_FOUND
    answer = server.activate("2")
    assert (answer.bundle.version, answer.previous.version, answer.switched) == ("2", "1", True)
    # What is active is active: nothing happens.
    workers = set(server.workers())
    assert not server.activate("2").switched
    assert not server.activate("", sha256=answer.bundle.sha256).switched
    assert set(server.workers()) <= workers
    back = server.admin("RollBackBundle", bundle_pb2.RollBackBundleRequest())
    assert (back.bundle.version, back.previous.version) == ("1", "2")
    assert server.version() == "1"
    assert server.serving_state()["previous"]["stable"]["version"] == "2"
    until(lambda: len(server.workers()) == 2, "the end of the workers before")
    until(lambda: not server.zombies(), "the last of their zygote")


def test_bundles_are_not_half_remembered(bundles: Path, folder: Path) -> None:
    """The supervisor dies at each point of remembering a switch: one bundle or the other serves,
    and where the switch was acknowledged it is the new one.
    """
    for point in ("before_sync", "before_rename", "after_rename"):
        shutil.rmtree(folder / "state", ignore_errors=True)
        os.environ["SHORTLIST_FAULT_POINT"] = f"serving_state.{point}:2"
        try:
            server = Supervised(folder, "--workers", "1", bundle=folder / "bundles/1")
        finally:
            del os.environ["SHORTLIST_FAULT_POINT"]
        with server:
            error = refused(server.activate, "2")
            assert error.code() is Code.UNAVAILABLE
            assert server.process.wait(timeout=30) == -signal.SIGKILL
        with Supervised(folder, "--workers", "1", bundle=folder / "bundles/1") as again:
            assert again.version() == ("2" if point == "after_rename" else "1")


def test_newer_bundle_that_appears_is_switched_to(folder: Path) -> None:
    (folder / "bundles/2").rename(folder / "bundles/.2")
    watching = ("--bundle-watch", "true", "--bundle-poll-s", "0.05", "--workers", "1")
    with Supervised(folder, *watching) as server:
        assert server.version() == "1"
        # Half a copy: its manifest is there, a file is not.
        file = next((folder / "bundles/.2").glob("**/hnsw.bin"))
        whole = file.read_bytes()
        file.unlink()
        file = folder / "bundles/3" / file.relative_to(folder / "bundles/.2")
        (folder / "bundles/.2").rename(folder / "bundles/3")
        listed = server.admin("ListBundles", bundle_pb2.ListBundlesRequest()).bundles
        assert "index/hnsw.bin" in {entry.folder: entry.problem for entry in listed}["3"]
        assert server.version() == "1"
        file.write_bytes(whole)
        until(lambda: server.version() == "2", "the switch to the newer bundle")
        # A step back is not undone by watching.
        server.admin("RollBackBundle", bundle_pb2.RollBackBundleRequest())
        listed = server.admin("ListBundles", bundle_pb2.ListBundlesRequest()).bundles
        assert [entry.active for entry in listed] == [False, True]
        assert server.version() == "1"


def test_admin_calls_need_their_scope_and_workers(folder: Path, server: Supervised) -> None:
    calls = {
        "ListBundles": bundle_pb2.ListBundlesRequest(),
        "ActivateBundle": bundle_pb2.ActivateBundleRequest(name="tiny", version="2"),
        "RollBackBundle": bundle_pb2.RollBackBundleRequest(),
    }
    right = server.metadata
    server.metadata = (("authorization", "Bearer nonsense"),)
    for method, message in calls.items():
        assert refused(server.admin, method, message).code() is Code.UNAUTHENTICATED
    server.metadata = right
    wrong = {
        "sha256: expected sha256, or name and version": bundle_pb2.ActivateBundleRequest(name="a"),
        "sha256: expected 64 hex": bundle_pb2.ActivateBundleRequest(sha256="AB"),
        "label: expected stable": bundle_pb2.ActivateBundleRequest(sha256="0" * 64, label="blue"),
    }
    for beginning, message in wrong.items():
        error = refused(server.admin, "ActivateBundle", message)
        assert error.code() is Code.INVALID_ARGUMENT
        assert error.details().startswith(beginning)
    server.end()
    command = [*COMMAND, "show-config", "--bundles", "x", "--state-dir", "y"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "bundles (flag --bundles): expected workers of 1 or more" in result.stderr


def test_process_tree(server: Supervised) -> None:
    """One zygote, whose children serve; the supervisor has loaded nothing of gRPC or ONNX."""
    (zygote,) = server.zygotes()
    assert len(children(zygote)) == 2
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "cygrpc" not in maps
    assert "onnxruntime" not in maps
    assert "hnswlib" not in maps
    assert len(os.listdir(f"/proc/{zygote}/task")) == 1  # noqa: PTH208


def page(server: Supervised, port: int) -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines: list[str] = answer.read().decode().splitlines()
    return lines


def test_metrics_of_all_workers_stand_on_one_page_and_none_falls(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listening = ("--metrics-listen", f"127.0.0.1:{port}")
    with Supervised(folder, "--workers", "2", *listening, bundle=folder / "bundles/1") as server:

        def counted() -> float:
            name = 'shortlist_requests_total{code="OK",method="Recommend"} '
            return sum(float(line[len(name) :]) for line in page(server, port) if name in line)

        for _ in range(20):  # each on a connection of its own: both workers have some
            server.ask()
        assert counted() == 20
        assert "shortlist_workers 2.0" in page(server, port)
        assert "shortlist_generation 1.0" in page(server, port)
        kill(victim := server.workers()[0])
        until(lambda: not is_there(victim) and len(server.workers()) == 2, "another worker")
        until(lambda: "shortlist_worker_restarts_total 1.0" in page(server, port), "a restart")
        assert counted() == 20
        server.activate("2")
        until(lambda: len(server.workers()) == 2, "the end of the workers before")
        assert counted() == 20
        lines = page(server, port)
        assert "shortlist_generation 2.0" in lines
        assert [line for line in lines if 'version="2"' in line]
        assert not [line for line in lines if "bundle_info{" in line and 'version="1"' in line]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/secrets", timeout=10)


def test_limit_of_a_key_is_that_of_all_workers_together(folder: Path) -> None:
    key = make_key()
    limited = entry(key, name="few", scopes=["recommend"], requests_per_second=0.001, burst=10)
    with Supervised(folder, "--workers", "2", bundle=folder / "bundles/1") as server:
        with (folder / "keys.toml").open("a") as keys:
            keys.write(f"\n{limited}")
        server.metadata = (("authorization", f"Bearer {key}"),)

        def code() -> str:
            try:
                server.ask()
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

        until(lambda: code() != "UNAUTHENTICATED", "the new key")
        ends = Counter(code() for _ in range(30))
        # A worker that has not read the file again yet may refuse the key.
        assert ends["OK"] <= 9
        assert ends["RESOURCE_EXHAUSTED"] >= 10
