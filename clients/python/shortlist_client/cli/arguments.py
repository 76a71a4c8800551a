"""The command line of `shortlist`: what it takes and how it explains itself."""

from __future__ import annotations

import argparse
from typing import Any

from shortlist_client.cli import commands, conversation
from shortlist_client.cli.options import (
    add_answer,
    add_debug,
    add_excluded_filter,
    add_excluded_ids,
    add_exclusions,
    add_explain,
    add_filter,
    add_json,
    add_label,
    add_limit,
    add_query,
    add_ranker,
    add_rerank,
    add_retrieval,
    add_selection,
    add_server,
    add_sources,
    add_text,
)

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
  SHORTLIST_API_KEY   the API key, where --api-key-file does not say
  NO_COLOR            any value: no colours

exit codes:
  0    answered
  1    the server failed, is too busy, too late or not there, or does not know the item
  2    wrong usage, or the server refuses the request, or who asks, as it is
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
  shortlist recommend --text 'a heist in a dream' --user 42
  shortlist recommend --user 42 --where 'year>=1990' genres:Drama --exclude-where 'year=1997'
  shortlist recommend --user 42 --source nearest=100 popularity=20 --diversity 0.3 --cap genres=3
  shortlist recommend --user 42 --pin 50@0 --temperature 0.5 --seed 7
  shortlist recommend --user 42 --limit 3 --explain --debug
                                                  what was answered, and what the models were fed
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
  shortlist rank 50 181 --user 42 --ranker llm    the same, as a language model predicts it
"""

_SIMILAR_EPILOG = """\
examples:
  shortlist similar 50
  shortlist similar 50 --limit 5 --json
  shortlist similar 50 --by-text                  those that tell of the same
"""

_INFO_EPILOG = """\
examples:
  shortlist info
  shortlist info --json | jq '.features'          which features --feature and --context may name
"""

_STATS_EPILOG = """\
examples:
  shortlist stats
  shortlist stats --json | jq '.recall[] | select(.recall)'
"""


_ITEM_EPILOG = """\
examples:
  shortlist item 50
  shortlist item 50 --vector --json
"""

_UPSERT_EPILOG = """\
examples:
  echo '{"id": "up", "attributes": {"title": "Up", "year": 2009}}' | shortlist upsert -
  shortlist upsert films.jsonl                    {"id", "attributes", "vector"} in each line

A bundle with an item tower makes the vector from the attributes; else each item has one. The exit
code is 2 where an item was refused; the others are written.
"""

_DELETE_EPILOG = """\
examples:
  shortlist delete 50 181
"""


_BUNDLES_EPILOG = """\
examples:
  shortlist bundles
"""

_ACTIVATE_EPILOG = """\
examples:
  shortlist activate films 2                      the bundle that answers
  shortlist activate films 3 --label canary       one that answers a share of the users
  shortlist activate films 3 --validate           load and check it, and leave it at that

Loading takes seconds to minutes: --timeout says how long this waits, and the switch goes on where
it does no longer. A bundle has one label: the canary that is activated as stable is a canary no
longer.
"""

_DEACTIVATE_EPILOG = """\
examples:
  shortlist deactivate canary
"""

_ROLL_BACK_EPILOG = """\
examples:
  shortlist roll-back
  shortlist roll-back --label canary
"""

_OF_WHICH = "of which bundle: stable (the default), canary or shadow"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser. Its result carries `run`, a function from the options to the output."""
    parser = argparse.ArgumentParser(
        prog="shortlist",
        # argparse's own lists the options, and cuts a line where the commands stand.
        usage="shortlist [server options] COMMAND ... [options]",
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
    _add_converse(subparsers)
    _add_info(subparsers)
    _add_stats(subparsers)
    _add_item(subparsers)
    _add_upsert(subparsers)
    _add_delete(subparsers)
    _add_bundles(subparsers)
    _add_activate(subparsers)
    _add_deactivate(subparsers)
    _add_roll_back(subparsers)
    add_server(parser, before_command=True)
    return parser


def _add_recommend(subparsers: Any) -> None:
    parser = _add_command(
        subparsers,
        "recommend",
        "(--user ID | --history ID ... | --items ID ... | --text WORDS) [options]",
        "the few items that suit a user, or resemble items, best",
        _RECOMMEND_EPILOG,
    )
    parser.set_defaults(run=commands.recommend)
    add_query(parser)
    add_text(parser)
    add_retrieval(parser)
    add_sources(parser)
    add_filter(parser)
    add_excluded_filter(parser)
    add_exclusions(parser)
    add_selection(parser)
    add_rerank(parser)
    add_limit(parser)
    add_explain(parser)
    add_debug(parser)
    add_answer(parser)
    add_server(parser)


def _add_retrieve(subparsers: Any) -> None:
    parser = _add_command(
        subparsers,
        "retrieve",
        "(--user ID | --history ID ... | --items ID ... | --text WORDS) [options]",
        "candidates only, without ranking",
        _RETRIEVE_EPILOG,
    )
    parser.set_defaults(run=commands.retrieve)
    add_query(parser)
    add_text(parser)
    add_retrieval(parser)
    add_sources(parser)
    add_filter(parser)
    add_excluded_filter(parser)
    add_exclusions(parser)
    add_explain(parser)
    add_debug(parser)
    add_answer(parser)
    add_server(parser)


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
    parser.add_argument(
        "--by-text", action="store_true", help="by what their texts mean, not by their embeddings"
    )
    add_retrieval(parser)
    add_filter(parser)
    add_excluded_ids(parser)
    add_limit(parser)
    add_debug(parser)
    add_answer(parser)
    add_server(parser)


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
    add_query(parser)
    add_ranker(parser)
    add_explain(parser)
    add_debug(parser)
    add_answer(parser)
    add_server(parser)


def _add_converse(subparsers: Any) -> None:
    parser = _add_command(
        subparsers,
        "converse",
        "[TEXT ...] [options]",
        "a conversation about what to recommend, turn by turn",
        conversation.EPILOG,
    )
    parser.set_defaults(run=conversation.converse)
    conversation.add_arguments(parser)


def _add_info(subparsers: Any) -> None:
    parser = _add_command(subparsers, "info", "[options]", "what is being served", _INFO_EPILOG)
    parser.set_defaults(run=commands.info)
    add_json(parser)
    add_server(parser)


def _add_stats(subparsers: Any) -> None:
    parser = _add_command(
        subparsers,
        "stats",
        "[options]",
        "how large the catalogue is and how well it is searched",
        _STATS_EPILOG,
    )
    parser.set_defaults(run=commands.stats)
    add_label(parser, _OF_WHICH)
    add_json(parser)
    add_server(parser)


def _add_item(subparsers: Any) -> None:
    purpose = "an item as it is served"
    parser = _add_command(subparsers, "item", "ID [options]", purpose, _ITEM_EPILOG)
    parser.set_defaults(run=commands.item)
    parser.add_argument("item", metavar="ID", help="the item")
    parser.add_argument("--vector", action="store_true", help="its embedding, too (with --json)")
    add_label(parser, _OF_WHICH)
    add_json(parser)
    add_server(parser)


def _add_upsert(subparsers: Any) -> None:
    parser = _add_command(
        subparsers,
        "upsert",
        "FILE [options]",
        "what became of items that are written to the catalogue",
        _UPSERT_EPILOG,
    )
    parser.set_defaults(run=commands.upsert, failed=False)
    parser.add_argument(
        "file", metavar="FILE", help="a line of JSON for each item; - is standard input"
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse attributes that the bundle does not declare"
    )
    add_server(parser)


def _add_delete(subparsers: Any) -> None:
    parser = _add_command(
        subparsers,
        "delete",
        "ID ... [options]",
        "what became of items that are taken out of the catalogue",
        _DELETE_EPILOG,
    )
    parser.set_defaults(run=commands.delete)
    parser.add_argument("items", metavar="ID", nargs="+", help="the items, 1 to 1,000")
    add_server(parser)


def _add_bundles(subparsers: Any) -> None:
    purpose = "the bundles that there are, and what they are active as"
    parser = _add_command(subparsers, "bundles", "[options]", purpose, _BUNDLES_EPILOG)
    parser.set_defaults(run=commands.bundles)
    add_json(parser)
    add_server(parser)


def _add_activate(subparsers: Any) -> None:
    parser = _add_command(
        subparsers,
        "activate",
        "(NAME VERSION | --sha256 SHA256) [options]",
        "what came of activating a bundle",
        _ACTIVATE_EPILOG,
    )
    parser.set_defaults(run=commands.activate)
    parser.add_argument("name", metavar="NAME", nargs="?", help="name of the bundle")
    # Not `version`, which is the command's own.
    parser.add_argument("bundle_version", metavar="VERSION", nargs="?", help="its version")
    parser.add_argument("--sha256", metavar="SHA256", help="its SHA-256, alone or beside them")
    parser.add_argument("--validate", action="store_true", help="load and check it, no more")
    add_label(parser, "as what: stable (the default), canary or shadow")
    add_server(parser)


def _add_deactivate(subparsers: Any) -> None:
    purpose = "what a label is taken away from"
    parser = _add_command(subparsers, "deactivate", "LABEL", purpose, _DEACTIVATE_EPILOG)
    parser.set_defaults(run=commands.deactivate)
    parser.add_argument("label", metavar="LABEL", help="canary or shadow")
    add_server(parser)


def _add_roll_back(subparsers: Any) -> None:
    purpose = "what came of activating the bundle before"
    parser = _add_command(subparsers, "roll-back", "[options]", purpose, _ROLL_BACK_EPILOG)
    parser.set_defaults(run=commands.roll_back)
    add_label(parser, _OF_WHICH)
    add_server(parser)


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
