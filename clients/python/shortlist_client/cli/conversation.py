"""`shortlist converse`: a conversation in the terminal."""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from functools import cache

from shortlist_client.cli.commands import open_client, read_excluded_filter, read_filter
from shortlist_client.cli.options import (
    add_excluded_filter,
    add_exclusions,
    add_filter,
    add_server,
)
from shortlist_client.cli.screen import BOLD, DIM, styled, terminal_width
from shortlist_client.cli.table import Column, printable, table_lines, value_text
from shortlist_client.client import Client
from shortlist_client.conversations import (
    AttributeComparison,
    AttributeCondition,
    ConversationState,
    ReplyPiece,
    TurnEnd,
    TurnItems,
    TurnPart,
    Understanding,
)
from shortlist_client.filters import Filter
from shortlist_client.results import ScoredItem

EPILOG = """\
examples:
  shortlist converse --user 42                    type what you would like; Ctrl-D ends it
  shortlist converse --user 42 "a comedy, please" "something older" "why the first?"
  shortlist converse --user 42 --keep "a comedy"  the server keeps it; the last line is its id
"""

_SIGNS = {
    AttributeComparison.IS: ":",
    AttributeComparison.IS_NOT: " !=",
    AttributeComparison.AT_LEAST: " >=",
    AttributeComparison.AT_MOST: " <=",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `shortlist converse` takes."""
    parser.add_argument(
        "said",
        nargs="*",
        metavar="TEXT",
        help="what to say, turn by turn (default: each line read)",
    )
    parser.add_argument("--user", metavar="ID", help="a user's id (default: nobody known)")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="have the server keep the conversation, and print its id",
    )
    parser.add_argument(
        "--conversation", metavar="ID", help="go on with a conversation that the server keeps"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="items wanted, 1..20 (default 5)")
    parser.add_argument(
        "--attributes",
        nargs="+",
        default=["title"],
        metavar="NAME",
        help="attributes to show (default: title)",
    )
    parser.add_argument("--label", metavar="LABEL", help="bundle that answers: stable or canary")
    add_filter(parser)
    add_excluded_filter(parser)
    add_exclusions(parser)
    add_server(parser)


def converse(options: Namespace) -> Iterator[str]:
    """Run `shortlist converse`: yields what to print, as it comes."""
    conversation: str | ConversationState | None = options.conversation
    with open_client(options) as client:
        bundle = cache(client.get_active_bundle)
        filters = (read_filter(options, bundle), read_excluded_filter(options, bundle))
        for said in options.said or _lines():
            yield f"{styled(f'> {printable(said)}', BOLD)}\n"
            for part in _turn(client, options, said, conversation, *filters):
                if isinstance(part, TurnEnd):
                    conversation = part.conversation
                yield from _shown(part)
    if isinstance(conversation, str):
        yield f"conversation {printable(conversation)}\n"


def _lines() -> Iterator[str]:
    """Yield what somebody types, or a file holds, line by line."""
    for line in sys.stdin:
        if line.strip():
            yield line.strip()


def _turn(
    client: Client,
    options: Namespace,
    said: str,
    conversation: str | ConversationState | None,
    wanted: Filter | None,
    unwanted: Filter | None,
) -> Iterable[TurnPart]:
    return client.converse(
        said,
        user=options.user,
        conversation=conversation,
        keep=options.keep,
        limit=options.limit,
        filter=wanted,
        excluded_filter=unwanted,
        excluded_item_ids=options.exclude,
        exclude_seen=not options.include_seen,
        attributes=options.attributes,
        bundle_label=options.label,
        timeout_s=options.timeout,
    )


def _shown(part: TurnPart) -> Iterator[str]:
    """Yield a part as a person reads it."""
    match part:
        case Understanding():
            said = [_condition(one) for one in part.conditions]
            said += [
                f"{printable(one.attribute)}: no effect, {printable(one.problem)}"
                for one in part.dropped_conditions
            ]
            if said:
                yield styled(f"  ({'; '.join(said)})", DIM) + "\n"
        case TurnItems():
            for line in _item_lines(part.items):
                yield f"  {line}\n"
        case ReplyPiece():
            # What it replaces was printed: a terminal takes nothing back.
            yield ("\n" if part.replaces else "") + printable(part.text)
        case TurnEnd():
            yield "\n"
            for one in part.degraded:
                yield styled(f"  (without a language model: {one.stage} {one.reason})", DIM) + "\n"


def _item_lines(items: Iterable[ScoredItem]) -> list[str]:
    shown = list(items)
    if not shown:
        return ["no items"]
    names = list(dict.fromkeys(name for item in shown for name in item.attributes))
    columns = [
        Column(title="id", cells=[item.id for item in shown]),
        *(
            Column(
                title=name,
                cells=[
                    value_text(item.attributes[name]) if name in item.attributes else ""
                    for item in shown
                ],
            )
            for name in sorted(names, key=lambda name: (name != "title", name))
        ),
    ]
    width = terminal_width()
    return table_lines(columns, width_max=None if width is None else width - 2)[1:]


def _condition(condition: AttributeCondition) -> str:
    values = ", ".join(str(value) for value in condition.values)
    return printable(f"{condition.attribute}{_SIGNS.get(condition.comparison, ' ?')} {values}")
