"""A rate limit: so many calls a second, and so many at once after a rest."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """Holds up to `burst` tokens; one comes back every 1 / `per_second` seconds.

    Not safe to share between threads: all calls are admitted in the event loop.
    """

    def __init__(
        self, per_second: float, burst: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin full.

        Args:
            per_second: Tokens that come back in a second, above 0.
            burst: Most tokens that it holds, 1 or more.
            now: The clock, in seconds.
        """
        self.per_second = per_second
        self.burst = burst
        self._now = now
        self._tokens = float(burst)
        self._filled_at = now()

    def take(self) -> float:
        """Take one token.

        Returns:
            0, or, where there is none, the seconds until there is; nothing is taken then.
        """
        now = self._now()
        refilled = self._tokens + (now - self._filled_at) * self.per_second
        self._tokens, self._filled_at = min(float(self.burst), refilled), now
        if self._tokens < 1:
            return (1 - self._tokens) / self.per_second
        self._tokens -= 1
        return 0.0

    def charge(self, count: int) -> None:
        """Take tokens for what has been admitted already, on credit where there are too few.

        A batch may have more rows than the bucket could ever hold: it is admitted by one token, and
        its caller waits afterwards until the others are paid.
        """
        self._tokens -= count
