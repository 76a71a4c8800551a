"""What users did after a request: from a file, or from what later requests of a log say."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shortlist_server.errors import LogCorrupt

COLUMNS = ("user_id", "item_id")
TIME = "time"

NextItems = Mapping[str, Mapping[str, tuple[int, int | None]]]
"""By user: the items that he is known to have done something with, each with when that became
known, and when he did it (None where nobody says), in nanoseconds since 1970-01-01 UTC.
"""


NEVER = 1 << 62
"""After every request."""


def next_items_of_file(file: Path) -> NextItems:
    """Return what a CSV file says.

    Args:
        file: With a header: `user_id`, `item_id`, and `time` where it is known, in seconds since
            1970-01-01 UTC. What has no time was done after all requests of the log.

    Raises:
        LogCorrupt: it cannot be read, or is no such file.
    """
    found: dict[str, dict[str, tuple[int, int | None]]] = {}
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            rows = csv.DictReader(opened)
            if missing := set(COLUMNS) - set(rows.fieldnames or ()):
                expected = ", ".join(COLUMNS)
                raise LogCorrupt(
                    f"--next: {file}: expected a header with {expected}, got none of {missing}"
                )
            for row in rows:
                when = _time(row.get(TIME), f"--next: {file}: line {rows.line_num}")
                user, item = row["user_id"] or "", row["item_id"] or ""
                if when is None:
                    when = NEVER
                known = found.setdefault(user, {}).get(item)
                if known is None or when > known[0]:
                    found[user][item] = (when, when)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LogCorrupt(f"--next: {file}: cannot be read: {error}") from error
    return found


class Histories:
    """Learns from requests what their users had done by then."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, tuple[int, int | None]]] = {}

    def learn(self, request: Any, time_ns: int) -> None:
        """Take the history that a request of any kind sends.

        Args:
            request: Its message.
            time_ns: When it was answered.
        """
        query = getattr(request, "query", None)
        if query is None or query.WhichOneof("kind") != "user" or not query.user.id:
            return
        items = self._found.setdefault(query.user.id, {})
        for event in query.user.history:
            done = None
            if event.HasField("time"):
                done = event.time.seconds * 10**9 + event.time.nanos
            known = items.get(event.item_id)
            # Files of several servers are not in order; told again later, it is no news.
            if known is None or time_ns < known[0]:
                items[event.item_id] = (time_ns, done)

    @property
    def next_items(self) -> NextItems:
        """What is known by now."""
        return self._found


def items_after(
    known: NextItems, user_id: str, time_ns: int, before: Iterable[str]
) -> frozenset[str]:
    """Return the items that a user did something with after a request.

    Args:
        known: What is known of all users.
        user_id: The user.
        time_ns: When the request was answered.
        before: Items of which it said that he had done something with them.
    """
    past = set(before)
    return frozenset(
        item
        for item, (told, done) in known.get(user_id, {}).items()
        if told > time_ns and (done is None or done > time_ns) and item not in past
    )


def _time(text: str | None, where: str) -> int | None:
    if text is None or not text.strip():
        return None
    try:
        return int(float(text) * 1e9)
    except (ValueError, OverflowError) as error:
        raise LogCorrupt(
            f"{where}: {TIME}: expected seconds since 1970-01-01 UTC, got {text!r:.40}"
        ) from error
