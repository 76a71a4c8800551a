"""The `shortlist-server` command, as an operator runs it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from open_load import OpenLoad
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

COMMAND = [sys.executable, "-m", "shortlist_server.cli"]


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


class Serving:
    """A server process that is ready."""

    def __init__(self, bundle: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--bundle", str(bundle), "--listen", "127.0.0.1:0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready on port "), self.process.communicate()[1]
        self.port = int(line.split()[-1])

    def end(self, how: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(how)
        _, log = self.process.communicate(timeout=30)
        return self.process.returncode, log

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def serving(tiny_bundle: Path) -> Iterator[Serving]:
    server = Serving(tiny_bundle, "--drain-notice-ms", "0")
    yield server
    server.kill()


def test_server_answers_and_stops_cleanly_when_told(serving: Serving) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{serving.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
        query = types.Query(user=types.UserQuery(id="u3"))
        answer = RecommendationServiceStub(channel).Recommend(
            pb.RecommendRequest(query=query, limit=4), timeout=10
        )
        assert len(answer.items) == 4
    code, log = serving.end(signal.SIGTERM)
    assert code == 0
    assert "serving bundle tiny 1 (60 items)" in log
    assert log.index("stopping") < log.index("stopped")
    assert "Traceback" not in log


def test_metrics_tell_of_calls_and_of_what_was_served(
    tiny_bundle: Path, request: pytest.FixtureRequest
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = ("--metrics-listen", address, "--recall-share", "1", "--drain-notice-ms", "0")
    server = Serving(tiny_bundle, *options)
    request.addfinalizer(server.kill)
    query = types.Query(user=types.UserQuery(id="u3"))
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = RecommendationServiceStub(channel)
        stub.Recommend(pb.RecommendRequest(query=query, limit=4), timeout=10)
        rows = pb.BatchRecommendRequest(requests=[pb.RecommendRequest(query=query)] * 3)
        assert len(list(stub.BatchRecommend(rows, timeout=10))) == 3
        with pytest.raises(grpc.RpcError):
            stub.Recommend(pb.RecommendRequest(), timeout=10)
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        lines = set(response.read().decode().splitlines())
    assert 'shortlist_requests_total{code="OK",method="Recommend"} 1.0' in lines
    assert 'shortlist_requests_total{code="OK",method="BatchRecommend"} 1.0' in lines
    assert 'shortlist_requests_total{code="INVALID_ARGUMENT",method="Recommend"} 1.0' in lines
    assert "shortlist_requests_in_flight 0.0" in lines
    assert 'shortlist_stages_total{outcome="OK",stage="retrieval"} 4.0' in lines
    assert "shortlist_items 60.0" in lines
    assert "shortlist_recall_dropped_total 0.0" in lines
    code, log = server.end(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in log


def test_server_that_still_loads_stops_when_told(tmp_path: Path) -> None:
    """By its own handler: as PID 1 of a container it could not be ended otherwise."""
    program = (
        "import sys, time\n"
        "from shortlist_server import cli, serving\n"
        "async def serve(config, ready):\n"
        "    print('loading', flush=True)\n"
        "    time.sleep(60)\n"
        "serving.serve = serve\n"
        "sys.exit(cli.main(['serve', '--bundle', sys.argv[1]]))\n"
    )
    command = [sys.executable, "-c", program, tmp_path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert (process.returncode, log) == (0, "")


def test_interrupt_stops_the_server_without_a_traceback(serving: Serving) -> None:
    code, log = serving.end(signal.SIGINT)
    assert code == 0
    assert "Traceback" not in log


@pytest.mark.parametrize("threads", ["0", "2"])
def test_batch_that_is_cut_off_is_told_so_and_leaves_no_traceback(
    tiny_bundle: Path, threads: str
) -> None:
    settings = ("--drain-notice-ms", "0", "--drain-ms", "0", "--compute-threads", threads)
    serving = Serving(tiny_bundle, *settings)
    request = pb.RecommendRequest(query=types.Query(user=types.UserQuery(id="u1")))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{serving.port}") as channel:
            stub = RecommendationServiceStub(channel)
            batch = pb.BatchRecommendRequest(requests=[request] * 1_024)
            calls = [stub.BatchRecommend(batch, timeout=30) for _ in range(4)]
            assert [next(call).HasField("response") for call in calls] == [True] * 4
            serving.process.send_signal(signal.SIGTERM)
            for call in calls:
                with pytest.raises(grpc.RpcError) as caught:
                    list(call)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
                assert b"SHUTTING_DOWN" in details
        _, log = serving.process.communicate(timeout=30)
    finally:
        serving.kill()
    assert serving.process.returncode == 0, log
    assert "Traceback" not in log


def test_calls_that_come_while_it_ends_are_unavailable_and_never_cancelled(
    tiny_bundle: Path,
) -> None:
    for _ in range(3):
        serving = Serving(tiny_bundle, "--drain-notice-ms", "0")
        try:
            with OpenLoad(f"127.0.0.1:{serving.port}", per_second=800) as load:
                load.wait_for(100)
                serving.process.send_signal(signal.SIGTERM)
                _, log = serving.process.communicate(timeout=30)
        finally:
            serving.kill()
        failed = Counter(one.partition(":")[0] for one in load.failed)
        assert failed.keys() <= {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}, Counter(load.failed)
        assert failed["UNAVAILABLE"], log


def test_server_never_imports_what_belongs_to_training(tiny_bundle: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from shortlist_server import app, cli, config, generation\n"
        "options = generation.GenerationOptions(exact_items_max=1, exact_ms_max=0)\n"
        "generation.load_generation(pathlib.Path(sys.argv[1]), options)\n"
        "heavy = {'tensorflow', 'keras', 'tf_keras', 'pyarrow', 'onnx', 'shortlist_exporters', "
        "'shortlist_client', 'opentelemetry', 'grpc_channelz'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, tiny_bundle], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_port_in_use_is_one_clear_line(serving: Serving, tiny_bundle: Path) -> None:
    result = run("serve", "--bundle", tiny_bundle, "--listen", f"127.0.0.1:{serving.port}")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"shortlist-server: listen: cannot bind 127.0.0.1:{serving.port}")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["serve", "check"])
def test_damaged_bundle_is_one_clear_line(tiny_bundle: Path, tmp_path: Path, command: str) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    (copy / "index/hnsw.bin").write_bytes(b"short")
    result = run(command, "--bundle", copy)
    assert result.returncode == 1
    assert result.stderr.startswith("shortlist-server: index/hnsw.bin: expected")
    assert len(result.stderr.splitlines()) == 1


def test_missing_bundle_is_one_clear_line(tmp_path: Path) -> None:
    result = run("serve", "--bundle", tmp_path / "nowhere")
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert "no such folder" in result.stderr


def test_check_reports_the_golden_requests(tiny_bundle: Path) -> None:
    text = run("check", "--bundle", tiny_bundle)
    assert text.returncode == 0
    assert "bundle tiny 1: 60 items" in text.stdout
    assert "golden ranker.rating: " in text.stdout
    report = json.loads(run("check", "--bundle", tiny_bundle, "--json").stdout)
    assert report["bundle"]["name"] == "tiny"
    assert {entry["model"] for entry in report["golden"]} == {"query_tower", "ranker"}
    assert all(entry["difference_max"] <= 1e-5 for entry in report["golden"])


def test_shown_configuration_is_toml_that_comes_to_the_same(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    shown = run("show-config", "--bundle", tiny_bundle, SHORTLIST_SERVER_WAITING_MAX="9").stdout
    assert tomllib.loads(shown)["waiting_max"] == 9
    (tmp_path / "again.toml").write_text(shown)
    assert run("show-config", "--config", tmp_path / "again.toml").stdout == shown


def test_sections_are_shown_without_secrets(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text(
        f'bundle = "{tiny_bundle}"\n[llm]\nprovider = "gemini"\nmodel = "m"\nkey_env = "MY_KEY"\n'
    )
    secrets = {"MY_KEY": "sk-secret-314159", "SHORTLIST_SERVER_LLM__MODEL": "another"}
    shown = run("show-config", "--config", tmp_path / "server.toml", **secrets).stdout
    section = tomllib.loads(shown)["llm"]
    assert (section["model"], section["key_env"], section["retries_max"]) == (
        "another",
        "MY_KEY",
        2,
    )
    assert "# llm.base_url is not set" in shown
    assert "sk-secret-314159" not in shown
    (tmp_path / "again.toml").write_text(shown)
    assert run("show-config", "--config", tmp_path / "again.toml").stdout == shown


def test_a_key_that_is_not_there_is_found_before_it_serves(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "server.toml").write_text(
        f'bundle = "{tiny_bundle}"\n[llm]\nprovider = "gemini"\nmodel = "m"\nkey_env = "NO_KEY"\n'
    )
    ended = run("serve", "--config", tmp_path / "server.toml", "--listen", "127.0.0.1:0")
    assert ended.returncode == 1
    assert "llm.key_env: environment variable NO_KEY: expected a key" in ended.stderr


def test_help_teaches_every_setting() -> None:
    text = run("serve", "--help").stdout
    assert "--compute-threads" in text
    assert "in milliseconds" in text
    assert run("--help").stdout.count("shortlist-server ") >= 3


def test_missing_extra_is_one_sentence_that_names_it(tmp_path: Path) -> None:
    """An environment with the base install alone: none of the server's packages can be imported."""
    (tmp_path / "pydantic.py").write_text("raise ImportError('not installed')\n")
    result = run("serve", "--bundle", tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.strip() == (
        "shortlist-server: the server needs an optional part of Shortlist; install it with: "
        "pip install 'shortlist[server]'"
    )


def test_key_is_made_and_shown_once(tmp_path: Path) -> None:
    result = run("make-key", "--name", "shop", "--scopes", "recommend", "debug", "--burst", "5")
    assert result.returncode == 1
    assert "burst: expected requests_per_second beside it" in result.stderr
    result = run(
        "make-key", "--name", "shop", "--scopes", "recommend", "debug", "--requests-per-second", "9"
    )
    assert result.returncode == 0, result.stderr
    key = result.stderr.strip()
    (entry,) = tomllib.loads(result.stdout)["key"]
    assert entry == {
        "name": "shop",
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "scopes": ["recommend", "debug"],
        "requests_per_second": 9.0,
    }
    assert key not in result.stdout


def test_plain_text_for_other_machines_is_refused_before_the_bundle_is_looked_at() -> None:
    result = run("serve", "--bundle", "nowhere", "--listen", "0.0.0.0:0")
    assert result.returncode == 1
    assert result.stderr.startswith("shortlist-server: listen: expected a loopback address")
    assert len(result.stderr.splitlines()) == 1
    allowed = run("serve", "--bundle", "nowhere", "--listen", "0.0.0.0:0", "--allow-plaintext", "1")
    assert "nowhere" in allowed.stderr
    assert "listen" not in allowed.stderr


def test_keys_in_plain_text_are_allowed_with_a_warning(tmp_path: Path) -> None:
    made = run("make-key", "--name", "shop", "--scopes", "recommend")
    (tmp_path / "keys.toml").write_text(made.stdout)
    keys = ("--api-keys-file", str(tmp_path / "keys.toml"))
    result = run("serve", "--bundle", "nowhere", *keys, "--allow-plaintext", "true")
    assert "WARNING shortlist_server.security: allow_plaintext: API keys" in result.stderr
