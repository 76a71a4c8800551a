"""`shortlist-server prewarm`: has a running server ask its language model ahead of time."""

from __future__ import annotations

import argparse
import asyncio
import copy
import itertools
import json
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2

from shortlist_server.errors import ConfigError, ShortlistError
from shortlist_server.target import add_target, seconds, tls_credentials
from shortlist_server.warming import Request, Tally, WarmOptions, warm

DESCRIPTION = "Have a running server ask its language model ahead of time, user by user."
EPILOG = """examples:
  shortlist-server prewarm --users users.txt
  shortlist-server prewarm 42 43 --request home-page.json --rate 2
  cut -d, -f1 users.csv | shortlist-server prewarm --users - --target 127.0.0.1:8500

Users are read one a line: an id, or a UserQuery as JSON, {"id": "42", "history": [...]}. What is
asked for is what the callers will ask: --request is a RecommendRequest with `rerank`, or
--rank-request a RankRequest with `ranker`, as JSON without a query; else the defaults of a
recommendation with `rerank`. Answers are kept where the server keeps them, see
docs/language-models.md.

Exit codes: 0 all users were asked for, 1 the server cannot be asked, or too many failed in a row, 2
usage, 3 some failed.
"""
PROGRESS_USERS = 100
"""Users between two lines of progress."""
LINE_BYTES_MAX = 4 << 20
RATE_MAX = 1_000.0
CONCURRENCY_MAX = 64


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    made = parser()
    parsed = made.parse_args(arguments)
    if not parsed.user and parsed.users is None:
        made.error("expected users, as arguments or by --users, got none")
    try:
        template = _template(parsed)
        options = WarmOptions(
            target=parsed.target,
            credentials=tls_credentials(parsed),
            server_name=parsed.server_name,
            api_key=_api_key(parsed.api_key_file),
            per_second=parsed.rate,
            concurrency=parsed.concurrency,
            timeout_s=parsed.timeout_s,
            failures_max=parsed.failures_max,
        )
        tally = asyncio.run(_run(parsed, template, options))
    except ShortlistError as error:
        print(f"shortlist-server: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("shortlist-server: interrupted", file=sys.stderr)
        return 130
    print(json.dumps(tally.as_json(), indent=1) if parsed.json else tally.as_text())
    if tally.stopped:
        print(f"shortlist-server: {tally.stopped}", file=sys.stderr)
        return 1
    return 3 if tally.failed_count else 0


async def _run(parsed: argparse.Namespace, template: Request, options: WarmOptions) -> Tally:
    file = parsed.users
    opened: Any = nullcontext(())
    if file is not None:
        opened = nullcontext(sys.stdin) if str(file) == "-" else _open(file)
    with opened as lines:
        named = itertools.chain(_of_arguments(parsed.user), read_users(lines, str(file)))
        return await warm(_requests(named, template), options, _progress)


async def _requests(
    users: Iterator[types_pb2.UserQuery], template: Request
) -> AsyncIterator[Request]:
    # In a thread: a pipe may be slower than the model.
    while (user := await asyncio.to_thread(next, users, None)) is not None:
        request = copy.deepcopy(template)
        request.query.user.MergeFrom(user)
        yield request


def read_users(lines: Iterable[str], name: str) -> Iterator[types_pb2.UserQuery]:
    """Yield the users of a file, one a line; empty lines say nothing.

    Args:
        lines: The lines.
        name: What the file is called, for errors.

    Raises:
        ConfigError: a line is no id, and no UserQuery as JSON.
    """
    numbered = enumerate(lines, 1)
    while True:
        try:
            number, line = next(numbered)
        except StopIteration:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--users: {name}: cannot be read: {error}") from error
        text = line.strip()
        if not text:
            continue
        where = f"--users: {name}: line {number}"
        if len(text) > LINE_BYTES_MAX:
            raise ConfigError(f"{where}: expected at most {LINE_BYTES_MAX} characters")
        if text.startswith("{"):
            yield _parsed(text, types_pb2.UserQuery(), where)
        else:
            yield types_pb2.UserQuery(id=text)


def _of_arguments(ids: Iterable[str]) -> Iterator[types_pb2.UserQuery]:
    return (types_pb2.UserQuery(id=one) for one in ids)


def _template(parsed: argparse.Namespace) -> Request:
    """Return what is asked for each user, but for the user.

    Raises:
        ConfigError: a file cannot be read, or no language model would be asked.
    """
    if parsed.rank_request is not None:
        rank: pb.RankRequest = _read(parsed.rank_request, "--rank-request", pb.RankRequest())
        if rank.ranker not in (types_pb2.RANKER_LLM, types_pb2.RANKER_BLEND):
            raise ConfigError(
                f"--rank-request: {parsed.rank_request}: ranker: expected RANKER_LLM or "
                "RANKER_BLEND, or no language model is asked"
            )
        return rank
    if parsed.request is not None:
        asked: pb.RecommendRequest = _read(parsed.request, "--request", pb.RecommendRequest())
        if not asked.HasField("rerank"):
            raise ConfigError(
                f"--request: {parsed.request}: rerank: expected RerankOptions, got none, so that "
                "no language model is asked"
            )
        return asked
    return pb.RecommendRequest(rerank=types_pb2.RerankOptions())


def _read(file: Path, flag: str, message: Any) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{flag}: {file}: cannot be read: {error}") from error
    read = _parsed(text, message, f"{flag}: {file}")
    if read.query.WhichOneof("kind") not in (None, "user"):
        raise ConfigError(
            f"{flag}: {file}: query: expected a user or none, since each user is put there"
        )
    return read


def _parsed(text: str, message: Any, where: str) -> Any:
    try:
        return json_format.Parse(text, message)
    except json_format.ParseError as error:
        kind = message.DESCRIPTOR.name
        raise ConfigError(f"{where}: expected a {kind} as JSON: {error}") from error


def _api_key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        # The text is not repeated: it may be a key.
        raise ConfigError(f"--api-key-file: {file}: cannot be read as a key") from error


def _open(file: Path) -> Any:
    try:
        return file.open(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--users: {file}: cannot be read: {error.strerror}") from error


def _progress(tally: Tally) -> None:
    if tally.user_count % PROGRESS_USERS == 0:
        print(f"prewarm: {tally.as_text()}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(
        prog="shortlist-server prewarm",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("user", nargs="*", metavar="USER", help="ids of users")
    made.add_argument(
        "--users", type=Path, metavar="FILE", help="file of users, one a line; - is standard input"
    )
    asked = made.add_mutually_exclusive_group()
    asked.add_argument(
        "--request", type=Path, metavar="FILE", help="the RecommendRequest of each user, as JSON"
    )
    asked.add_argument(
        "--rank-request", type=Path, metavar="FILE", help="the RankRequest of each user, as JSON"
    )
    made.add_argument(
        "--rate",
        type=_rate,
        default=5.0,
        metavar="N",
        help="most users a second (default %(default)g)",
    )
    made.add_argument(
        "--concurrency",
        type=_concurrency,
        default=2,
        metavar="N",
        help="users at a time, 1..64 (default %(default)d); what the server's "
        "`llm.concurrency_max` leaves is for callers",
    )
    made.add_argument(
        "--timeout-s",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="deadline of each call (default %(default)g); the model has the server's share of it",
    )
    made.add_argument(
        "--failures-max",
        type=_failures,
        default=10,
        metavar="N",
        help="stop after so many failures in a row (default %(default)d)",
    )
    made.add_argument("--json", action="store_true", help="print what came of it as JSON")
    made.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help="file with the API key to send"
    )
    add_target(made)
    return made


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= RATE_MAX:
        raise argparse.ArgumentTypeError(
            f"expected a number above 0, up to {RATE_MAX:g}, got {text!r}"
        )
    return rate


def _concurrency(text: str) -> int:
    return _whole(text, CONCURRENCY_MAX)


def _failures(text: str) -> int:
    return _whole(text, 1_000_000)


def _whole(text: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {most:,}, got {text!r}")
    return int(text)
