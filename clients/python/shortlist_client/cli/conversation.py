"""`shortlist chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import cache

from shortlist_client.cli.command import Output, Subparsers, add_command, add_server, json_line
from shortlist_client.cli.commands import read_excluded_filter, read_filter
from shortlist_client.cli.connection import KeepingClient, open_client, timeout_s
from shortlist_client.cli.options import (
    add_excluded_filter,
    add_exclusions,
    add_filter,
    add_revision,
)
from shortlist_client.cli.screen import BOLD, DIM, styled, terminal_width
from shortlist_client.cli.table import Column, printable, table_lines, value_text
from shortlist_client.conversation_calls import TIMEOUT_S
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
from shortlist_client.errors import ConversationNotFound, ShortlistError
from shortlist_client.filters import Filter
from shortlist_client.results import ScoredItem

_EPILOG = """\
examples:
  shortlist chat --user 42                        say what you would like; Ctrl-D ends it
  shortlist chat --user 42 "a comedy, please" "something older" "why the first?"
  shortlist chat --user 42 --keep "a comedy"      the server keeps it; the last line is its id
  shortlist chat --conversation 7f3a...           go on with one that it keeps
  shortlist chat --json < said.txt                each part of each answer is a line of JSON

At the prompt: an empty line or Ctrl-D ends it, /new begins anew, Ctrl-C ends the answer that comes.
"""

_SIGNS = {
    AttributeComparison.IS: ":",
    AttributeComparison.IS_NOT: " !=",
    AttributeComparison.AT_LEAST: " >=",
    AttributeComparison.AT_MOST: " <=",
}


def add_commands(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "chat",
        "[TEXT ...] [options]",
        "a conversation about what to recommend, turn by turn",
        _EPILOG,
        run=_chat,
        aliases=("converse",),
    )
    parser.set_defaults(default_timeout_s=TIMEOUT_S)
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
    add_revision(parser)
    add_server(parser)


def _chat(options: Namespace) -> Output:
    chat = Chat(options)
    if options.said:
        return chat.say_all(options.said)
    if sys.stdin is not None and sys.stdin.isatty() and not options.settings.json:
        return chat.talk()
    return chat.say_all(_lines())


class Chat:
    """A conversation: what was said so far, and with whom."""

    def __init__(self, options: Namespace) -> None:
        """Begin, or go on where the options say so."""
        self._options = options
        self._conversation: str | ConversationState | None = options.conversation

    def say_all(self, lines: Iterable[str]) -> Generator[str, None, None]:
        """Yield what to print of each turn, as it comes; the first error ends it."""
        with open_client(self._options) as client:
            filters = self._filters(client)
            for said in lines:
                if not self._options.settings.json:
                    yield f"{styled(f'> {printable(said)}', BOLD)}\n"
                yield from self._say(client, said, *filters)
        if isinstance(self._conversation, str) and not self._options.settings.json:
            yield f"conversation {printable(self._conversation)}\n"

    def talk(self) -> Generator[str, None, None]:
        """Yield what to print to somebody who sits there and answers."""
        _edit_lines()
        with open_client(self._options) as client:
            filters = self._filters(client)
            yield styled("Say what you would like. Ctrl-D ends it, /new begins anew.", DIM) + "\n"
            while (said := _asked()) is not None:
                if said == "/new":
                    self._conversation = None
                    yield styled("  (a new conversation)", DIM) + "\n"
                    continue
                try:
                    # Printed here and not by who runs this, since Ctrl-C may come meanwhile.
                    with closing(self._say(client, said, *filters)) as pieces:
                        for piece in pieces:
                            print(piece, end="", flush=True)
                except KeyboardInterrupt:
                    yield "\n" + styled("  (left off)", DIM) + "\n"
                except ConversationNotFound as error:
                    self._conversation = None
                    yield f"  {printable(str(error))}; this begins a new one\n"
                except ShortlistError as error:
                    # The conversation is what it was before: it may be said again.
                    yield f"  {printable(str(error))}\n"
        if isinstance(self._conversation, str):
            yield f"conversation {printable(self._conversation)}\n"

    def _filters(self, client: KeepingClient) -> tuple[Filter | None, Filter | None]:
        bundle = cache(client.get_active_bundle)
        return read_filter(self._options, bundle), read_excluded_filter(self._options, bundle)

    def _say(
        self, client: KeepingClient, said: str, wanted: Filter | None, unwanted: Filter | None
    ) -> Generator[str, None, None]:
        options = self._options
        with client.converse(
            said,
            user=options.user,
            conversation=self._conversation,
            keep=options.keep,
            limit=options.limit,
            filter=wanted,
            excluded_filter=unwanted,
            excluded_item_ids=options.exclude,
            exclude_seen=not options.include_seen,
            attributes=options.attributes,
            min_revision=options.min_revision,
            bundle_label=options.label,
            timeout_s=timeout_s(options),
        ) as parts:
            for part in parts:
                if isinstance(part, TurnEnd):
                    self._conversation = part.conversation
                if options.settings.json:
                    yield json_line(client.response)
                else:
                    yield from _shown(part)


def _asked() -> str | None:
    """Return what somebody says at the prompt; None where he has said all."""
    try:
        said = input("> ").strip()
    except EOFError:
        print()
        return None
    return said or None


def _edit_lines() -> None:
    """Have `input` edit lines, and know those before, where Python can."""
    try:
        import readline  # noqa: F401  # it is enough to import it
    except ImportError:
        return


def _lines() -> Iterator[str]:
    """Yield what a file holds, or somebody types, line by line."""
    for line in sys.stdin:
        if line.strip():
            yield line.strip()


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
