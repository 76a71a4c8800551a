"""Where requests are computed: in the event loop, or in a few threads behind a bounded queue.

`docs/decisions/002-where-requests-are-computed.md` has the measurements.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

from shortlist_server.errors import Overloaded, ShuttingDown
from shortlist_server.runtime.loop_queue import LoopQueue
from shortlist_server.runtime.overload import RETRY_DELAY_MS, ControlledDelay

P = ParamSpec("P")
T = TypeVar("T")

LOOP_TURNS = 6
"""Turns of the event loop that a call takes from the socket to the funnel: so many are left to
single calls before each row of a batch.
"""
BEHIND_S_MAX = 0.05
"""How long a row of a batch stands back for single calls, at most: it is not starved."""


class Run(Protocol):
    """Runs a function and returns what it returns."""

    def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run it."""


class ComputePool:
    """Runs the funnel for the servicers."""

    def __init__(
        self,
        *,
        threads: int,
        waiting_max: int,
        wait_s_max: float = 0.1,
        standing_s_max: float = 0.02,
    ) -> None:
        """Begin with no threads; they start as work comes.

        Args:
            threads: Calls that run at the same time; 0 runs each in the event loop, one after the
                other.
            waiting_max: Calls that may wait for a thread, or for the loop.
            wait_s_max: Longest wait, in seconds.
            standing_s_max: The same where calls have been waiting all the time.
        """
        self._delay = ControlledDelay(wait_s_max, standing_s_max)
        self._in_loop = LoopQueue(waiting_max=waiting_max, delay=self._delay)
        self._threads = (
            ThreadPoolExecutor(threads, thread_name_prefix="compute") if threads else None
        )
        # Calls that wait for something outside the process: as many as may be under way.
        self._waiters = ThreadPoolExecutor(
            max(1, threads + waiting_max), thread_name_prefix="waiting"
        )
        self._at_once = threads
        self._admitted_max = threads + waiting_max
        self._waiting_max = waiting_max
        self._admitted = 0
        self._quiet = asyncio.Event()
        """Set while no call is admitted."""
        self._quiet.set()
        self._closed = False

    @property
    def admitted_count(self) -> int:
        """Single calls that run in a thread, or wait for one or for the event loop."""
        return self._admitted + len(self._in_loop)

    def of(self, *, waits: bool, behind: bool = False) -> Run:
        """Return the way to run a call.

        Args:
            waits: Whether it may wait for something outside the process, which would stop the
                event loop, or only computes.
            behind: Whether it stands back for single calls.
        """
        if behind:
            return self.run_waiting_behind if waits else self.run_behind
        return self.run_waiting if waits else self.run

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function. A call whose caller has gone before its turn is not run.

        Raises:
            Overloaded: as many calls wait as may, or this one has waited too long.
            ShuttingDown: the pool is closed.
        """
        if self._closed:
            raise ShuttingDown
        if self._threads is None:
            return await self._in_loop.run(partial(function, *args, **kwargs))
        return await self._in(self._threads, self._timely(function, *args, **kwargs))

    async def run_waiting(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that may wait, in a thread; raises like `run`."""
        if self._closed:
            raise ShuttingDown
        return await self._in(self._waiters, partial(function, *args, **kwargs))

    async def run_behind(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function once no single call is waiting to be run; raises like `run`."""
        await self._stand_back()
        if self._threads is None:
            return function(*args, **kwargs)
        # Not counted among the admitted: a row is not what other rows stand back for.
        return await asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))

    async def run_waiting_behind(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function that may wait, in a thread, as `run_behind` does."""
        await self._stand_back()
        return await asyncio.wrap_future(self._waiters.submit(function, *args, **kwargs))

    async def _stand_back(self) -> None:
        for _ in range(LOOP_TURNS):
            await asyncio.sleep(0)
        for quiet in (self._quiet, self._in_loop.quiet):
            if not quiet.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(quiet.wait(), BEHIND_S_MAX)
        if self._closed:
            raise ShuttingDown

    def _timely(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Callable[[], T]:
        """Return what runs a function in a compute thread, unless it waits too long for one."""
        since = time.perf_counter()
        if self._admitted < self._at_once:
            self._delay.emptied()

        def turn() -> T:
            self._delay.check(since)
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._delay.served(time.perf_counter() - begin)

        return turn

    async def _in(self, threads: ThreadPoolExecutor, function: Callable[[], T]) -> T:
        if self._admitted >= self._admitted_max:
            raise Overloaded(waiting_max=self._waiting_max, retry_delay_ms=RETRY_DELAY_MS)
        self._admitted += 1
        self._quiet.clear()
        try:
            return await asyncio.wrap_future(threads.submit(function))
        finally:
            self._admitted -= 1
            if not self._admitted:
                self._quiet.set()

    def close(self) -> None:
        """Take no more calls, and wait for those that run."""
        self._closed = True
        for threads in (self._threads, self._waiters):
            if threads is not None:
                threads.shutdown(wait=True, cancel_futures=True)
