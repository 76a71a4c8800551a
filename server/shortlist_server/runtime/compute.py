"""The threads in which kernels run. Kernels release the interpreter lock; the event loop only does
I/O.
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
    """A bounded queue before a few threads."""

    def __init__(self, *, threads: int, waiting_max: int) -> None:
        """Begin with no threads; they start as work comes.

        Args:
            threads: Calls that run at the same time.
            waiting_max: Calls that may wait beside those.
        """
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="compute")
        self._admitted_max = threads + waiting_max
        self._waiting_max = waiting_max
        self._admitted = 0
        self._closed = False

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in one of the threads. A call whose caller has gone before its turn is not
        run.

        Raises:
            Overloaded: as many calls wait as may.
            ShuttingDown: the pool is closed.
        """
        if self._closed:
            raise ShuttingDown
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
        self._threads.shutdown(wait=True, cancel_futures=True)
