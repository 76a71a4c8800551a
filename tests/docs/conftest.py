"""Pages show what the command prints on a terminal, and its files are not those of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def on_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHORTLIST_OUTPUT", "table")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
