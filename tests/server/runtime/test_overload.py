"""Calls wait for the event loop in order, and those that have waited too long are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from shortlist_server.errors import Overloaded
from shortlist_server.runtime import loop_queue
from shortlist_server.runtime.loop_queue import LoopQueue
from shortlist_server.runtime.overload import ControlledDelay


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def refused(delay: ControlledDelay, since: float) -> bool:
    try:
        delay.check(since)
    except Overloaded:
        return True
    return False


def test_a_burst_may_wait_longer_than_calls_in_a_standing_queue() -> None:
    clock = Clock()
    delay = ControlledDelay(0.1, 0.01, clock)
    clock.now = 100.05
    assert not refused(delay, since=100.0)
    clock.now = 100.099
    assert not refused(delay, since=100.0)
    # The queue has not been empty for longer than 100 ms: it stands.
    clock.now = 100.2
    assert refused(delay, since=100.2 - 0.011)
    assert not refused(delay, since=100.2 - 0.009)
    delay.emptied()
    assert not refused(delay, since=100.2 - 0.09)
    assert refused(delay, since=100.2 - 0.11)


def test_calls_that_take_long_may_wait_longer() -> None:
    clock = Clock()
    delay = ControlledDelay(1.0, 0.01, clock)
    for _ in range(200):
        delay.served(0.02)
    clock.now = 102.0
    assert not refused(delay, since=102.0 - 0.15)
    assert refused(delay, since=102.0 - 0.17)
    # But never longer than a burst.
    for _ in range(200):
        delay.served(5.0)
    assert refused(delay, since=102.0 - 1.1)


def test_a_refusal_says_how_long_it_waited_and_when_to_come_back() -> None:
    clock = Clock()
    delay = ControlledDelay(0.1, 0.01, clock)
    with pytest.raises(Overloaded, match=r"this request waited 250 ms; retry in 100 ms") as caught:
        delay.check(since=99.75)
    assert caught.value.retry_delay_ms == 100


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop has been working all the time."""
    monkeypatch.setattr(LoopQueue, "_idle", lambda self: False)


def queue_of(waiting_max: int = 10, clock: Callable[[], float] | None = None) -> LoopQueue:
    delay = ControlledDelay(0.1, 0.02, clock or (lambda: 0.0))
    return LoopQueue(waiting_max=waiting_max, delay=delay)


async def test_a_call_to_an_idle_loop_runs_at_once() -> None:
    queue, ran = queue_of(), []
    await asyncio.sleep(0.05)
    call = queue.run(lambda: ran.append(1))
    with pytest.raises(StopIteration):  # it ends without giving the loop a turn
        call.send(None)
    assert ran == [1]
    assert queue.quiet.is_set()


async def test_calls_to_a_busy_loop_let_others_in_and_run_in_order(busy: None) -> None:
    queue, events = queue_of(), []

    async def call(number: int, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        events.append(f"in {number}")
        await queue.run(lambda: events.append(f"run {number}"))

    await asyncio.gather(*(call(number, 3 * number) for number in range(4)))
    assert events == [*(f"in {n}" for n in range(4)), *(f"run {n}" for n in range(4))]
    assert len(queue) == 0
    assert queue.quiet.is_set()


async def test_letting_in_ends_though_calls_never_cease(
    busy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_queue, "TURNS_MAX", 5)
    queue, ran = queue_of(1_000), []
    calls = []
    first = asyncio.create_task(queue.run(lambda: ran.append("first")))
    for number in range(50):
        calls.append(asyncio.create_task(queue.run(lambda n=number: ran.append(n))))
        await asyncio.sleep(0)
        if ran:
            break
    assert ran[0] == "first"
    assert len(calls) < 20
    await asyncio.gather(first, *calls)


async def test_calls_that_waited_too_long_are_refused_and_the_others_run(busy: None) -> None:
    clock = Clock()
    queue, ran = queue_of(clock=clock), []

    async def call(number: int) -> str:
        try:
            await queue.run(lambda: ran.append(number))
        except Overloaded:
            return "refused"
        return "ran"

    loop_time = loop_queue.time.perf_counter
    started = loop_time()
    clock.now = started
    calls = [asyncio.create_task(call(number)) for number in range(3)]
    await asyncio.sleep(0)
    clock.now = started + 10.0
    assert await asyncio.gather(*calls) == ["refused"] * 3
    clock.now = loop_time()
    assert await call(7) == "ran"
    assert ran == [7]


async def test_as_many_wait_as_may(busy: None) -> None:
    queue = queue_of(waiting_max=2)
    calls = [asyncio.create_task(queue.run(lambda: "ran")) for _ in range(4)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert found[:3] == ["ran"] * 3
    assert isinstance(found[3], Overloaded)
    assert found[3].limit == "at most 2 requests waiting"


async def test_a_call_whose_caller_has_gone_is_not_run_and_errors_are_its_own(busy: None) -> None:
    queue, ran = queue_of(), []
    gone = asyncio.create_task(queue.run(lambda: ran.append("gone")))
    wrong = asyncio.create_task(queue.run(lambda: 1 / 0))
    last = asyncio.create_task(queue.run(lambda: "last"))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(ZeroDivisionError):
        await wrong
    assert await last == "last"
    assert ran == []
