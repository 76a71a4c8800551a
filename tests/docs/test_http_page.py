"""docs/http.md: its commands print what it says, and its table of statuses is right."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from http_calls import free_address
from serving_process import ServingProcess
from shortlist_exporters.export import export_bundle
from shortlist_server.rpc.http.front import BODY_S_MAX, IDLE_S

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "http.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:8501"


def commands() -> list[tuple[str, str]]:
    """Each command, and what the page says that it prints."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n", part)
            assert command is not None
            found.append((command[0].strip(), part[command.end() :]))
    return found


def films() -> Any:
    spec = importlib.util.spec_from_file_location("films", DOCS / "examples/films.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(
    None in map(shutil.which, ("bash", "curl", "jq")), reason="the page's commands are not here"
)
def test_commands_print_what_the_page_says(tmp_path: Path) -> None:
    export_bundle(films().write_spec(tmp_path / "spec"), tmp_path / "bundle", version="1")
    address = free_address()
    (serve, _), *rest = commands()
    assert serve.startswith("shortlist-server serve ")
    assert serve.endswith(f" --http {ADDRESS}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with ServingProcess(tmp_path / "bundle", "--http", address):
        assert len(rest) > 5
        for command, expected in rest:
            result = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command.replace(ADDRESS, address)],
                capture_output=True,
                text=True,
                cwd=tmp_path,
                timeout=60,
                check=False,
                env=os.environ | {"PATH": path},
            )
            assert result.returncode == 0, result.stderr
            wanted = re.escape(expected.strip()).replace(r"\.\.\.", ".*")
            assert re.fullmatch(wanted, result.stdout.strip()), result.stdout


def test_limits_are_those_of_the_server() -> None:
    assert f"A body has {BODY_S_MAX:.0f} s to come" in PAGE
    assert f"closed after {IDLE_S} s without a call" in PAGE
