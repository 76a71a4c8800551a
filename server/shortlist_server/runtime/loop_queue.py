"""Runs calls in the event loop one after the other, so that those that wait are seen to wait.

gRPC hands the loop one call at a time. While the loop computes, the others wait where nobody counts
them: under overload each is answered after its caller has given up. So a call that arrives while
the loop has hardly been idle since the last one waits here, and the loop takes a few turns before
each, in which the calls behind it come in. A call to an idle loop is run at once.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from shortlist_server.errors import Overloaded
from shortlist_server.runtime.overload import RETRY_DELAY_MS, ControlledDelay

T = TypeVar("T")

BUSY_SHARE = 0.7
"""Share of the time since the last call that the loop must have worked, not to count as idle: one
caller who asks again and again leaves it at 0.5 to 0.6, more than it can do at 0.75 to 1.
"""
QUIET_TURNS = 6
"""Turns of the loop without another call, after which those behind it are in: a call takes so many
from the socket to here.
"""
QUIET_TURNS_REFUSING = 24
"""The same while calls are being refused: gRPC hands over one call at a time, by a thread that has
to be woken for each, and those that it has not handed over wait longest.
"""
REFUSING_S = 0.1
"""How long after a refusal calls count as being refused."""
TURNS_MAX = 200


@dataclass(slots=True)
class _Waiting:
    since: float
    run: Callable[[], Any]
    done: asyncio.Future[Any]


class LoopQueue:
    """The calls that wait for the event loop."""

    def __init__(self, *, waiting_max: int, delay: ControlledDelay) -> None:
        """Begin with none.

        Args:
            waiting_max: Calls that may wait.
            delay: Refuses those that have waited too long.
        """
        self._waiting_max = waiting_max
        self._delay = delay
        self._queue: deque[_Waiting] = deque()
        self._pump: asyncio.Task[None] | None = None
        self.quiet = asyncio.Event()
        """Set while no call waits."""
        self.quiet.set()
        self._entered = 0
        self._ended_at = self._ended_cpu = 0.0
        self._refused_at = -math.inf

    def __len__(self) -> int:
        """Calls that wait."""
        return len(self._queue)

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function when it is its turn.

        Raises:
            Overloaded: too many wait, or this one has waited too long.
        """
        self._entered += 1
        if self._pump is None and self._idle():
            self._delay.emptied()
            return self._timed(function)
        if len(self._queue) > self._waiting_max:  # the first of them is next, and does not wait
            raise Overloaded(waiting_max=self._waiting_max, retry_delay_ms=RETRY_DELAY_MS)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(time.perf_counter(), function, loop.create_future())
        self._queue.append(waiting)
        self.quiet.clear()
        if self._pump is None:
            self._pump = loop.create_task(self._run_all())
        result: T = await waiting.done
        return result

    def _idle(self) -> bool:
        """Whether the loop has had little to do since the last call ended."""
        elapsed = time.perf_counter() - self._ended_at
        return time.thread_time() - self._ended_cpu < BUSY_SHARE * elapsed

    async def _run_all(self) -> None:
        try:
            while self._queue:
                await self._let_in()
                self._run_one()
        finally:
            # Not `emptied`: more may wait outside. Only an idle loop tells that none does.
            self._pump = None
            self.quiet.set()

    async def _let_in(self) -> None:
        refusing = time.perf_counter() < self._refused_at + REFUSING_S
        wanted = QUIET_TURNS_REFUSING if refusing else QUIET_TURNS
        quiet = 0
        for _ in range(TURNS_MAX):
            before = self._entered
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._entered == before else 0
            if quiet >= wanted:
                return

    def _run_one(self) -> None:
        """Run the first call that has not waited too long, and whose caller still does."""
        while self._queue:
            waiting = self._queue.popleft()
            if waiting.done.done():
                continue
            try:
                self._delay.check(waiting.since)
            except Overloaded as error:
                self._refused_at = time.perf_counter()
                waiting.done.set_exception(error)
                continue
            try:
                waiting.done.set_result(self._timed(waiting.run))
            except Exception as error:
                waiting.done.set_exception(error)
            return

    def _timed(self, function: Callable[[], T]) -> T:
        begin = time.perf_counter()
        try:
            return function()
        finally:
            self._ended_at, self._ended_cpu = time.perf_counter(), time.thread_time()
            self._delay.served(self._ended_at - begin)
