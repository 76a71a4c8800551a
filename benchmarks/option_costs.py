"""What each option adds to a plain request, how late a call ends that cannot be answered in time,
and what a batch does to single calls: over a real socket, one caller.

    python benchmarks/option_costs.py          (part of make bench)

Every variant is asked for each user in turn, in random order, so that what else the machine does
hits all alike; the table has the medians, and the difference to the plain request's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import synthetic
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import TIMEOUT_S, percentiles, serving
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

ITEM_COUNT = 100_000
CANDIDATE_COUNT = 500
LIMIT = 20
ROUNDS = 60
LATE_CALLS = 200
BATCH_ROWS = 512
Change = dict[str, Any]


def changes(draw: np.random.Generator) -> dict[str, Change]:
    """Return what each variant sets, by name; lists come anew for each request."""

    def some(count: int) -> list[str]:
        return [f"item-{row}" for row in draw.integers(0, ITEM_COUNT, count)]

    low = int(draw.integers(0, synthetic.DRAW_COUNT * 9 // 10))
    tenth = types.RangeCondition(
        attribute="draw",
        at_least=types.Value(int64_value=low),
        below=types.Value(int64_value=low + synthetic.DRAW_COUNT // 10),
    )
    nearest = types.SourceOptions(nearest=types.NearestSource(), candidate_count=300)
    caller = types.SourceOptions(caller=types.CallerSource(item_ids=some(100)), candidate_count=100)
    recent = types.SourceOptions(recent_history=types.HistorySource(), candidate_count=100)
    return {
        "plain": {},
        "filter, 10 % match": {"filter": types.Filter(range=tenth)},
        "2 sources: nearest, caller": {"sources": [nearest, caller]},
        "3 sources: and recent history": {"sources": [nearest, caller, recent]},
        "diversity 0.3": {"selection": types.SelectionOptions(diversity=0.3)},
        "cap: 2 of a cluster": {
            "selection": types.SelectionOptions(
                caps=[types.Cap(attribute="cluster", item_count_max=2)]
            )
        },
        "3 pinned items": {
            "selection": types.SelectionOptions(
                pinned_items=[types.PinnedItem(item_id=f"item-{row}") for row in range(3)]
            )
        },
        "exploration": {
            "selection": types.SelectionOptions(
                exploration=types.Exploration(temperature=0.1, seed=7)
            )
        },
        "100 excluded ids": {"exclusions": types.Exclusions(item_ids=some(100))},
        "10,000 excluded ids": {"exclusions": types.Exclusions(item_ids=some(10_000))},
        "explain": {"explain": True},
        "debug": {"debug": True},
        "attributes: all": {"attributes": ["*"]},
    }


def measure(bundle: Path, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure options, lateness, and a batch beside single calls."""
    with served(bundle) as target:
        return asyncio.run(_measure(target, rounds))


@contextmanager
def served(bundle: Path) -> Iterator[str]:
    """Serve a bundle; yields the address."""
    command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(bundle)]
    command += ["--listen", "127.0.0.1:0", "--drain-notice-ms", "0", "--log-level", "error"]
    with serving(command) as target:
        yield target


async def _measure(target: str, rounds: int) -> dict[str, Any]:
    async with grpc.aio.insecure_channel(target) as channel:
        stub = RecommendationServiceStub(channel)
        return {
            "item_count": ITEM_COUNT,
            "candidate_count": CANDIDATE_COUNT,
            "limit": LIMIT,
            "options": await _options(stub, rounds),
            "lateness_ms": await _lateness(channel),
            "batch": await _batch(stub),
        }


def _request(user: int, change: Change) -> pb.RecommendRequest:
    # Three events, for the sources that want some.
    history = [types.HistoryEvent(item_id=f"item-{user * 3 + event}") for event in range(3)]
    return pb.RecommendRequest(
        query=types.Query(user=types.UserQuery(id=f"user-{user}", history=history)),
        limit=LIMIT,
        retrieval=types.RetrievalOptions(candidate_count=CANDIDATE_COUNT),
        **change,
    )


async def _options(stub: Any, rounds: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(11)
    whole: dict[str, list[float]] = {}
    inside: dict[str, list[float]] = {}
    for user in range(rounds):
        # "plain" twice: how far two measurements of one thing lie apart.
        variants = changes(draw) | {"plain, again": {}}
        names = list(variants)
        for number in draw.permutation(len(names)):
            name = names[number]
            request = _request(user, variants[name])
            begin = time.perf_counter()
            answer = await stub.Recommend(request, timeout=TIMEOUT_S)
            if user < rounds // 10:
                continue  # the first ones warm up
            whole.setdefault(name, []).append((time.perf_counter() - begin) * 1e3)
            spent = sum(stage.duration.ToNanoseconds() for stage in answer.info.stages)
            inside.setdefault(name, []).append(spent / 1e6)
    base, base_inside = np.median(whole["plain"]), np.median(inside["plain"])
    return [
        {
            "option": name,
            "p50_ms": float(np.median(whole[name])),
            "added_ms": float(np.median(whole[name]) - base),
            "added_in_stages_ms": float(np.median(inside[name]) - base_inside),
        }
        for name in [*changes(draw), "plain, again"]
    ]


async def _lateness(channel: grpc.aio.Channel) -> dict[str, Any]:
    """Ask for what takes several times the deadline: how long after it does the call end at the
    caller, and how long after it is the server still busy with it?
    """
    stub: Any = RecommendationServiceStub(channel)
    health: Any = health_pb2_grpc.HealthStub(channel)

    async def check() -> float:
        begin = time.perf_counter()
        await health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        return (time.perf_counter() - begin) * 1e3

    idle = float(np.median([await check() for _ in range(LATE_CALLS)]))
    late: list[float] = []
    busy: list[float] = []
    answered = 0

    async def doomed(user: int, deadline_s: float) -> None:
        nonlocal answered
        request = _request(user, {})
        request.retrieval.candidate_count = 4_096
        begin = time.perf_counter()
        try:
            await stub.Recommend(request, timeout=deadline_s)
            answered += 1
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            late.append((time.perf_counter() - begin - deadline_s) * 1e3)

    for number in range(LATE_CALLS):
        deadline_s = 0.001 * (1 + number % 3)
        call = asyncio.create_task(doomed(number, deadline_s))
        await asyncio.sleep(deadline_s)
        busy.append(max(0.0, await check() - idle))
        await call
    return {
        "calls": LATE_CALLS,
        "answered": answered,
        "caller": percentiles(late),
        "server": percentiles(busy),
    }


async def _batch(stub: Any) -> dict[str, Any]:
    """Measure single calls alone, and while a batch runs."""
    rows = pb.BatchRecommendRequest(requests=[_request(user, {}) for user in range(BATCH_ROWS)])

    async def single(user: int) -> float:
        begin = time.perf_counter()
        await stub.Recommend(_request(user, {}), timeout=TIMEOUT_S)
        return (time.perf_counter() - begin) * 1e3

    async def batch() -> float:
        begin = time.perf_counter()
        async for row in stub.BatchRecommend(rows, timeout=60):
            assert row.HasField("response"), row.error
        return time.perf_counter() - begin

    alone_s = await batch()
    alone = [await single(user) for user in range(100)]
    task = asyncio.create_task(batch())
    beside: list[float] = []
    while not task.done():
        beside.append(await single(len(beside)))
    return {
        "rows": BATCH_ROWS,
        "alone_s": alone_s,
        "single_alone_ms": percentiles(alone),
        "single_beside_ms": percentiles(beside),
        "singles_beside": len(beside),
        "beside_s": task.result(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(synthetic.bundle(ITEM_COUNT, 64)), indent=1))
