"""Where requests are computed: in the event loop, or in a few threads behind a bounded queue.

`docs/decisions/002-where-requests-are-computed.md` has the measurements.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from shortlist_server.errors import Overloaded, ShuttingDown

P = ParamSpec("P")
T = TypeVar("T")

RETRY_DELAY_MS = 100


class ComputePool:
    """Runs the funnel for the servicers."""

    def __init__(self, *, threads: int, waiting_max: int) -> None:
        """Begin with no threads; they start as work comes.

        Args:
            threads: Calls that run at the same time; 0 runs each in the event loop, one after the
                other.
            waiting_max: Calls that may wait for a thread.
        """
        self._threads = (
            ThreadPoolExecutor(threads, thread_name_prefix="compute") if threads else None
        )
        self._admitted_max = threads + waiting_max
        self._waiting_max = waiting_max
        self._admitted = 0
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function. A call whose caller has gone before its turn is not run.

        Raises:
            Overloaded: as many calls wait for a thread as may.
            ShuttingDown: the pool is closed.
        """
        if self._closed:
            raise ShuttingDown
        if self._threads is None:
            return function(*args, **kwargs)
        if self._admitted >= self._admitted_max:
            raise Overloaded(waiting_max=self._waiting_max, retry_delay_ms=RETRY_DELAY_MS)
        self._admitted += 1
        try:
            return await asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))
        finally:
            self._admitted -= 1

    def close(self) -> None:
        """Take no more calls, and wait for those that run."""
        self._closed = True
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
