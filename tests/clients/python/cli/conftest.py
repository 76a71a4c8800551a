"""The command in this process, and the environment of one in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from shortlist_client.cli import main

if TYPE_CHECKING:
    from tests.clients.python.conftest import FakeServer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a profile file, whatever the one of this machine has."""
    for name in [name for name in os.environ if name.startswith("SHORTLIST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return tmp_path


@pytest.fixture
def shortlist(fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command in this process, against the fake server, as on a terminal."""
    monkeypatch.setenv("SHORTLIST_TARGET", fake_server.target)
    monkeypatch.setenv("SHORTLIST_OUTPUT", "table")

    def run(*arguments: str) -> int:
        return main(arguments)

    return run


@pytest.fixture
def environment(fake_server: FakeServer) -> dict[str, str]:
    """That of a command in a process of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    shown = {"SHORTLIST_TARGET": fake_server.target, "SHORTLIST_OUTPUT": "table"}
    return {**kept, **shown, "PYTHONUTF8": "1"}
