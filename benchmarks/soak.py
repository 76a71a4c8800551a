"""Whether a server that works for long takes more and more: memory, open files, threads.

    python benchmarks/soak.py          (make soak)

Two workers serve 100,000 x 64 items with an SQLite store at half of the saturation rate: calls of
all kinds at random (a Poisson process), each with filters, exclusions and users of its own; some
wrong, some given up by their callers; items changed and deleted all the time; connections that
come and go. Every few seconds the sums over all processes of the server are taken. After a warm-up
of a third, the medians of the first and the last quarter of what is left are compared. Writes
benchmarks/results/soak.json, of which `report.py` makes a plot; ends with 1 where something grew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import numpy as np
import synthetic
from bench import closed_loop, machine
from memory import processes, pss_mib
from overload import open_loop, patient
from shortlist.v1 import catalog_pb2, catalog_pb2_grpc
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/soak.json"
ITEMS, DIMENSION = 100_000, 64
TIMEOUT_S = 2.0
CHANNELS = 8
LOOK_S = 5.0
CHANGE_S = 0.5
CHANGED_ITEMS = 2_000
"""Changed over and over: a catalogue that itself grows would take more memory rightly."""
WARM_UP = 1 / 3
GROWTH_MAX = {"pss_mib": 0.02, "files": 0.05, "threads": 0.1}
"""Share by which a median may be larger at the end: pages of the allocator, threads of gRPC come
and go.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=900.0)
    parser.add_argument("--share", type=float, default=0.5, help="of the saturation rate")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    bundle = synthetic.bundle(ITEMS, DIMENSION)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(bundle)]
        command += ["--listen", "127.0.0.1:0", "--drain-notice-ms", "0", "--log-level", "error"]
        command += ["--workers", str(arguments.workers)]
        command += ["--catalog-store", f"{folder}/catalog.sqlite"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            target = f"127.0.0.1:{int(server.stdout.readline().rsplit(maxsplit=1)[-1])}"
            try:
                result = asyncio.run(soak(target, server.pid, arguments.seconds, arguments.share))
            finally:
                server.terminate()
    grown = growth(result["looks"])
    report = {"machine": machine(), "workers": arguments.workers, **result, "growth": grown}
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: value for name, value in report.items() if name != "looks"}, indent=1))
    return int(any(one["share"] > GROWTH_MAX[name] for name, one in grown.items()))


def growth(looks: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Compare the first and the last quarter of what comes after the warm-up."""
    steady = looks[round(len(looks) * WARM_UP) :]
    quarter = max(1, len(steady) // 4)
    found = {}
    for name in GROWTH_MAX:
        first = median(look[name] for look in steady[:quarter])
        last = median(look[name] for look in steady[-quarter:])
        found[name] = {"first": first, "last": last, "share": last / first - 1}
    return found


async def soak(target: str, pid: int, seconds: float, share: float) -> dict[str, Any]:
    """Load a server, and look at it meanwhile."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(CHANNELS)]
    stubs: list[Any] = [RecommendationServiceStub(channel) for channel in channels]
    kinds = Kinds(stubs)

    async def ask(number: int) -> float:
        begin = time.perf_counter()
        await kinds.ask(number)
        return time.perf_counter() - begin

    patiently = patient(ask)
    await closed_loop(patiently, 4, 400)
    saturation = (await closed_loop(patiently, 16, 3_000))["per_second"]
    looks: list[dict[str, float]] = []
    beside = [
        asyncio.create_task(look(pid, looks)),
        asyncio.create_task(change_items(target)),
        asyncio.create_task(come_and_go(target)),
    ]
    found = await open_loop(ask, share * saturation, seconds)
    for task in beside:
        task.cancel()
    for end in await asyncio.gather(*beside, return_exceptions=True):
        if not isinstance(end, asyncio.CancelledError):
            raise RuntimeError("what was to go on beside the calls has ended") from end
    for channel in channels:
        await channel.close()
    return {"saturation": saturation, "offered": share * saturation, **found, "looks": looks}


class Kinds:
    """Calls of all kinds; which one depends on the number alone."""

    def __init__(self, stubs: list[Any]) -> None:
        """Take a stub for each connection."""
        self._stubs = stubs
        self._kinds: list[Callable[[Any, int], Any]] = [
            *([self._recommend] * 12),
            self._recommend_filtered,
            self._recommend_excluding,
            self._recommend_stranger,
            self._stream,
            self._batch,
            self._rank,
            self._similar,
            self._wrong,
            self._given_up,
        ]

    async def ask(self, number: int) -> None:
        """Make the call of a number."""
        stub = self._stubs[number % len(self._stubs)]
        await self._kinds[number % len(self._kinds)](stub, number)

    async def _recommend(self, stub: Any, number: int) -> None:
        await stub.Recommend(of_user(number), timeout=TIMEOUT_S)

    async def _recommend_filtered(self, stub: Any, number: int) -> None:
        request = of_user(number)
        # Another filter each time: what is remembered of filters must have an end.
        request.filter.range.attribute = "draw"
        request.filter.range.at_least.int64_value = number % synthetic.DRAW_COUNT
        await stub.Recommend(request, timeout=TIMEOUT_S)

    async def _recommend_excluding(self, stub: Any, number: int) -> None:
        request = of_user(number)
        request.exclusions.item_ids.extend(
            f"item-{(number * 17 + one) % ITEMS}" for one in range(500)
        )
        await stub.Recommend(request, timeout=TIMEOUT_S)

    async def _recommend_stranger(self, stub: Any, number: int) -> None:
        request = pb.RecommendRequest(
            query=types.Query(user=types.UserQuery(id=f"stranger-{number}"))
        )
        await stub.Recommend(request, timeout=TIMEOUT_S)

    async def _stream(self, stub: Any, number: int) -> None:
        request = pb.StreamRecommendRequest(request=of_user(number))
        request.request.selection.diversity = 0.3
        async for _ in stub.StreamRecommend(request, timeout=TIMEOUT_S):
            pass

    async def _batch(self, stub: Any, number: int) -> None:
        request = pb.BatchRecommendRequest(requests=[of_user(number + one) for one in range(3)])
        async for _ in stub.BatchRecommend(request, timeout=TIMEOUT_S):
            pass

    async def _rank(self, stub: Any, number: int) -> None:
        request = pb.RankRequest(
            query=of_user(number).query,
            item_ids=[f"item-{(number * 31 + one) % ITEMS}" for one in range(50)],
        )
        await stub.Rank(request, timeout=TIMEOUT_S)

    async def _similar(self, stub: Any, number: int) -> None:
        # One that no change deletes: see `change_items`.
        item = f"item-{CHANGED_ITEMS + number % (ITEMS - CHANGED_ITEMS)}"
        await stub.FindSimilarItems(pb.FindSimilarItemsRequest(item_id=item), timeout=TIMEOUT_S)

    async def _wrong(self, stub: Any, number: int) -> None:
        try:
            await stub.Recommend(pb.RecommendRequest(limit=-number), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise

    async def _given_up(self, stub: Any, number: int) -> None:
        call = stub.Recommend(of_user(number), timeout=TIMEOUT_S)
        await asyncio.sleep(0.001)
        call.cancel()


def of_user(number: int) -> pb.RecommendRequest:
    user = f"user-{number * 7 % synthetic.USER_COUNT}"
    return pb.RecommendRequest(
        query=types.Query(user=types.UserQuery(id=user)), attributes=["title"]
    )


async def change_items(target: str) -> None:
    """Change and delete items, the same ones again and again."""
    draw = np.random.default_rng(5)
    async with grpc.aio.insecure_channel(target) as channel:
        catalog: Any = catalog_pb2_grpc.CatalogServiceStub(channel)
        while True:
            for _ in range(4):
                request = catalog_pb2.UpsertItemsRequest()
                for number in draw.choice(CHANGED_ITEMS, 10, replace=False):
                    item = request.items.add(id=f"item-{number}")
                    item.vector.values.extend(draw.normal(size=DIMENSION).tolist())
                await _changed(catalog.UpsertItems(request, timeout=TIMEOUT_S))
                await asyncio.sleep(CHANGE_S)
            ids = [f"item-{number}" for number in draw.choice(CHANGED_ITEMS, 10, replace=False)]
            gone = catalog_pb2.DeleteItemsRequest(item_ids=ids)
            await _changed(catalog.DeleteItems(gone, timeout=TIMEOUT_S))


async def _changed(call: Any) -> None:
    # A server that is busy may refuse; what is counted here is what it takes, not what it answers.
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call


async def come_and_go(target: str) -> None:
    """Connect, ask, and hang up, twice a second."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    number = 0
    while True:
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            stub: Any = RecommendationServiceStub(channel)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await stub.Recommend(of_user(number), timeout=TIMEOUT_S)
        number += 1
        await asyncio.sleep(0.5)


async def look(pid: int, looks: list[dict[str, float]]) -> None:
    """Take the sums over a server's processes, every few seconds."""
    begin = time.perf_counter()
    while True:
        pids = processes(pid).values()
        looks.append(
            {
                "at_s": round(time.perf_counter() - begin, 1),
                "pss_mib": round(sum(pss_mib(pid).values()), 1),
                "files": sum(len(os.listdir(f"/proc/{one}/fd")) for one in pids),  # noqa: PTH208
                "threads": sum(len(os.listdir(f"/proc/{one}/task")) for one in pids),  # noqa: PTH208
            }
        )
        await asyncio.sleep(LOOK_S)


if __name__ == "__main__":
    sys.exit(main())
