"""`shortlist batch`: recommendations for many, in calls of many."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from google.protobuf.message import Message
from shortlist.v1 import recommendation_pb2

from shortlist_client.call import StreamCall, checked_request_id
from shortlist_client.cli.any_call import request_from_json
from shortlist_client.cli.command import Subparsers, add_command, add_server, json_line
from shortlist_client.cli.connection import KeepingClient, open_client
from shortlist_client.cli.items import read_lines
from shortlist_client.cli.table import printable
from shortlist_client.values import count

ROWS_MAX = 1_024
"""Most rows of one call."""
BYTES_MAX = 3 * 1024 * 1024
"""Most bytes of them: a message may have 4 MiB."""

_EPILOG = """\
examples:
  seq 1 100 | shortlist batch - --limit 5         lists for the users 1 to 100
  shortlist batch requests.jsonl                  a RecommendRequest in JSON in each line
  shortlist batch users.txt | jq -r '[.index, .response.items[].id] | @tsv'

A line that begins with { is a request, any other is a user's id. Answers are printed as they come,
each in a line; its index says which line of the file it answers, the first that is not empty being
0. The exit code is 9 where some requests were refused; the others are answered.
"""


def add_commands(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "batch",
        "FILE [options]",
        "lists for many users, or of many requests",
        _EPILOG,
        run=_batch,
    )
    parser.set_defaults(partly=False, default_timeout_s=30.0)
    parser.add_argument("file", metavar="FILE", help="users or requests; - is standard input")
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="items wanted, 1..500, where a request does not say (default 20)",
    )
    parser.add_argument(
        "--attributes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="attributes to return, where a request does not say (default: none)",
    )
    add_server(parser)


def _batch(options: Namespace) -> Generator[str, None, None]:
    limit = count(options.limit, "--limit")
    requests = [
        _request(line, place, limit, options.attributes)
        for place, line in read_lines(options.file, "a user's id or a request in each line")
    ]
    with open_client(options) as client:
        first = 0
        for rows in _calls(requests):
            for answer in _answers(client, rows):
                answer.index += first
                options.partly |= answer.HasField("error")
                yield json_line(answer) if options.settings.json else _row(answer, requests)
            first += len(rows)


def _request(
    line: str, place: str, limit: int, attributes: Sequence[str]
) -> recommendation_pb2.RecommendRequest:
    request = recommendation_pb2.RecommendRequest()
    if line.startswith("{"):
        request_from_json(line, request, place)
    else:
        request.query.user.id = line
    request.limit = request.limit or limit
    if not request.attributes:
        request.attributes.extend(attributes)
    return request


def _calls(
    requests: Sequence[recommendation_pb2.RecommendRequest],
) -> Iterator[Sequence[recommendation_pb2.RecommendRequest]]:
    start, size = 0, 0
    for place, request in enumerate(requests):
        own = request.ByteSize()
        if place > start and (place - start == ROWS_MAX or size + own > BYTES_MAX):
            yield requests[start:place]
            start, size = place, 0
        size += own
    yield requests[start:]


def _answers(
    client: KeepingClient, rows: Sequence[recommendation_pb2.RecommendRequest]
) -> Iterator[Any]:
    call: StreamCall[Any, Any, Message] = StreamCall(
        method=lambda stubs: stubs.recommendation.BatchRecommend,
        request=recommendation_pb2.BatchRecommendRequest(requests=rows),
        read=lambda response: response,
        request_id=checked_request_id(None),
        timeout_s=None,
    )
    with client.begin(call) as answers:
        yield from answers


def _row(answer: Any, requests: Sequence[recommendation_pb2.RecommendRequest]) -> str:
    user = requests[answer.index].query.user.id
    name = printable(f"{answer.index}{f' {user}' if user else ''}")
    if answer.HasField("error"):
        return f"{name}: {printable(answer.error.message)}\n"
    ids = " ".join(printable(item.id) for item in answer.response.items) or "no items"
    return f"{name}: {ids}\n"
