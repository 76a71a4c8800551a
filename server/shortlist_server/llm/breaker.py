"""The circuit breaker: what fails again and again is left alone for a while."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from shortlist_server.llm.language_model import LlmBreakerOpen


class BreakerState(Enum):
    """Whether calls are made."""

    CLOSED = "closed"
    """They are."""
    HALF_OPEN = "half_open"
    """One is, as a probe."""
    OPEN = "open"
    """None is."""


class CallEnd(Enum):
    """What a call tells of the service."""

    WELL = "well"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """Nothing: its caller went away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOptions:
    """When it opens, and for how long."""

    calls: int = 20
    """How many of the last calls it looks at."""
    calls_min: int = 5
    """It does not open before it knows of so many."""
    failure_share: float = 0.5
    """It opens where at least this share of them failed."""
    open_s: float = 10.0
    """Then no call is made for so long; after that, one."""


class CircuitBreaker:
    """Counts how calls ended. For one event loop."""

    def __init__(
        self,
        options: BreakerOptions,
        *,
        changed: Callable[[BreakerState], None] = lambda state: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin closed.

        Args:
            options: When it opens.
            changed: Is told each new state, and the first.
            clock: Seconds.
        """
        self._options = options
        self._changed = changed
        self._clock = clock
        self._ends: deque[bool] = deque(maxlen=options.calls)
        self._opened_at = 0.0
        self._probing = False
        self._era = 0
        self._enter_state(BreakerState.CLOSED)

    @property
    def state(self) -> BreakerState:
        """Whether calls are made."""
        return self._state

    def check(self) -> None:
        """Return if a call would be let through.

        Raises:
            LlmBreakerOpen: it would not.
        """
        if self._state is BreakerState.CLOSED:
            return
        left_s = self._opened_at + self._options.open_s - self._clock()
        if left_s > 0:
            raise LlmBreakerOpen(
                f"the last calls failed; the next is made in {left_s * 1e3:.0f} ms",
                retry_delay_s=left_s,
            )
        if self._probing:
            raise LlmBreakerOpen(
                "the last calls failed; one is made now, to see whether it is well again"
            )

    def enter(self) -> int:
        """Let a call through; return what `leave` must be told.

        Raises:
            LlmBreakerOpen: no call is made now.
        """
        self.check()
        if self._state is not BreakerState.CLOSED:
            self._probing = True
            self._enter_state(BreakerState.HALF_OPEN)
        return self._era

    def leave(self, era: int, end: CallEnd) -> None:
        """Learn how a call ended that `enter` let through.

        Args:
            era: What `enter` returned.
            end: How it ended.
        """
        # A call from before it opened tells nothing new.
        if era != self._era:
            return
        if self._state is BreakerState.HALF_OPEN:
            self._probing = False
            if end is CallEnd.WELL:
                self._ends.clear()
                self._enter_state(BreakerState.CLOSED)
            elif end is CallEnd.FAILED:
                self._open()
        elif end is not CallEnd.UNKNOWN:
            self._ends.append(end is CallEnd.FAILED)
            enough = len(self._ends) >= self._options.calls_min
            if enough and sum(self._ends) >= self._options.failure_share * len(self._ends):
                self._open()

    def _open(self) -> None:
        self._opened_at = self._clock()
        self._era += 1
        self._enter_state(BreakerState.OPEN)

    def _enter_state(self, state: BreakerState) -> None:
        self._state = state
        self._changed(state)
