"""The command line of `shortlist`: what it takes and how it explains itself."""

from __future__ import annotations

import argparse
from typing import Any

from shortlist_client.cli import (
    any_call,
    batch,
    bundles,
    catalog,
    completion,
    conversation,
    exit_codes,
    profiles,
    recommending,
)
from shortlist_client.cli.command import add_server
from shortlist_client.cli.top import watching

_EPILOG = """\
examples:
  shortlist info                                  what is being served
  shortlist recommend --user 42                   a list for a user
  shortlist recommend --feature age=33 --history 50:5 181
                                                  for someone whom the server does not know
  shortlist search 'a heist in a dream'           items whose texts mean that
  shortlist similar 50 --limit 5                  items like one item
  shortlist chat --user 42                        a conversation
  shortlist top                                   what the server does, live
  shortlist recommend --user 42 --json | jq -r '.items[].id'

Every command has its own --help.

settings, where flags do not say: the environment, then the profile, then defaults
  SHORTLIST_TARGET    the server                  SHORTLIST_PROFILE  name of the profile
  SHORTLIST_API_KEY   the API key                 SHORTLIST_CONFIG   the profile file
  and SHORTLIST_ with any other setting; `shortlist profile` shows what holds, and where it is from
  NO_COLOR            any value: no colours

"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser. Its result carries `run`, a function from the options to the output."""
    parser = argparse.ArgumentParser(
        prog="shortlist",
        # argparse's own lists the options, and cuts a line where the commands stand.
        usage="shortlist [server options] COMMAND ... [options]",
        description="Ask a Shortlist server for recommendations.",
        epilog=_EPILOG + exit_codes.HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_VersionAction, help="show the version and exit")
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog="shortlist"
    )
    recommending.add_commands(subparsers)
    batch.add_commands(subparsers)
    conversation.add_commands(subparsers)
    catalog.add_commands(subparsers)
    bundles.add_commands(subparsers)
    any_call.add_commands(subparsers)
    watching.add_commands(subparsers)
    profiles.add_commands(subparsers)
    completion.add_commands(subparsers)
    add_server(parser, before_command=True)
    return parser


class _VersionAction(argparse.Action):
    """Prints the version, looked up only when asked for: importlib.metadata is slow to import."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "nargs": 0})

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        try:
            version = metadata.version("shortlist")
        except metadata.PackageNotFoundError:
            version = "(unknown version: not installed, run from its source)"
        print(f"shortlist {version}")
        parser.exit()
