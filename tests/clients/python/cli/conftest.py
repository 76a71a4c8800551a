"""The command in this process, and the environment of one in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from shortlist_client.cli import main

if TYPE_CHECKING:
    from tests.clients.python.conftest import FakeServer


@pytest.fixture
def shortlist(fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command in this process, against the fake server."""
    monkeypatch.setenv("SHORTLIST_TARGET", fake_server.target)

    def run(*arguments: str) -> int:
        return main(arguments)

    return run


@pytest.fixture
def environment(fake_server: FakeServer) -> dict[str, str]:
    """That of a command in a process of its own."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**kept, "SHORTLIST_TARGET": fake_server.target, "PYTHONUTF8": "1"}
