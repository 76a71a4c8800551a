"""How `shortlist` ends: exit codes, errors, signals, pipes."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from certificates import Authority
from shortlist_client import errors
from shortlist_client.cli import main
from shortlist_client.cli.arguments import make_parser
from shortlist_client.cli.exit_codes import exit_code

if TYPE_CHECKING:
    from tests.clients.python.conftest import Failure as FailureType
    from tests.clients.python.conftest import FakeServer, Hang

    MakeFailure = Callable[..., FailureType]

Code = grpc.StatusCode

COMMAND = [sys.executable, "-m", "shortlist_client.cli"]
EMPTY_ANSWER = "no items\n\ntotal 0.00 ms\n  () · request \n"


@pytest.mark.parametrize(
    ("code", "reason", "exit_code"),
    [
        (Code.INVALID_ARGUMENT, "OUT_OF_RANGE", 2),
        (Code.INVALID_ARGUMENT, "", 2),
        (Code.UNAUTHENTICATED, "API_KEY_MISSING", 3),
        (Code.PERMISSION_DENIED, "SCOPE_MISSING", 3),
        (Code.NOT_FOUND, "UNKNOWN_ITEM", 4),
        (Code.NOT_FOUND, "BUNDLE_MISSING", 4),
        (Code.RESOURCE_EXHAUSTED, "OVERLOADED", 7),
        (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 6),
        (Code.FAILED_PRECONDITION, "CATALOG_READ_ONLY", 8),
        (Code.ABORTED, "SWITCH_UNDER_WAY", 8),
        (Code.INTERNAL, "INTERNAL", 1),
        (Code.UNIMPLEMENTED, "", 1),
    ],
)
def test_errors_are_one_line_on_stderr_and_an_exit_code(
    shortlist: Callable[..., int],
    fake_server: FakeServer,
    failure: MakeFailure,
    capsys: pytest.CaptureFixture[str],
    code: grpc.StatusCode,
    reason: str,
    exit_code: int,
) -> None:
    fake_server.script(failure(code, reason, message="what\nis wrong"))
    assert shortlist("recommend", "--user", "42", "--json") == exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("shortlist: what is wrong")
    assert err.count("\n") == 1


def test_every_error_that_is_no_fault_has_a_code_of_its_own() -> None:
    kinds = {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ShortlistError)
    }
    assert {kind.__name__ for kind in kinds if exit_code(kind()) == 1} == {
        "ShortlistError",
        "Internal",
    }
    assert exit_code(errors.ShuttingDown()) == exit_code(errors.Unavailable()) == 5


def test_errors_that_the_servers_log_explains_name_the_request(
    shortlist: Callable[..., int],
    fake_server: FakeServer,
    failure: MakeFailure,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_server.script(failure(Code.INTERNAL, "INTERNAL", request_id="5f0c"))
    assert shortlist("recommend", "--user", "42") == 1
    assert capsys.readouterr().err == "shortlist: what is wrong (request 5f0c)\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "recommend",
        "recommend --context hour=1",
        "recommend --user 42 --items 50",
        "recommend --user 42 --exact --ef 5",
        "recommend --user 42 --limit many",
        "recommend --feature age",
        "recommend --feature =33",
        "recommend --user 42 --ca-file /nowhere/at/all.pem",
        "recommend --user 42 --where year",
        "recommend --user 42 --exclude-where =1990",
        "recommend --user 42 --source nearest=many",
        "recommend --user 42 --source =5",
        "recommend --user 42 --cap genres",
        "recommend --user 42 --cap genres=few",
        "recommend --user 42 --seed 1.5",
        "rank --user 42",
        "similar",
        "unknown",
    ],
)
def test_wrong_usage_is_told_by_exit_code_2(
    shortlist: Callable[..., int],
    fake_server: FakeServer,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
) -> None:
    with pytest.raises(SystemExit) as caught:
        shortlist(*arguments.split())
    assert caught.value.code == 2
    assert "usage: shortlist" in capsys.readouterr().err
    assert fake_server.received == []


def test_the_server_may_be_named_before_the_command_and_after(
    fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHORTLIST_TARGET", "nowhere.invalid:1")
    (tmp_path / "key").write_text("sl_before")
    server = ("--target", fake_server.target, "--timeout", "60")
    before = (*server, "--api-key-file", str(tmp_path / "key"))
    assert main([*before, "stats"]) == 0
    assert main(["stats", *before]) == 0
    # What stands after the command wins.
    assert main(["--target", "nowhere.invalid:2", "--timeout", "9", "stats", *before]) == 0
    for call in fake_server.received:
        assert call.metadata["authorization"] == "Bearer sl_before"
        assert call.time_remaining_s > 20
    assert len(fake_server.received) == 3


def test_usage_says_where_the_options_of_a_command_stand(
    shortlist: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        shortlist("--limit", "5", "recommend")
    assert "usage: shortlist [server options] COMMAND ... [options]" in capsys.readouterr().err


def test_messages_speak_to_who_is_at_a_shell_too(
    shortlist: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--limit", "--candidates", "--ef"):
        assert shortlist("recommend", "--user", "42", option, "0") == 2
        error = capsys.readouterr().err
        assert "expected 1 or more, or unset for the server's default" in error
        assert "None" not in error


def test_a_server_that_speaks_no_tls_is_told_in_one_line(environment: dict[str, str]) -> None:
    run = subprocess.run(
        [*COMMAND, "info", "--tls", "--timeout", "2"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 5
    assert run.stderr.startswith("shortlist: 127.0.0.1")
    assert "it speaks no TLS (--no-tls)" in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_certificate_by_somebody_unknown_is_told_in_one_line(
    environment: dict[str, str], start_server: Callable[..., FakeServer], tmp_path: Path
) -> None:
    server = Authority("one").issue("localhost")
    credentials = grpc.ssl_server_credentials([(server.key, server.certificate)])
    target = start_server(credentials).target
    (tmp_path / "ca.pem").write_bytes(Authority("other").pem)
    run = subprocess.run(
        [*COMMAND, "info", "--target", target, "--ca-file", str(tmp_path / "ca.pem")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 5
    assert "its certificate is by nobody who is trusted here (--ca-file)" in run.stderr
    assert run.stderr.count("\n") == 1


def commands() -> list[str]:
    """The names of all commands."""
    (subparsers,) = [
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    return [action.dest.partition(" ")[0] for action in subparsers._choices_actions]


def test_help_teaches_by_example_and_names_the_exit_codes(
    shortlist: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        shortlist("--help")
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for line in ("exit codes:", "examples:", "SHORTLIST_TARGET", "130", "141"):
        assert line in out
    for command in commands():
        with pytest.raises(SystemExit):
            shortlist(command, "--help")
        _, examples = capsys.readouterr().out.split("examples:\n")
        assert f"shortlist {command}" in examples


def test_the_version_is_that_of_the_distribution(
    shortlist: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from importlib import metadata

    def find(name: str) -> str:
        assert name == "shortlist"
        return "1.2.3"

    monkeypatch.setattr(metadata, "version", find)
    with pytest.raises(SystemExit) as caught:
        shortlist("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out == "shortlist 1.2.3\n"


def test_a_source_tree_that_is_not_installed_has_a_version_line_too(
    shortlist: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from importlib import metadata

    def find(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", find)
    with pytest.raises(SystemExit) as caught:
        shortlist("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("shortlist (unknown version")


def test_a_reader_that_has_enough_is_no_error(
    fake_server: FakeServer, environment: dict[str, str]
) -> None:
    readable, writable = os.pipe()
    os.close(readable)
    run = subprocess.run(
        [*COMMAND, "recommend", "--user", "42"],
        env=environment,
        stdout=writable,
        stderr=subprocess.PIPE,
    )
    os.close(writable)
    assert (run.returncode, run.stderr) == (141, b"")


def test_output_that_cannot_be_written_is_told(
    fake_server: FakeServer, environment: dict[str, str]
) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [*COMMAND, "recommend", "--user", "42"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert run.returncode == 1
    assert run.stderr == "shortlist: cannot write the answer: No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_closed_outputs_are_no_crash(
    fake_server: FakeServer, environment: dict[str, str], closed: str
) -> None:
    command = " ".join([*COMMAND, "recommend", "--user", "42", closed])
    run = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stderr == ""
    assert run.stdout == ("" if closed == ">&-" else EMPTY_ANSWER)


def test_ctrl_c_ends_a_waiting_command_quietly(
    fake_server: FakeServer, environment: dict[str, str], hang: Hang
) -> None:
    fake_server.script(hang)
    run = subprocess.Popen(
        [*COMMAND, "info", "--timeout", "30"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert fake_server.called.wait(timeout=20)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=20)
    assert (run.returncode, out, err) == (130, b"", b"")


def test_an_id_that_is_not_utf_8_is_refused_not_a_crash(
    fake_server: FakeServer, environment: dict[str, str]
) -> None:
    run = subprocess.run(
        [*COMMAND, "recommend", "--user", b"\xff"], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert run.stderr.startswith("shortlist: query.user.id: expected text that UTF-8 can hold")
    assert fake_server.received == []
