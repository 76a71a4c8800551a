"""docs/canary.md: its commands and its programs run as they stand, and print what it says."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_process import ServingProcess
from shortlist_client.cli import main
from shortlist_exporters.export import export_bundle
from shortlist_server.access.api_keys import entry, make_key

from tests.docs.test_pages import TARGET, Example, declared, examples, films, same

PAGE = (Path(__file__).parents[2] / "docs/canary.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page takes for granted: bundles, a key, and its configuration."""
    spec = films().write_spec(tmp_path / "spec")
    for version in ("1", "2"):
        export_bundle(spec, tmp_path / f"bundles/{version}", version=version)
    shutil.copytree(tmp_path / "bundles/1", tmp_path / "bundle")
    shutil.copytree(tmp_path / "bundles/2", tmp_path / "next/bundle")
    key = make_key()
    (tmp_path / "keys.toml").write_text(entry(key, name="operator", scopes=["admin", "recommend"]))
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "server.toml").write_text(toml)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHORTLIST_API_KEY", key)
    return tmp_path


class Reader:
    """Runs what the page shows, in order, as its reader would."""

    def __init__(self, running: contextlib.ExitStack) -> None:
        self._running = running
        self._server: ServingProcess | None = None
        self._namespace: dict[str, Any] = {}
        self.served: list[str] = []

    def run(self, example: Example) -> str:
        """Run an example; returns what it prints."""
        if example.code.startswith("shortlist-server serve "):
            self._serve(example.code)
            return ""
        assert self._server is not None, example.code
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            if example.language == "python":
                code = example.code.replace(TARGET, self._server.target)
                exec(compile(code, f"line {example.line}", "exec"), self._namespace)
            else:
                command, *arguments = shlex.split(example.code)
                assert command == "shortlist", example.code
                assert main([*arguments, "--target", self._server.target]) == 0, printed.getvalue()
        return printed.getvalue()

    def _serve(self, command: str) -> None:
        _, _, *flags = shlex.split(command)
        self.served.append(" ".join(flag for flag in flags if flag.startswith("--")))
        if "--metrics-listen" in flags:  # the page's port may be taken
            flags[flags.index("--metrics-listen") + 1] = "127.0.0.1:0"
        self._running.close()
        self._server = self._running.enter_context(ServingProcess(None, *flags))


@pytest.fixture
def reader() -> Iterator[Reader]:
    with contextlib.ExitStack() as running:
        yield Reader(running)


def test_examples_print_what_the_page_says(folder: Path, reader: Reader) -> None:
    wrong = []
    for example in examples(PAGE):
        got = reader.run(example)
        if not same(example.expected, got):
            wrong.append(f"docs/canary.md:{example.line}: {example.code}\n{got}")
    assert not wrong, "\n\n".join(wrong)
    # Every way to serve was gone, and the settings of the page were those of one of them.
    assert reader.served == [
        "--bundle --canary-bundle --canary-share",
        "--config",
        "--bundle --canary-bundle --catalog-store",
        "--bundle --shadow-bundle --metrics-listen",
    ]
    assert declared(PAGE, "server.toml")["workers"] == 2
    assert "serving.json" in os.listdir(folder / "state")  # noqa: PTH208
