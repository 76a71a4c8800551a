"""Makes the shells' completions of `shortlist` from its arguments; `make completions` runs it.

They are committed, so that who completes needs nothing to make them, and no process is started
while he types.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab
from shortlist_client.cli.arguments import make_parser
from shortlist_client.cli.completion import SHELLS, script_name

FOLDER = Path(__file__).parents[1] / "clients/python/shortlist_client/cli/completions"
FILES = ("FILE", "PEM")
"""What arguments are called that name a file."""


def script(shell: str) -> str:
    """Return what makes a shell complete the command."""
    parser = make_parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            # What is there for who knows an old name need not be offered.
            named = {choice.dest.partition(" ")[0] for choice in action._choices_actions}
            for alias in set(action.choices) - named:
                del action.choices[alias]
    for action in actions(parser):
        if action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # what shtab looks for
    return shtab.complete(parser, shell=shell)


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser, and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions(command)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in SHELLS:
        (FOLDER / script_name(name)).write_text(script(name), encoding="utf-8")
