"""The commands that a page of docs/ shows in its console blocks, run by a shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

need_programs = pytest.mark.skipif(
    None in map(shutil.which, ("bash", "curl", "jq")), reason="the page's commands are not here"
)


def commands(page: str) -> list[tuple[str, str]]:
    """Each command, and what the page says that it prints."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n", part)
            assert command is not None
            found.append((command[0].strip(), part[command.end() :]))
    return found


def check_prints(command: str, expected: str, folder: Path) -> None:
    """Run a command in a folder; what it prints must be as expected, `...` being anything."""
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        check=False,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert result.returncode == 0, result.stderr
    wanted = re.escape(expected.strip()).replace(r"\.\.\.", ".*")
    assert re.fullmatch(wanted, result.stdout.strip()), result.stdout
