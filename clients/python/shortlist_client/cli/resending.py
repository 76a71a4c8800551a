"""A change of many items, call by call: sent again where a call fails, never applied twice."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from shortlist_client.errors import (
    DeadlineExceeded,
    Overloaded,
    ShortlistError,
    Unavailable,
)
from shortlist_client.results import ItemChanges
from shortlist_client.values import text

T = TypeVar("T")

ATTEMPT_COUNT_MAX = 5
FIRST_DELAY_S = 0.5
"""Doubled for each attempt after that, where the server does not say how long to wait."""

_PASSING = (DeadlineExceeded, Overloaded, Unavailable)
"""What may be over when it is sent again; whether it was applied is not known, which the key is
for."""


class Resending:
    """Sends the calls of a change, tells how far it is, and how to go on where it is cut off."""

    def __init__(self, change: str | None, *, total: int) -> None:
        """Begin.

        Args:
            change: Name of the change. None: a new one.
            total: How many items there are.

        Raises:
            InvalidValue: The name cannot be sent.
        """
        self._change = uuid.uuid4().hex if change is None else text(change, "--change")
        self._total = total
        self._done = 0
        self._shown = sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._show("")
        if self._done or isinstance(error, (*_PASSING, KeyboardInterrupt)):
            self._say_how_to_go_on(error)

    def send(
        self, chunk: Sequence[T], number: int, send: Callable[[Sequence[T], str], ItemChanges]
    ) -> ItemChanges:
        """Send one call, again where it fails for a reason that passes.

        Args:
            chunk: What goes into the call.
            number: Which call of the change it is.
            send: Sends it, under a key.

        Raises:
            ShortlistError: It failed for good.
        """
        for attempt in range(ATTEMPT_COUNT_MAX):
            try:
                changes = send(chunk, f"{self._change}/{number}")
            except _PASSING as error:
                # A server that never answered is not there: waiting for it helps nobody.
                never = isinstance(error, Unavailable) and not self._done
                if never or attempt == ATTEMPT_COUNT_MAX - 1:
                    raise
                asked = error.retry_delay_s
                time.sleep(FIRST_DELAY_S * 2**attempt if asked is None else asked)
                continue
            self._done += len(chunk)
            self._show(f"{self._done:,} of {self._total:,} items")
            return changes
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _say_how_to_go_on(self, error: BaseException | None) -> None:
        if error is None or not isinstance(error, ShortlistError | KeyboardInterrupt):
            return
        print(
            f"shortlist: {self._done:,} of {self._total:,} items are done; the same command with "
            f"--change {self._change} goes on, and does nothing twice",
            file=sys.stderr,
        )

    def _show(self, progress: str) -> None:
        if self._shown:
            # Erases to the end of the line.
            print(f"\r{progress}\x1b[K", end="", file=sys.stderr, flush=True)
