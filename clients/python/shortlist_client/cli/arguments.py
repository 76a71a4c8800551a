"""The command line of `shortlist`: what it takes and how it explains itself."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from shortlist_client.cli import commands
from shortlist_client.queries import Event

_EPILOG = """\
examples:
  shortlist info                                  what is being served
  shortlist recommend --user 42                   a list for a user
  shortlist recommend --feature age=33 --history 50:5 181
                                                  for someone whom the server does not know
  shortlist similar 50 --limit 5                  items like one item
  shortlist recommend --user 42 --json | jq -r '.items[].id'

Every command has its own --help.

environment:
  SHORTLIST_TARGET    the server, where --target does not say
  NO_COLOR            any value: no colours

exit codes:
  0    answered
  1    the server failed, is too busy, too late or not there, or does not know the item
  2    wrong usage, or the server refuses the request as it is
  130  interrupted by Ctrl-C
  141  the reader of the output closed the pipe
"""

_RECOMMEND_EPILOG = """\
examples:
  shortlist recommend --user 42 --limit 5
  shortlist recommend --user 42 --exclude 50 181 --include-seen
  shortlist recommend --history 50:5 181:4 172    unknown user, known taste (RATING is optional)
  shortlist recommend --feature age=33 gender=F --context hour=20
  shortlist recommend --items 50 181              like these items taken together
"""

_RETRIEVE_EPILOG = """\
examples:
  shortlist retrieve --user 42 --candidates 50
  shortlist retrieve --user 42 --exact            compare every item: the truth that --ef approaches
"""

_RANK_EPILOG = """\
examples:
  shortlist rank 50 181 172 --user 42             what this user would think of three items
  shortlist rank 181 172 --items 50               which of two is more like a third
"""

_SIMILAR_EPILOG = """\
examples:
  shortlist similar 50
  shortlist similar 50 --limit 5 --json
"""

_INFO_EPILOG = """\
examples:
  shortlist info
  shortlist info --json | jq '.features'          which features --feature and --context may name
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser. Its result carries `run`, a function from the options to the output."""
    parser = argparse.ArgumentParser(
        prog="shortlist",
        description="Ask a Shortlist server for recommendations.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_VersionAction, help="show the version and exit")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_recommend(subparsers)
    _add_retrieve(subparsers)
    _add_similar(subparsers)
    _add_rank(subparsers)
    _add_info(subparsers)
    return parser


def _add_recommend(subparsers: Any) -> None:
    parser = _add_command(
        subparsers,
        "recommend",
        "(--user ID | --history ID ... | --items ID ...) [options]",
        "the few items that suit a user, or resemble items, best",
        _RECOMMEND_EPILOG,
    )
    parser.set_defaults(run=commands.recommend)
    _add_query(parser)
    _add_retrieval(parser)
    _add_exclusions(parser)
    _add_limit(parser)
    _add_answer(parser)
    _add_server(parser)


def _add_retrieve(subparsers: Any) -> None:
    parser = _add_command(
        subparsers,
        "retrieve",
        "(--user ID | --history ID ... | --items ID ...) [options]",
        "candidates only, without ranking",
        _RETRIEVE_EPILOG,
    )
    parser.set_defaults(run=commands.retrieve)
    _add_query(parser)
    _add_retrieval(parser)
    _add_exclusions(parser)
    _add_answer(parser)
    _add_server(parser)


def _add_similar(subparsers: Any) -> None:
    parser = _add_command(
        subparsers,
        "similar",
        "ID [options]",
        "the items nearest to one item",
        _SIMILAR_EPILOG,
    )
    parser.set_defaults(run=commands.similar)
    parser.add_argument("item", metavar="ID", help="the item")
    _add_retrieval(parser)
    _add_excluded_ids(parser)
    _add_limit(parser)
    _add_answer(parser)
    _add_server(parser)


def _add_rank(subparsers: Any) -> None:
    parser = _add_command(
        subparsers,
        "rank",
        "ID ... (--user ID | --history ID ... | --items ID ...) [options]",
        "scores of the items that you name",
        _RANK_EPILOG,
    )
    parser.set_defaults(run=commands.rank)
    parser.add_argument("ranked", nargs="+", metavar="ID", help="items to score, 1..4,096")
    _add_query(parser)
    _add_answer(parser)
    _add_server(parser)


def _add_info(subparsers: Any) -> None:
    parser = _add_command(subparsers, "info", "[options]", "what is being served", _INFO_EPILOG)
    parser.set_defaults(run=commands.info)
    _add_json(parser)
    _add_server(parser)


def _add_command(
    subparsers: Any, name: str, usage: str, purpose: str, epilog: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        # argparse's own usage lists every option, and so buries the line that says what is wrong.
        usage=f"%(prog)s {usage}",
        help=purpose,
        description=f"Print {purpose}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(parser=parser)
    return parser


def _add_query(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("for whom (one at least; --items excludes the other three)")
    group.add_argument("--user", metavar="ID", help="a user's id")
    group.add_argument(
        "--history",
        nargs="+",
        action="extend",
        default=[],
        type=_event,
        metavar="ID[:RATING]",
        help="what the user did, oldest first; an id that itself ends in a colon and a number "
        "needs one more colon",
    )
    group.add_argument(
        "--feature",
        nargs="+",
        action="extend",
        default=[],
        type=_name_and_value,
        metavar="NAME=VALUE",
        help="features of the user; the bundle says of which type (lists: a,b,c)",
    )
    group.add_argument(
        "--items", nargs="+", action="extend", default=[], metavar="ID", help="items like these"
    )
    parser.add_argument(
        "--context",
        nargs="+",
        action="extend",
        default=[],
        type=_name_and_value,
        metavar="NAME=VALUE",
        help="features of the situation, like --feature",
    )


def _add_retrieval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--candidates", type=int, metavar="N", help="items to retrieve, 1..4,096 (default 200)"
    )
    search = parser.add_mutually_exclusive_group()
    search.add_argument("--exact", action="store_true", help="compare every item")
    search.add_argument("--ef", type=int, metavar="N", help="beam width of the graph search")


def _add_exclusions(parser: argparse.ArgumentParser) -> None:
    _add_excluded_ids(parser)
    parser.add_argument(
        "--include-seen", action="store_true", help="keep items that the user has already seen"
    )


def _add_excluded_ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exclude", nargs="+", action="extend", default=[], metavar="ID", help="items to leave out"
    )


def _add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, metavar="N", help="items wanted, 1..500 (default 20)")


def _add_answer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--strict", action="store_true", help="refuse unknown features, items and attributes"
    )
    parser.add_argument(
        "--attributes",
        nargs="+",
        default=["*"],
        metavar="NAME",
        help="attributes to show (default: all)",
    )
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")


def _add_server(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument(
        "--target",
        default=os.environ.get("SHORTLIST_TARGET") or "127.0.0.1:8500",
        metavar="HOST:PORT",
        help="default: $SHORTLIST_TARGET, else 127.0.0.1:8500 (now %(default)s)",
    )
    group.add_argument(
        "--timeout",
        type=float,
        # A person at a terminal rather waits for a first, cold answer than reads an error.
        default=5.0,
        metavar="SECONDS",
        help="deadline, and the server's time budget (default %(default)g)",
    )
    group.add_argument("--tls", action="store_true", help="encrypt the connection")
    group.add_argument(
        "--ca-file",
        type=_file_bytes,
        metavar="PEM",
        help="certificates to trust instead of the public authorities; implies --tls",
    )


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


def _name_and_value(argument: str) -> tuple[str, str]:
    name, equals, value = argument.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {argument!r}")
    return name, value


def _event(argument: str) -> Event:
    item_id, colon, rating = argument.rpartition(":")
    if not colon:
        return Event(argument)
    if not rating:
        return Event(item_id)
    try:
        return Event(item_id, rating=float(rating))
    except ValueError:
        return Event(argument)


def _file_bytes(argument: str) -> bytes:
    try:
        return Path(argument).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{argument}: {error.strerror}") from error
