"""What the commands that ask for items take: `recommend`, `search`, `similar` and the like."""

from __future__ import annotations

import argparse

from shortlist_client.cli import commands
from shortlist_client.cli.command import Subparsers, add_command, add_server
from shortlist_client.cli.options import (
    add_answer,
    add_debug,
    add_excluded_filter,
    add_excluded_ids,
    add_exclusions,
    add_explain,
    add_filter,
    add_limit,
    add_query,
    add_ranker,
    add_rerank,
    add_retrieval,
    add_selection,
    add_sources,
    add_text,
    add_weights,
)

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
  shortlist recommend --user 42 --diversity 0.3 --stream
                                                  a list at once, and better ones as they are ready
  shortlist recommend --user 42 --limit 3 --explain --debug
                                                  what was answered, and what the models were fed
"""

_SEARCH_EPILOG = """\
examples:
  shortlist search a heist in a dream
  shortlist search 'robots from the future' --user 42 --where 'year>=1990'
                                                  ranked for this user
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


def add_commands(subparsers: Subparsers) -> None:
    """Add the commands."""
    _add_recommend(subparsers)
    _add_search(subparsers)
    _add_retrieve(subparsers)
    _add_similar(subparsers)
    _add_rank(subparsers)


def _add_recommend(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "recommend",
        "(--user ID | --history ID ... | --items ID ... | --text WORDS) [options]",
        "the few items that suit a user, or resemble items, best",
        _RECOMMEND_EPILOG,
        run=commands.recommend,
    )
    add_query(parser)
    add_text(parser)
    _add_funnel(parser)


def _add_search(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "search",
        "WORD ... [options]",
        "the items whose texts mean what you say",
        _SEARCH_EPILOG,
        run=commands.search,
    )
    parser.add_argument("words", nargs="+", metavar="WORD", help="what is searched for")
    add_query(parser)
    _add_funnel(parser)


def _add_funnel(parser: argparse.ArgumentParser) -> None:
    add_retrieval(parser)
    add_sources(parser)
    add_filter(parser)
    add_excluded_filter(parser)
    add_exclusions(parser)
    add_selection(parser)
    add_weights(parser)
    add_rerank(parser)
    add_limit(parser)
    parser.add_argument(
        "--stream",
        action="store_true",
        help="print the list as soon as it is ranked, and again whenever it is refined",
    )
    add_explain(parser)
    add_debug(parser)
    add_answer(parser)
    add_server(parser)


def _add_retrieve(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "retrieve",
        "(--user ID | --history ID ... | --items ID ... | --text WORDS) [options]",
        "candidates only, without ranking",
        _RETRIEVE_EPILOG,
        run=commands.retrieve,
    )
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


def _add_similar(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "similar",
        "ID [options]",
        "the items nearest to one item",
        _SIMILAR_EPILOG,
        run=commands.similar,
    )
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


def _add_rank(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "rank",
        "ID ... (--user ID | --history ID ... | --items ID ...) [options]",
        "scores of the items that you name",
        _RANK_EPILOG,
        run=commands.rank,
    )
    parser.add_argument("ranked", nargs="+", metavar="ID", help="items to score, 1..4,096")
    add_query(parser)
    add_ranker(parser)
    add_weights(parser)
    add_explain(parser)
    add_debug(parser)
    add_answer(parser)
    add_server(parser)
