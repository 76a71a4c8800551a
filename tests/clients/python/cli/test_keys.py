"""How the command takes a key, and what it says when it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

if TYPE_CHECKING:
    from tests.clients.python.conftest import Failure as FailureType
    from tests.clients.python.conftest import FakeServer

Run = Callable[..., int]
KEY = "sl_" + "k" * 43


def test_key_comes_from_a_file_and_else_from_the_environment(
    shortlist: Run, fake_server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORTLIST_API_KEY", "sl_environment")
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert shortlist("info", "--api-key-file", str(tmp_path / "key")) == 0
    assert shortlist("info") == 0
    monkeypatch.delenv("SHORTLIST_API_KEY")
    assert shortlist("info") == 0
    sent = [call.metadata.get("authorization") for call in fake_server.received]
    assert sent == [f"Bearer {KEY}", "Bearer sl_environment", None]


def test_key_is_not_sent_in_plain_text_to_another_machine(
    shortlist: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHORTLIST_API_KEY", KEY)
    assert shortlist("info", "--target", "10.0.0.1:1") == 2
    complaint = capsys.readouterr().err
    assert "--allow-plaintext-key" in complaint
    assert KEY not in complaint
    options = ("--target", "10.0.0.1:1", "--timeout", "0.05", "--allow-plaintext-key")
    # Whoever answers there, if somebody does: it was sent.
    assert shortlist("info", *options) != 2


@pytest.mark.parametrize("flag", ["--api-key-file", "--ca-file"])
def test_a_file_that_is_not_there_is_wrong_usage(
    shortlist: Run, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        shortlist("info", flag, "nowhere")
    assert caught.value.code == 2
    assert flag in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--certificate-file", "--key-file"])
def test_certificate_and_key_belong_together(
    shortlist: Run, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pem").write_text("-----BEGIN PEM-----")
    assert shortlist("info", flag, str(tmp_path / "pem")) == 2
    assert f"{flag}: expected --certificate-file and --key-file" in capsys.readouterr().err


def test_a_file_without_pem_is_refused_by_name(
    shortlist: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    assert shortlist("info", "--ca-file", str(tmp_path / "ca.pem")) == 2
    assert f"--ca-file {tmp_path / 'ca.pem'}: expected PEM" in capsys.readouterr().err


def test_key_file_that_holds_no_key_is_refused(
    shortlist: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").write_text("\n")
    assert shortlist("info", "--api-key-file", str(tmp_path / "empty")) == 2
    assert "api_key: expected printable ASCII" in capsys.readouterr().err
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit):
        shortlist("info", "--api-key-file", str(tmp_path / "binary"))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "API_KEY_INVALID"),
        (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"),
    ],
)
def test_who_is_refused_gets_the_exit_code_of_a_refusal(
    shortlist: Run,
    fake_server: FakeServer,
    failure: Callable[..., FailureType],
    code: grpc.StatusCode,
    reason: str,
) -> None:
    fake_server.script(failure(code, reason))
    assert shortlist("info") == 3
