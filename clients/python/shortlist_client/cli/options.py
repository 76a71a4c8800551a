"""The options of the commands, in groups that several of them share."""

from __future__ import annotations

import argparse
from typing import get_args

from shortlist_client.cli import notation
from shortlist_client.options import Ranker


def add_query(parser: argparse.ArgumentParser) -> None:
    """Add for whom or what items are wanted."""
    group = parser.add_argument_group(
        "for whom (one at least, or --text; --items and --embedding stand alone)"
    )
    group.add_argument("--user", metavar="ID", help="a user's id")
    group.add_argument(
        "--history",
        nargs="+",
        action="extend",
        default=[],
        type=notation.event,
        metavar="ID[:RATING]",
        help="what the user did, oldest first; an id that itself ends in a colon and a number "
        "needs one more colon",
    )
    group.add_argument(
        "--feature",
        nargs="+",
        action="extend",
        default=[],
        type=notation.name_and_value,
        metavar="NAME=VALUE",
        help="features of the user; the bundle says of which type (lists: a,b,c)",
    )
    group.add_argument(
        "--items", nargs="+", action="extend", default=[], metavar="ID", help="items like these"
    )
    group.add_argument(
        "--embedding",
        type=notation.embedding,
        metavar="FILE",
        help="a query embedding: a JSON list of numbers; excludes the others, too",
    )
    parser.add_argument(
        "--context",
        nargs="+",
        action="extend",
        default=[],
        type=notation.name_and_value,
        metavar="NAME=VALUE",
        help="features of the situation, like --feature",
    )


def add_text(parser: argparse.ArgumentParser) -> None:
    """Add what is searched for in words."""
    parser.add_argument(
        "--text",
        metavar="WORDS",
        help="what is searched for, in words: alone, or beside for whom, who then ranks it",
    )


def add_retrieval(parser: argparse.ArgumentParser) -> None:
    """Add how candidates are found."""
    parser.add_argument(
        "--candidates",
        type=int,
        metavar="N",
        help="items that each source contributes, 1..4,096, and at least --limit where there is "
        "one (default 200, or --limit if that is more)",
    )
    search = parser.add_mutually_exclusive_group()
    search.add_argument("--exact", action="store_true", help="compare every item")
    search.add_argument("--ef", type=int, metavar="N", help="beam width of the graph search")


def add_exclusions(parser: argparse.ArgumentParser) -> None:
    """Add which items are left out."""
    add_excluded_ids(parser)
    parser.add_argument(
        "--include-seen", action="store_true", help="keep items that the user has already seen"
    )


def add_excluded_ids(parser: argparse.ArgumentParser) -> None:
    """Add which items are left out by id."""
    parser.add_argument(
        "--exclude", nargs="+", action="extend", default=[], metavar="ID", help="items to leave out"
    )


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Add which items may be in the answer."""
    parser.add_argument(
        "--where",
        nargs="+",
        action="extend",
        default=[],
        type=notation.condition,
        metavar="CONDITION",
        help="only items of which all of these hold: NAME=VALUE, or with != < <= > >=, or "
        "NAME:VALUE for a list that holds the value; quote them",
    )


def add_excluded_filter(parser: argparse.ArgumentParser) -> None:
    """Add which items are left out by their attributes."""
    parser.add_argument(
        "--exclude-where",
        nargs="+",
        action="append",
        default=[],
        type=notation.condition,
        metavar="CONDITION",
        help="leave out items of which all of these hold; give it again for others",
    )


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add where candidates come from."""
    parser.add_argument(
        "--source",
        nargs="+",
        action="extend",
        default=[],
        type=notation.source,
        metavar="NAME[=COUNT]",
        help="where candidates come from, and how many: nearest, recent_history, popularity, "
        "text, or one that the bundle configures (default: the bundle's own list; text for --text)",
    )


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add how the list is made of the ranked candidates."""
    group = parser.add_argument_group("how the list is made")
    group.add_argument(
        "--score-min", type=float, metavar="SCORE", help="leave out items with a lower score"
    )
    group.add_argument(
        "--diversity",
        type=float,
        metavar="STRENGTH",
        help="how much items should differ, 0..1 (default 0)",
    )
    group.add_argument(
        "--cap",
        nargs="+",
        action="extend",
        default=[],
        type=notation.cap,
        metavar="ATTRIBUTE=N",
        help="at most N items with the same value",
    )
    group.add_argument(
        "--pin",
        nargs="+",
        action="extend",
        default=[],
        type=notation.pinned_item,
        metavar="ID[@POSITION]",
        help="items with a fixed place, 0 for the first; an id that itself ends in @ and a number "
        "needs one more @",
    )
    group.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="draw the order at random, on the scale of the scores (default 0: the best first)",
    )
    group.add_argument(
        "--seed", type=int, metavar="N", help="of that draw: the same one gives the same list"
    )


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add how the ranker's outputs make the score."""
    parser.add_argument(
        "--weight",
        nargs="+",
        action="extend",
        default=[],
        type=notation.weight,
        metavar="OUTPUT=WEIGHT",
        help="outputs of the ranker that make the score (default: as the bundle says)",
    )


def add_rerank(parser: argparse.ArgumentParser) -> None:
    """Add what a language model is to do."""
    group = parser.add_argument_group("a language model's order")
    group.add_argument(
        "--rerank",
        nargs="?",
        type=int,
        const=0,
        metavar="N",
        help="have a language model put the best N items in order, 2..100 (default 20)",
    )
    group.add_argument(
        "--reasons", action="store_true", help="with --rerank: have it say why each item suits"
    )
    group.add_argument(
        "--passes", type=int, metavar="N", help="with --rerank: ask it 1..2 times (default 1)"
    )


def add_ranker(parser: argparse.ArgumentParser) -> None:
    """Add whose word items are scored by."""
    parser.add_argument(
        "--ranker",
        choices=get_args(Ranker),
        help="whose word they are scored by: the bundle's ranker (default), a language model that "
        "predicts ratings, or a blend of both",
    )


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Add how many items are wanted."""
    parser.add_argument("--limit", type=int, metavar="N", help="items wanted, 1..500 (default 20)")


def add_answer(parser: argparse.ArgumentParser) -> None:
    """Add what the answer holds."""
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
    add_revision(parser)


def add_explain(parser: argparse.ArgumentParser) -> None:
    """Add whether to show what the models were fed."""
    parser.add_argument("--explain", action="store_true", help="show what the models were fed")


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Add whether to show the query that was answered."""
    parser.add_argument(
        "--debug", action="store_true", help="show the query that was answered, defaults filled in"
    )
    add_label(parser, "which bundle answers: stable or canary (default: the server's choice)")


def add_label(parser: argparse.ArgumentParser, help_: str) -> None:
    """Add which of the loaded bundles is meant."""
    parser.add_argument("--label", default="", metavar="LABEL", help=help_)


def add_revision(parser: argparse.ArgumentParser) -> None:
    """Add what the answer must have seen of the catalogue."""
    parser.add_argument(
        "--min-revision",
        type=int,
        metavar="N",
        help="least revision of the catalogue to answer from, as `upsert` prints it",
    )
