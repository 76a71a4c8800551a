"""docs/cli.md: its tables are complete; its examples run in test_pages."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from shortlist_client.cli import exit_codes
from shortlist_client.cli.arguments import make_parser
from shortlist_client.cli.profile import TYPES
from shortlist_client.cli.settings import FLAGS

PAGE = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")


def first_cells() -> str:
    return "\n".join(line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| "))


def test_every_command_stands_in_the_table() -> None:
    commands = [
        action.dest.partition(" ")[0]
        for subparsers in make_parser()._actions
        if isinstance(subparsers, argparse._SubParsersAction)
        for action in subparsers._choices_actions
    ]
    assert len(commands) > 15
    assert not [name for name in commands if not re.search(rf"`{name}\b", first_cells())]


def test_every_setting_stands_in_the_table_with_its_variable_and_its_flag() -> None:
    assert not [name for name in TYPES if f"`{name}`" not in first_cells()]
    variables = [f"SHORTLIST_{name.upper()}" for name in TYPES]
    assert not [name for name in variables if f"`{name}`" not in PAGE]
    assert not [flag for flag in FLAGS.values() if f"`{flag}`" not in PAGE]


def test_every_exit_code_stands_in_the_table_and_in_the_help() -> None:
    codes = {
        value
        for name, value in vars(exit_codes).items()
        if name.isupper() and isinstance(value, int)
    }
    assert len(codes) == 12
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.M)} == codes
    assert {int(code) for code in re.findall(r"^  (\d+) ", exit_codes.HELP, re.M)} == codes
