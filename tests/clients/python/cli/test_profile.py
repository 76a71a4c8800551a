"""Which settings hold: flags, the environment, the profile file, defaults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.clients.python.conftest import FakeServer

Run = Callable[..., int]
KEY = "sl_" + "k" * 43


@pytest.fixture
def write(home: Path) -> Callable[..., Path]:
    """Writes the profile file, for its owner alone unless the mode says otherwise."""

    def write_file(text: str, mode: int = 0o600) -> Path:
        path = home / "xdg/shortlist/config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    return write_file


@pytest.fixture
def settings(
    monkeypatch: pytest.MonkeyPatch, shortlist: Run, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """What `shortlist profile` says, without the target of the tests."""
    monkeypatch.delenv("SHORTLIST_TARGET")

    def ask(*arguments: str) -> Any:
        assert shortlist("profile", "--json", *arguments) == 0
        return json.loads(capsys.readouterr().out)

    return ask


def test_flags_beat_the_environment_and_that_beats_the_profile(
    settings: Callable[..., Any], write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write('profile = "here"\n[profiles.here]\ntarget = "profile:1"\ntimeout_s = 7\n')
    found = settings()
    assert (found["file"], found["profile"]) == (str(path), "here")
    assert found["settings"]["target"] == {"value": "profile:1", "origin": "profile here"}
    assert found["settings"]["timeout_s"] == {"value": 7, "origin": "profile here"}
    assert found["settings"]["tls"] == {"value": False, "origin": "default"}
    monkeypatch.setenv("SHORTLIST_TARGET", "variable:1")
    monkeypatch.setenv("SHORTLIST_TLS", "yes")
    found = settings()["settings"]
    assert found["target"] == {"value": "variable:1", "origin": "$SHORTLIST_TARGET"}
    assert found["tls"] == {"value": True, "origin": "$SHORTLIST_TLS"}
    found = settings("--target", "flag:1", "--no-tls")["settings"]
    assert found["target"] == {"value": "flag:1", "origin": "--target"}
    assert found["tls"] == {"value": False, "origin": "--tls"}


def test_a_profile_is_chosen_by_flag_by_variable_and_else_by_the_file(
    settings: Callable[..., Any], write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("[profiles.a]\ntarget = 'a:1'\n[profiles.b]\ntarget = 'b:1'\n")
    assert settings()["profile"] is None
    monkeypatch.setenv("SHORTLIST_PROFILE", "a")
    assert settings()["settings"]["target"]["value"] == "a:1"
    assert settings("--profile", "b")["settings"]["target"]["value"] == "b:1"
    assert settings()["profiles"] == ["a", "b"]


def test_a_profile_reaches_the_call(
    shortlist: Run,
    fake_server: FakeServer,
    write: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SHORTLIST_TARGET")
    write(
        f"[profiles.p]\ntarget = '{fake_server.target}'\napi_key = '{KEY}'\ntimeout_s = 60\n"
        f"[profiles.f]\ntarget = '{fake_server.target}'\napi_key_file = 'key'\n"
    ).with_name("key").write_text("sl_file\n")
    assert shortlist("info", "--profile", "p") == 0
    assert shortlist("info", "--profile", "f") == 0
    monkeypatch.setenv("SHORTLIST_API_KEY", "sl_variable")
    assert shortlist("info", "--profile", "f") == 0
    sent = [call.metadata["authorization"] for call in fake_server.received]
    assert sent == [f"Bearer {KEY}", "Bearer sl_file", "Bearer sl_variable"]
    assert fake_server.received[0].time_remaining_s > 20


def test_the_key_of_a_profile_goes_to_no_other_server(
    shortlist: Run,
    fake_server: FakeServer,
    write: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The target of the tests stands in the environment, and beats the profile's.
    write(f"[profiles.p]\ntarget = 'other:1'\napi_key = '{KEY}'\n")
    assert shortlist("info", "--profile", "p") == 2
    assert "expected other:1, as the API key is that of profile p" in capsys.readouterr().err
    assert fake_server.received == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_with_a_key_is_refused_where_others_can_read_it(
    shortlist: Run,
    write: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    mode: int,
) -> None:
    path = write(f"[profiles.p]\napi_key = '{KEY}'\n", mode)
    # Even where that profile is not the one that is asked for.
    assert shortlist("info") == 2
    complaint = capsys.readouterr().err
    assert f"{path}: mode: expected no access for others" in complaint
    assert f"got {mode:o}" in complaint
    assert KEY not in complaint
    write("[profiles.p]\napi_key_file = 'key'\n", mode)
    assert shortlist("info") == 0


def test_the_key_is_never_shown(
    shortlist: Run, write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"[profiles.p]\napi_key = '{KEY}'\n")
    for output in ("--json", "--table"):
        assert shortlist("profile", "--profile", "p", output) == 0
        shown = capsys.readouterr().out
        assert "hidden" in shown
        assert KEY not in shown


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[profiles.p", ": it: expected TOML"),
        ("profiles = 3", ": profiles: expected a table of profiles, got int"),
        ("[profiles]\np = 3", ": profiles.p: expected a table, got int"),
        ("[other]\n", ": other: expected `profile` and `profiles` alone, got 'other', too"),
        ("[profiles.p]\ntagret = 'a:1'", ": profiles.p.tagret: expected one of target, "),
        ("[profiles.p]\ntls = 'yes'", ": profiles.p.tls: expected true or false, got"),
        ("[profiles.p]\ntimeout_s = true", ": profiles.p.timeout_s: expected a number, got"),
        (f"[profiles.p]\napi_key = 5{'0' * 20}", ": profiles.p.api_key: expected text, got a TOML"),
        ("[profiles.p]\napi_key='a'\napi_key_file='b'", "expected api_key or api_key_file, got"),
        ("profile = 'q'\n[profiles.p]", ": profile: expected one of p, got 'q'"),
    ],
)
def test_what_the_file_cannot_mean_is_refused_by_name(
    shortlist: Run,
    write: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    text: str,
    complaint: str,
) -> None:
    path = write(text)
    assert shortlist("info") == 2
    error = capsys.readouterr().err
    assert f"shortlist: {path}" in error
    assert complaint in error
    assert "0" * 20 not in error


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("SHORTLIST_TIMEOUT_S", "soon", "SHORTLIST_TIMEOUT_S: expected seconds, got 'soon'"),
        ("SHORTLIST_TLS", "perhaps", "SHORTLIST_TLS: expected true or false, got 'perhaps'"),
        ("SHORTLIST_OUTPUT", "xml", "$SHORTLIST_OUTPUT: expected table or json, got 'xml'"),
        ("SHORTLIST_PROFILE", "p", "SHORTLIST_PROFILE: expected one of the profiles in"),
        ("SHORTLIST_CONFIG", "/nowhere/at/all", "SHORTLIST_CONFIG: expected a file, got none"),
        ("SHORTLIST_CA_FILE", "/nowhere", "$SHORTLIST_CA_FILE /nowhere: expected a file that can"),
    ],
)
def test_what_a_variable_cannot_mean_is_refused_by_name(
    shortlist: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    complaint: str,
) -> None:
    monkeypatch.setenv(variable, value)
    assert shortlist("info") == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    "target",
    ["localhost", "http://localhost:8500", ":8500", "host:port", "::1:8500", "a b:1", "h:8500/x"],
)
def test_a_target_that_is_none_is_refused(
    shortlist: Run, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    assert shortlist("info", "--target", target) == 2
    assert (
        f"--target: expected HOST:PORT, such as 127.0.0.1:8500 or [::1]:8500, got {target!r}"
        in (capsys.readouterr().err)
    )


@pytest.mark.parametrize(
    "target",
    [
        "h:1",
        "[::1]:8500",
        "dns:///a.b:1",
        "dns://8.8.8.8/a.b:1",
        "ipv4:1.2.3.4:5,1.2.3.5:5",
        "unix:/s",
    ],
)
def test_a_target_that_is_one_is_taken(settings: Callable[..., Any], target: str) -> None:
    assert settings("--target", target)["settings"]["target"]["value"] == target
