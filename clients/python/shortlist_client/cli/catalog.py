"""The commands that read and change items: `item`, `stats`, `upsert`, `delete`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from shortlist.v1 import catalog_pb2

from shortlist_client.catalog_calls import item_to_proto
from shortlist_client.cli.command import (
    Output,
    Subparsers,
    add_command,
    add_server,
    json_document,
)
from shortlist_client.cli.connection import KeepingClient, open_client
from shortlist_client.cli.items import (
    CSV,
    JSON_LINES,
    format_of,
    read_csv,
    read_ids,
    read_json_lines,
)
from shortlist_client.cli.options import add_label, add_revision
from shortlist_client.cli.report import changes_report, item_report, stats_report
from shortlist_client.cli.resending import Resending
from shortlist_client.results import ItemChanges, ItemOutcome

ITEMS_MAX = 1_000
"""Most items of one call."""
BYTES_MAX = 3 * 1024 * 1024
"""Most bytes of the items of one call: a message may have 4 MiB."""

T = TypeVar("T")

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
  shortlist upsert films.csv                      columns: id, and attributes by name
  shortlist upsert films.jsonl --change 3f0c...   go on with a change that was cut off

The whole file is read before anything is sent, in calls of at most 1,000 items. A bundle with an
item tower makes the vector from the attributes; else each item has one. A cell of CSV takes the
type that the bundle declares (lists: a,b,c), and has no value where it is empty.

Items that are refused are listed, the others are written, and the exit code is 9. A call that fails
is sent again; where that does not help, the message names the change: the same command with
--change writes what is missing, and nothing twice.
"""

_DELETE_EPILOG = """\
examples:
  shortlist delete 50 181
  shortlist delete --file gone.txt                an id in each line; - is standard input
"""

_OF_WHICH = "of which bundle: stable (the default), canary or shadow"


def add_commands(subparsers: Subparsers) -> None:
    """Add the commands."""
    parser = add_command(
        subparsers,
        "stats",
        "[options]",
        "how large the catalogue is and how well it is searched",
        _STATS_EPILOG,
        run=_stats,
    )
    add_label(parser, _OF_WHICH)
    add_server(parser)
    parser = add_command(
        subparsers, "item", "ID [options]", "an item as it is served", _ITEM_EPILOG, run=_item
    )
    parser.add_argument("item", metavar="ID", help="the item")
    parser.add_argument("--vector", action="store_true", help="its embedding, too")
    add_label(parser, _OF_WHICH)
    add_revision(parser)
    add_server(parser)
    _add_upsert(subparsers)
    _add_delete(subparsers)


def _add_upsert(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "upsert",
        "FILE [options]",
        "what became of items that are written to the catalogue",
        _UPSERT_EPILOG,
        run=_upsert,
    )
    parser.set_defaults(partly=False)
    parser.add_argument("file", metavar="FILE", help="the items; - is standard input")
    parser.add_argument(
        "--format",
        choices=(JSON_LINES, CSV),
        help="jsonl: a line of JSON for each item; csv: a header and a row for each "
        "(default: as the file is named, else jsonl)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse attributes that the bundle does not declare"
    )
    _add_change(parser)
    add_server(parser)


def _add_delete(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "delete",
        "(ID ... | --file FILE) [options]",
        "what became of items that are taken out of the catalogue",
        _DELETE_EPILOG,
        run=_delete,
    )
    parser.set_defaults(partly=False)
    parser.add_argument("items", metavar="ID", nargs="*", help="the items")
    parser.add_argument(
        "--file", metavar="FILE", help="more of them, an id in each line; - is standard input"
    )
    _add_change(parser)
    add_server(parser)


def _add_change(parser: Any) -> None:
    parser.add_argument(
        "--change",
        metavar="NAME",
        help="name of the change, the same for the same items: what was written under it within 24 "
        "hours is not written again",
    )


def _stats(options: Namespace) -> Output:
    with open_client(options) as client:
        result = client.get_catalog_stats(bundle_label=options.label)
    return json_document(client.response) if options.settings.json else stats_report(result)


def _item(options: Namespace) -> Output:
    with open_client(options) as client:
        result = client.get_item(
            options.item,
            with_vector=options.vector,
            min_revision=options.min_revision,
            bundle_label=options.label,
        )
    return json_document(client.response) if options.settings.json else item_report(result)


def _upsert(options: Namespace) -> Output:
    with open_client(options) as client:
        if (options.format or format_of(options.file)) == CSV:
            declared = cache(lambda: client.get_active_bundle().item_attributes)
            items = read_csv(options.file, declared)
        else:
            items = read_json_lines(options.file)
        return _change(
            client,
            options,
            list(_chunks(items, lambda item: item_to_proto(item, "items").ByteSize())),
            lambda chunk, key: client.upsert_items(
                chunk, idempotency_key=key, strict=options.strict
            ),
            catalog_pb2.UpsertItemsResponse(),
        )


def _delete(options: Namespace) -> Output:
    item_ids = list(options.items)
    if options.file is not None:
        item_ids += read_ids(options.file)
    if not item_ids:
        options.parser.error("which items? Give their ids, or --file")
    with open_client(options) as client:
        return _change(
            client,
            options,
            list(_chunks(item_ids, lambda item_id: len(item_id.encode(errors="replace")))),
            lambda chunk, key: client.delete_items(chunk, idempotency_key=key),
            catalog_pb2.DeleteItemsResponse(),
        )


def _change(
    client: KeepingClient,
    options: Namespace,
    chunks: Sequence[Sequence[T]],
    send: Callable[[Sequence[T], str], ItemChanges],
    whole: Any,
) -> str:
    """Send all calls of a change.

    Args:
        client: What sends them.
        options: The command's.
        chunks: What goes into each call.
        send: Sends one, under a key.
        whole: An empty response, which becomes the sum of all.
    """
    total = sum(map(len, chunks))
    outcomes: list[ItemOutcome] = []
    revision, replayed = 0, True
    with Resending(options.change, total=total) as resending:
        for number, chunk in enumerate(chunks):
            changes = resending.send(chunk, number, send)
            whole.MergeFrom(client.response)
            outcomes += changes.outcomes
            replayed &= changes.replayed
            revision = changes.revision
    whole.replayed = replayed
    result = ItemChanges(revision=revision, outcomes=tuple(outcomes), replayed=replayed)
    options.partly = bool(result.failures)
    return json_document(whole) if options.settings.json else changes_report(result)


def _chunks(items: Sequence[T], size_bytes: Callable[[T], int]) -> Iterator[Sequence[T]]:
    chunk: list[T] = []
    room = BYTES_MAX
    for item in items:
        size = size_bytes(item)
        if chunk and (len(chunk) == ITEMS_MAX or size > room):
            yield chunk
            chunk, room = [], BYTES_MAX
        chunk.append(item)
        room -= size
    yield chunk
