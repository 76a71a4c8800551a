from __future__ import annotations

import asyncio
import threading

import pytest
from shortlist_server.errors import Overloaded, ShuttingDown
from shortlist_server.runtime.compute import ComputePool


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
    assert caught.value.waiting_max == 1
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
