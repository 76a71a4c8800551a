"""What stands between a request and a service that may be slow, dear, overrun or away."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shortlist_server.llm.breaker import BreakerOptions, BreakerState, CallEnd, CircuitBreaker
from shortlist_server.llm.cost import HourBudget, Prices
from shortlist_server.llm.language_model import (
    LanguageModelError,
    LlmBlocked,
    LlmBudgetExceeded,
    LlmInvalidOutput,
    LlmOverloaded,
    LlmTimeout,
    TokenUsage,
)
from shortlist_server.llm.observer import LlmObserver, NoObserver

logger = logging.getLogger(__name__)

T = TypeVar("T")
BACKOFF_S = 0.2
"""First pause before a call is made again where the service names none; it doubles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardOptions:
    """How much a service is trusted."""

    timeout_s: float = 30.0
    """Longest that any call may take, whatever its caller allows."""
    concurrency_max: int = 8
    """Calls of the service at a time."""
    waiting_max: int = 32
    """More that may wait for their turn."""
    retries_max: int = 2
    """How often a call is made again that the service was too busy for."""
    patience_s: float = 0.5
    """A call that was cancelled before so long is no failure of the service."""
    breaker: BreakerOptions = field(default_factory=BreakerOptions)
    prices: Prices = field(default_factory=Prices)


class Flight:
    """One call under way, with those who wait for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Any]
        self.waiting = 0
        self.until = -math.inf
        """When the most patient of them leaves, in the event loop's time."""
        self.asked = False
        """Whether the service was asked: before that, it is not its fault."""
        self.timed_out = False
        """Whether it was given up since time was over."""
        self.usage, self.cost = TokenUsage(), 0.0
        """What was paid for it."""
        self.owed: TokenUsage | None = None
        """What is paid for the call under way if it is cancelled; None where none is."""


class Counted:
    """Tells the observer how a caller's call ended."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        # Also what a caller leaves behind who reads a stream no further.
        self.outcome = "CANCELLED"

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, LanguageModelError):
            self.outcome = error.reason
        elif isinstance(error, Exception):
            self.outcome = "FAILED"
        seconds = self._clock() - self._began
        self._guard.observer.llm_called(self._guard.identity, self.outcome, seconds)


class Guard:
    """Calls one service. For one event loop."""

    def __init__(
        self,
        identity: str,
        options: GuardOptions,
        *,
        budget: HourBudget,
        observer: LlmObserver | None = None,
    ) -> None:
        """Let calls through.

        Args:
            identity: Of what is called, for the observer.
            options: How much it is trusted.
            budget: What it costs is paid from.
            observer: Counts; None where nobody asks.
        """
        self.identity = identity
        self.observer = observer or NoObserver()
        self._options = options
        self._budget = budget
        self._slots = asyncio.Semaphore(options.concurrency_max)
        self._waiting = 0
        self._flights: dict[bytes, Flight] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._breaker = CircuitBreaker(
            options.breaker, changed=lambda state: self._tell_breaker(state)
        )

    async def together(
        self, key: bytes, work: Callable[[Flight], Coroutine[Any, Any, T]], *, deadline_s: float
    ) -> T:
        """Await work; who asks for the same meanwhile awaits it, too.

        It is cancelled when the last of them has left, and not before. Whoever is out of time
        leaves at once, even if the work does not heed its cancellation.

        Args:
            key: Of the same work.
            work: Begun unless it is under way.
            deadline_s: Time that this caller has, in seconds.

        Raises:
            LanguageModelError: the work's own, or this caller is out of time.
        """
        deadline_s = self._allowed(deadline_s)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = self.begin(work)
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        self.join(flight, deadline_s)
        try:
            await asyncio.wait({flight.task}, timeout=deadline_s)
        except asyncio.CancelledError:
            self.leave(flight)
            raise
        if flight.task.done():
            answer: T = flight.task.result()
            return answer
        self.leave(flight, timed_out=True)
        raise self.out_of_time(flight, deadline_s)

    async def alone(
        self,
        work: Callable[[Flight], Coroutine[Any, Any, None]],
        pieces: asyncio.Queue[str | None],
        *,
        deadline_s: float,
    ) -> AsyncGenerator[str, None]:
        """Yield what work that nobody shares puts into a queue, until None.

        It is cancelled when its reader is out of time, or reads no further.

        Raises:
            LanguageModelError: the work's own, or the reader is out of time.
        """
        deadline_s = self._allowed(deadline_s)
        flight = self.begin(work)
        self.join(flight, deadline_s)
        timed_out = False
        try:
            while True:
                try:
                    async with asyncio.timeout_at(flight.until):
                        piece = await pieces.get()
                except TimeoutError:
                    timed_out = True
                    break
                if piece is None:
                    break
                yield piece
        finally:
            self.leave(flight, timed_out=timed_out)
        if timed_out:
            raise self.out_of_time(flight, deadline_s)
        await flight.task

    def counted(self) -> Counted:
        """Return what tells the observer how a caller's call ended."""
        return Counted(self)

    @property
    def timeout_s(self) -> float:
        """Longest that any call may take, in seconds."""
        return self._options.timeout_s

    def begin(self, work: Callable[[Flight], Coroutine[Any, Any, T]]) -> Flight:
        """Begin work that nobody shares."""
        flight = Flight()
        flight.task = self.later(work(flight))
        return flight

    def join(self, flight: Flight, deadline_s: float) -> None:
        """Wait for it."""
        flight.waiting += 1
        flight.until = max(flight.until, asyncio.get_running_loop().time() + deadline_s)

    def leave(self, flight: Flight, *, timed_out: bool = False) -> None:
        """Wait no longer; if nobody does, it is cancelled."""
        flight.waiting -= 1
        if flight.waiting == 0 and not flight.task.done():
            flight.timed_out = timed_out
            flight.task.cancel()
            # The next to ask must not join what is ending.
            for key in [key for key, one in self._flights.items() if one is flight]:
                del self._flights[key]

    def out_of_time(self, flight: Flight, deadline_s: float) -> LanguageModelError:
        """Return the error of who leaves since time is over."""
        if not flight.asked:
            return LlmBudgetExceeded(
                f"{self.identity}: {deadline_s * 1e3:.0f} ms passed before it was its turn"
            )
        usage, cost = self.spent(flight)
        error = LlmTimeout(
            f"{self.identity}: no answer within {deadline_s * 1e3:.0f} ms", usage=usage
        )
        error.cost = cost
        return error

    def spent(self, flight: Flight) -> tuple[TokenUsage, float]:
        """Return what a flight costs if it ends now."""
        if flight.owed is None:
            return flight.usage, flight.cost
        return flight.usage + flight.owed, flight.cost + self._options.prices.cost(flight.owed)

    async def attempt(
        self,
        flight: Flight,
        call: Callable[[], Awaitable[T]],
        *,
        usage_of: Callable[[T], TokenUsage],
        input_tokens: int,
        may_retry: Callable[[], bool] = lambda: True,
    ) -> tuple[T, float]:
        """Call the service, again if it is too busy and there is time; return what it cost, too.

        Args:
            flight: For whom.
            call: Calls it.
            usage_of: What the answer cost.
            input_tokens: About what is asked, in tokens: paid where nobody says what it was.
            may_retry: Whether it may be called again.

        Raises:
            LanguageModelError: it was not called, or did not answer.
        """
        for retry in range(self._options.retries_max + 1):
            self._budget.check()
            self._breaker.check()
            try:
                async with self._turn():
                    return await self._call_once(flight, call, usage_of, input_tokens)
            except LlmOverloaded as error:
                delay_s = error.retry_delay_s
                if delay_s is None:
                    delay_s = BACKOFF_S * 2**retry * random.uniform(0.5, 1.5)
                left_s = flight.until - asyncio.get_running_loop().time()
                if retry == self._options.retries_max or delay_s >= left_s or not may_retry():
                    raise
            self.observer.llm_retried(self.identity)
            # Out of the way of others, whose calls may be for another model behind the service.
            await asyncio.sleep(delay_s)
        raise AssertionError("the last try returns or raises")

    def later(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do work in a task of its own, which nobody has to wait for."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def close(self) -> None:
        """Cancel what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call_once(
        self,
        flight: Flight,
        call: Callable[[], Awaitable[T]],
        usage_of: Callable[[T], TokenUsage],
        input_tokens: int,
    ) -> tuple[T, float]:
        """Call the service; the breaker learns how it ended, and it is paid."""
        era = self._breaker.enter()
        clock = asyncio.get_running_loop().time
        flight.asked, began = True, clock()
        end, usage = CallEnd.UNKNOWN, TokenUsage(input_tokens=input_tokens)
        flight.owed, failed = usage, None
        try:
            answer = await call()
            end, usage = CallEnd.WELL, usage_of(answer)
        except LanguageModelError as error:
            # An answer that cannot be used is one.
            failed = error
            answered = isinstance(error, LlmInvalidOutput | LlmBlocked)
            end = CallEnd.WELL if answered else CallEnd.FAILED
            if error.usage is not None:
                usage = error.usage
            elif not isinstance(error, LlmTimeout):
                usage = TokenUsage()
            raise
        except asyncio.CancelledError:
            if flight.timed_out and clock() - began >= self._options.patience_s:
                end = CallEnd.FAILED
            raise
        except Exception:
            end = CallEnd.FAILED
            raise
        finally:
            self._breaker.leave(era, end)
            cost = self._pay(usage)
            flight.usage, flight.cost, flight.owed = flight.usage + usage, flight.cost + cost, None
            if failed is not None:
                failed.cost = cost
        return answer, cost

    def _pay(self, usage: TokenUsage) -> float:
        cost = self._options.prices.cost(usage)
        self._budget.spend(cost)
        self.observer.llm_spent(self.identity, usage.input_tokens, usage.output_tokens, cost)
        return cost

    def _allowed(self, deadline_s: float) -> float:
        if not deadline_s > 0:
            raise LlmBudgetExceeded(f"{self.identity}: there is no time left for it")
        return min(deadline_s, self._options.timeout_s)

    def _land(self, key: bytes, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Nobody may be left to take the error.
        if not task.cancelled():
            task.exception()

    def _tell_breaker(self, state: BreakerState) -> None:
        if state is BreakerState.OPEN:
            logger.warning("%s: calls fail; none is made for a while", self.identity)
        self.observer.llm_breaker(self.identity, state.value)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Hold one of the places for calls under way."""
        if self._slots.locked() and self._waiting >= self._options.waiting_max:
            raise LlmBudgetExceeded(
                f"{self.identity}: {self._options.concurrency_max} calls are under way, and "
                f"{self._waiting} wait"
            )
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()
