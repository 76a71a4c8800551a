"""The playground in a browser: what it copies runs, and answers the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from watched_page import ROOT, Opener, Watched

TYPESCRIPT = ROOT / "clients/typescript"
BUF = ROOT / ".venv-protos/bin/buf"


def copied(watched: Watched, language: str) -> str:
    """Choose a language, press the button, and return what is in the clipboard."""
    page = watched.page
    page.get_by_role("tab", name=language, exact=True).click()
    page.locator(".calls .tab-panel button").click()
    page.locator(".calls .tab-panel button", has_text="Copied").wait_for()
    text: str = page.evaluate("() => navigator.clipboard.readText()")
    return text


def run(command: list[str], path: str = "", **options: Any) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{path}:{os.environ['PATH']}"
    }
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, check=False, **options
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def asked(make_opener: Opener) -> Iterator[Watched]:
    """A list with much that has to be written down."""
    settings = {
        "user": "ada",
        "liked": json.dumps([{"id": "heat", "title": "Heat"}]),
        "features": json.dumps({"user.favourite": "Cri'me", "context.device": "tv"}),
        "limit": "4",
        "candidates": "20",
        "diversity": "0.3",
        "exact": "true",
        "withSeen": "true",
        "conditions": json.dumps(
            [
                {"attribute": "year", "operator": ">=", "value": "1975"},
                {"attribute": "rating", "operator": "<=", "value": "4.6"},
                {"attribute": "title", "operator": "!=", "value": 'Toy "Story"'},
                {"attribute": "genres", "operator": "!:", "value": "Horror"},
            ]
        ),
        "sources": json.dumps({"nearest": "15", "popularity": ""}),
        "label": "stable",
    }
    with make_opener() as open_page:
        watched = open_page(f"#{urlencode(settings)}")
        watched.page.locator(".item").first.wait_for()
        assert len(watched.ids()) == 4
        yield watched


def test_copied_command_runs_and_answers_the_same(asked: Watched) -> None:
    text = copied(asked, "shortlist").rstrip()
    printed = json.loads(run(["bash", "-euc", f"{text} --json"]))
    assert [item["id"] for item in printed["items"]] == asked.ids()


def test_copied_python_runs_and_answers_the_same(asked: Watched) -> None:
    lines = run([sys.executable, "-c", copied(asked, "Python")]).splitlines()
    assert [line.split()[0] for line in lines] == asked.ids()


@pytest.mark.skipif(not BUF.is_file(), reason="buf is not installed: make .venv-protos/.installed")
def test_copied_buf_curl_runs_and_answers_the_same(asked: Watched) -> None:
    printed = json.loads(run(["bash", "-euc", copied(asked, "buf curl")], path=str(BUF.parent)))
    assert [item["id"] for item in printed["items"]] == asked.ids()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_copied_curl_runs_and_answers_the_same(asked: Watched) -> None:
    printed = json.loads(run(["bash", "-euc", copied(asked, "curl")]))
    assert [item["id"] for item in printed["items"]] == asked.ids()


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
def test_copied_go_runs_and_answers_the_same(asked: Watched, tmp_path: Path) -> None:
    program = tmp_path / "main.go"
    program.write_text(copied(asked, "Go"))
    assert run(["gofmt", "-l", str(program)]) == ""
    lines = run(["go", "run", str(program)], cwd=ROOT / "clients/go").splitlines()
    assert [line.split()[0] for line in lines] == asked.ids()


@pytest.mark.skipif(
    not (TYPESCRIPT / "node_modules").is_dir(), reason="clients/typescript is not installed: npm ci"
)
def test_copied_typescript_runs_and_answers_the_same(asked: Watched) -> None:
    run(["npm", "run", "build", "--silent"], cwd=TYPESCRIPT)
    # In its own package, a package finds itself by its name.
    program = TYPESCRIPT / "build/playground.mjs"
    program.parent.mkdir(exist_ok=True)
    program.write_text(copied(asked, "TypeScript"))
    lines = run(["node", str(program)]).splitlines()
    assert [line.split()[0] for line in lines] == asked.ids()


def test_copied_grpcurl_is_the_same_request(asked: Watched) -> None:
    text = copied(asked, "grpcurl")
    command = run(["bash", "-euc", f"grpcurl() {{ printf '%s\\n' \"$@\"; }}\n{text}"]).splitlines()
    asked.page.locator(".raw summary").first.click()
    raw = json.loads(asked.page.locator(".raw pre").first.inner_text())
    assert command[:2] == ["-plaintext", "-d"]
    assert json.loads(command[2]) == raw
    assert command[4] == "shortlist.v1.RecommendationService/Recommend"
