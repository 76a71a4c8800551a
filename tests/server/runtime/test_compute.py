from __future__ import annotations

import asyncio
import threading

import pytest
from shortlist_server.errors import Overloaded, ShuttingDown
from shortlist_server.runtime import compute
from shortlist_server.runtime.compute import ComputePool
from shortlist_server.runtime.loop_queue import LoopQueue


async def test_result_and_error_of_a_call_come_back() -> None:
    pool = ComputePool(threads=1, waiting_max=0)
    assert await pool.run(lambda x, y: x + y, 1, y=2) == 3
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 / 0)
    pool.close()


async def test_calls_beyond_the_bound_are_refused_and_then_admitted_again() -> None:
    pool = ComputePool(threads=1, waiting_max=1)
    gate = threading.Event()
    running = [asyncio.create_task(pool.run(gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await pool.run(lambda: None)
    assert caught.value.limit == "at most 1 requests waiting"
    gate.set()
    await asyncio.gather(*running)
    assert await pool.run(lambda: "again") == "again"
    pool.close()


async def test_call_whose_caller_has_gone_is_not_run() -> None:
    pool = ComputePool(threads=1, waiting_max=5)
    gate, ran = threading.Event(), []
    first = asyncio.create_task(pool.run(gate.wait))
    await asyncio.sleep(0)
    second = asyncio.create_task(pool.run(ran.append, "second"))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    await first
    await pool.run(ran.append, "third")
    assert ran == ["third"]
    pool.close()


async def test_closed_pool_takes_no_calls() -> None:
    pool = ComputePool(threads=1, waiting_max=0)
    pool.close()
    with pytest.raises(ShuttingDown):
        await pool.run(lambda: None)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("threads", [0, 2])
async def test_row_of_a_batch_stands_back_for_calls_on_their_way_to_the_funnel(
    threads: int,
) -> None:
    pool, events = ComputePool(threads=threads, waiting_max=5), []

    async def call() -> None:
        await turns(compute.LOOP_TURNS - 2)  # as many as from the socket to here
        await pool.run(events.append, "call")

    row = asyncio.create_task(pool.run_behind(events.append, "row"))
    await asyncio.gather(call(), row)
    assert events == ["call", "row"]
    pool.close()


async def test_row_of_a_batch_waits_until_no_single_call_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compute, "BEHIND_S_MAX", 60)
    pool, gate, events = ComputePool(threads=2, waiting_max=5), threading.Event(), []

    def call() -> None:
        assert gate.wait(timeout=20)
        events.append("call")

    calls = [asyncio.create_task(pool.run(call)) for _ in range(3)]
    await turns(1)
    row = asyncio.create_task(pool.run_behind(events.append, "row"))
    await turns(50)
    assert events == []
    gate.set()
    await asyncio.gather(*calls, row)
    assert events == ["call", "call", "call", "row"]
    pool.close()


async def test_row_of_a_batch_is_not_starved_by_single_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compute, "BEHIND_S_MAX", 0)
    pool, gate, events = ComputePool(threads=2, waiting_max=5), threading.Event(), []
    call = asyncio.create_task(pool.run(gate.wait))
    await turns(1)
    await pool.run_behind(events.append, "row")
    assert events == ["row"]
    gate.set()
    await call
    pool.close()


async def test_rows_are_no_calls_that_other_rows_stand_back_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compute, "BEHIND_S_MAX", 60)
    pool, gate, ran = ComputePool(threads=2, waiting_max=0), threading.Event(), []
    first = asyncio.create_task(pool.run_behind(gate.wait))
    await turns(compute.LOOP_TURNS + 2)
    await pool.run_behind(ran.append, "second")
    # Nor do they take the place of a call.
    await pool.run(ran.append, "call")
    assert ran == ["second", "call"]
    gate.set()
    await first
    pool.close()


async def test_closed_pool_takes_no_rows() -> None:
    for threads in (0, 1):
        pool = ComputePool(threads=threads, waiting_max=0)
        pool.close()
        with pytest.raises(ShuttingDown):
            await pool.run_behind(lambda: None)
        with pytest.raises(ShuttingDown):
            await pool.run_waiting(lambda: None)


async def test_call_that_waits_does_not_stop_the_event_loop() -> None:
    pool, gate = ComputePool(threads=0, waiting_max=1), threading.Event()
    waiting = asyncio.create_task(pool.of(waits=True)(gate.wait))
    await turns(3)
    assert await pool.of(waits=False)(lambda: "meanwhile") == "meanwhile"
    gate.set()
    assert await waiting
    pool.close()


async def test_row_that_waits_does_not_stop_the_event_loop() -> None:
    pool, gate = ComputePool(threads=0, waiting_max=0), threading.Event()
    waiting = asyncio.create_task(pool.of(waits=True, behind=True)(gate.wait))
    await turns(compute.LOOP_TURNS + 2)
    assert await pool.of(waits=False)(lambda: "meanwhile") == "meanwhile"
    assert await pool.of(waits=False, behind=True)(lambda: "behind") == "behind"
    gate.set()
    assert await waiting
    pool.close()


async def test_call_that_waited_too_long_for_a_thread_is_refused() -> None:
    pool, gate, ran = ComputePool(threads=1, waiting_max=5, wait_s_max=0.01), threading.Event(), []
    first = asyncio.create_task(pool.run(gate.wait))
    await asyncio.sleep(0)
    second = asyncio.create_task(pool.run(ran.append, "second"))
    await asyncio.sleep(0.05)
    gate.set()
    assert await first
    with pytest.raises(Overloaded, match="this request waited"):
        await second
    assert ran == []
    await pool.run(ran.append, "third")
    assert ran == ["third"]
    pool.close()


async def test_row_of_a_batch_waits_for_calls_that_wait_for_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LoopQueue, "_idle", lambda self: False)
    pool, events = ComputePool(threads=0, waiting_max=50), []
    calls = [asyncio.create_task(pool.run(events.append, number)) for number in range(20)]
    await asyncio.sleep(0)
    row = asyncio.create_task(pool.run_behind(events.append, "row"))
    await asyncio.gather(row, *calls)
    assert events == [*range(20), "row"]
    pool.close()
