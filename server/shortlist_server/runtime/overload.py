"""Which calls have waited too long to be answered: shedding by the time they stood in the queue.

Controlled delay (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 2012), as servers use
it (Maurer, "Fail at Scale", ACM Queue 2015): a burst may wait for a while, but a queue that has not
been empty for as long is a standing one, and in it waiting helps nobody: calls that have stood
there for more than a few service times are refused, and the others are answered in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from shortlist_server.errors import Overloaded

RETRY_DELAY_MS = 100
TARGET_SERVICES = 8
"""Longest wait in a standing queue, in times that a request takes, where that is more than what
the options say. At half load, with calls at random, one in a hundred waits for three or four.
"""
SERVICE_SHARE = 0.05
"""How much the latest request counts in the mean time that one takes."""


class ControlledDelay:
    """Refuses calls that have waited too long. May be asked from several threads: what it keeps
    are single numbers, of which a stale one does no harm.
    """

    def __init__(
        self,
        wait_s_max: float,
        standing_s_max: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin with an empty queue.

        Args:
            wait_s_max: Longest wait in a queue that was empty so long ago or less, in seconds.
            standing_s_max: Longest wait in a queue that has stood for longer, in seconds.
            clock: Seconds from an arbitrary beginning.
        """
        self._wait_s_max = wait_s_max
        self._standing_s_max = standing_s_max
        self._clock = clock
        self._empty_at = clock()
        self._service_s = 0.0

    def emptied(self) -> None:
        """Note that nobody waits."""
        self._empty_at = self._clock()

    def served(self, seconds: float) -> None:
        """Note how long a request took."""
        self._service_s += SERVICE_SHARE * (seconds - self._service_s)

    def check(self, since: float) -> None:
        """Let a call that came at a time be run now.

        Raises:
            Overloaded: it has waited too long.
        """
        now = self._clock()
        allowed = self._wait_s_max
        if now - self._empty_at > self._wait_s_max:
            allowed = min(allowed, max(self._standing_s_max, TARGET_SERVICES * self._service_s))
        if now - since > allowed:
            raise Overloaded(
                waiting_max=0, retry_delay_ms=RETRY_DELAY_MS, waited_ms=(now - since) * 1e3
            )
