"""`shortlist-server health`: a probe's exit code tells what the server says of itself."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from certificates import Authority
from conftest import RunningServer
from serving_process import ServingProcess, run_server
from shortlist_server.cli import main
from shortlist_server.generation import Generation
from shortlist_server.health import ask

SERVICE = "shortlist.v1.RecommendationService"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = Authority("tests")
    authority.issue("server").write(tmp_path / "server.pem", tmp_path / "server.key")
    authority.issue("probe").write(tmp_path / "probe.pem", tmp_path / "probe.key")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    return tmp_path


def test_a_server_that_serves_is_healthy(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", "--target", server.target]) == 0
    assert main(["health", "--target", server.target, "--service", SERVICE]) == 0
    assert capsys.readouterr() == ("SERVING\nSERVING\n", "")


def test_a_server_that_drains_is_not(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ServingProcess(tiny_bundle, "--drain-notice-ms", "600000") as serving:
        assert ask(serving.target) == "SERVING"
        serving.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 30
        while ask(serving.target) == "SERVING" and time.monotonic() < end:
            pass
        assert main(["health", "--target", serving.target]) == 1
        assert capsys.readouterr().out == "NOT_SERVING\n"
        serving.end(signal.SIGKILL)


def test_a_service_that_is_not_there_is_not(
    server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", "--target", server.target, "--service", "shortlist.v1.Nothing"]) == 1
    assert capsys.readouterr().out == "SERVICE_UNKNOWN\n"


def test_nobody_there_is_one_line_that_names_the_target() -> None:
    result = run_server("health", "--target", "127.0.0.1:1", "--timeout-s", "5")
    assert result.returncode == 1
    lines = [line for line in result.stdout.splitlines() if line]
    assert len(lines) == 1
    assert lines[0].startswith("127.0.0.1:1: UNAVAILABLE: ")
    assert "Traceback" not in result.stderr


def test_health_over_tls_needs_what_the_server_asks_for(
    tiny_bundle: Path, generation: Generation, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = RunningServer(
        tiny_bundle,
        generation,
        tls_certificate_file=folder / "server.pem",
        tls_key_file=folder / "server.key",
        tls_client_ca_file=folder / "ca.pem",
    )
    tls = ["health", "--target", running.target, "--ca-file", str(folder / "ca.pem")]
    own = ["--certificate-file", str(folder / "probe.pem"), "--key-file", str(folder / "probe.key")]
    try:
        assert main(["health", "--target", running.target]) == 1
        assert main(tls) == 1
        assert "SERVING" not in capsys.readouterr().out
        assert main([*tls, *own]) == 0
        # The server's own certificate is enough to trust it by.
        alone = ["health", "--target", running.target, "--ca-file", str(folder / "server.pem")]
        assert main([*alone, *own]) == 0
        assert main([*tls, *own, "--server-name", "localhost"]) == 0
        assert main([*tls, *own, "--server-name", "other.example"]) == 1
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--server-name", "a"], "--ca-file: expected a file beside --server-name, got none"),
        (["--key-file", "a"], "--ca-file: expected a file beside --key-file, got none"),
        (["--ca-file", "a", "--key-file", "a"], "--certificate-file: expected a file beside"),
        (["--ca-file", "nowhere.pem"], "nowhere.pem: cannot be read: No such file"),
    ],
)
def test_wrong_files_are_one_line(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", *arguments]) == 1
    assert capsys.readouterr().err.startswith(f"shortlist-server: {complaint}")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon", "1e9"])
def test_timeout_is_seconds_above_zero(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["health", f"--timeout-s={seconds}"])
    assert caught.value.code == 2
    assert "expected seconds above 0, up to 3600" in capsys.readouterr().err


def test_a_server_that_does_not_answer_in_time_is_not_healthy() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        assert ask(target, timeout_s=0.2).startswith(f"{target}: DEADLINE_EXCEEDED")


def test_a_probe_loads_neither_models_nor_configuration(server: RunningServer) -> None:
    program = (
        "import sys\n"
        "from shortlist_server.cli import main\n"
        "code = main(['health', '--target', sys.argv[1]])\n"
        "heavy = {'numpy', 'onnxruntime', 'pydantic', 'hnswlib'} & set(sys.modules)\n"
        "print(code, sorted(heavy))\n"
    )
    command = [sys.executable, "-c", program, server.target]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "SERVING\n0 []\n"


def test_health_stands_in_the_list_of_commands() -> None:
    assert "ask a running server for its health" in run_server("--help").stdout
    assert "Exit codes: 0 it serves" in run_server("health", "--help").stdout
