"""docs/evaluation.md: its example prints what the page says, and its commands are understood."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from shortlist_exporters.cli import _parser, main
from shortlist_exporters.data.split import parse_split
from shortlist_exporters.evaluation.baselines import BASELINES
from shortlist_exporters.evaluation.wording import KINDS, title
from shortlist_exporters.export import export_bundle

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "evaluation.md").read_text(encoding="utf-8")


def test_example_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    films = runpy.run_path(str(DOCS / "examples/films.py"))
    export_bundle(
        films["write_spec"](tmp_path / "films/spec"), tmp_path / "films/bundle", version="1"
    )
    capsys.readouterr()
    (later,) = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "later.csv").write_text(later)
    monkeypatch.chdir(tmp_path)
    example = re.findall(r"```console\n\$ (shortlist-export evaluate films.*?)```", PAGE, re.DOTALL)
    command, _, expected = example[0].partition("\n")

    assert main(shlex.split(command)[1:]) == 0

    assert capsys.readouterr().out == expected


def test_commands_are_understood() -> None:
    commands = re.findall(r"^\$ shortlist-export (.*)$", PAGE, re.MULTILINE)

    assert len(commands) == 4
    for command in commands:
        _parser().parse_args(shlex.split(command))


def test_every_figure_split_and_baseline_is_described() -> None:
    for name in KINDS:
        assert f"`{title(name)}" in PAGE, name
    for name in BASELINES:
        assert f"| `{name}` |" in PAGE, name
    for split in re.findall(r"`(temporal:2\S*?|leave-last-out)`", PAGE):
        parse_split(split)
