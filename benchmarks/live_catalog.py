"""What changing items costs those who ask: recommendations with and without 1,000 changes a second.

    python benchmarks/live_catalog.py          (make bench-catalog)

100,000 x 64 items behind one server with an SQLite store. Requests come at random (a Poisson
process) at a share of the saturation rate; first alone, then beside calls of 100 items, half of
them new, with vectors, as many a second as asked for, first one rate and then the other. Each
acknowledged revision is looked for until the server answers from it. Writes
benchmarks/results/live_catalog.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import synthetic
from bench import closed_loop, machine
from overload import open_loop, patient
from serving import percentiles, serving
from shortlist.v1 import catalog_pb2, catalog_pb2_grpc
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/live_catalog.json"
ITEMS, DIMENSION = 100_000, 64
CALL_ITEMS = 100
TIMEOUT_S = 5.0
POLL_S = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="with changes; half without")
    parser.add_argument("--share", type=float, default=0.5, help="of the saturation rate")
    parser.add_argument("--items-per-second", type=int, default=1_000)
    arguments = parser.parse_args()
    bundle = synthetic.bundle(ITEMS, DIMENSION)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(bundle)]
        command += ["--listen", "127.0.0.1:0", "--drain-notice-ms", "0", "--log-level", "error"]
        command += ["--catalog-store", f"{folder}/catalog.sqlite"]
        with serving(command) as target:
            result = asyncio.run(
                _measure(target, arguments.seconds, arguments.share, arguments.items_per_second)
            )
    report = {"machine": machine(), **result}
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    print(f"written: {RESULT.relative_to(ROOT)}")


async def _measure(
    target: str, seconds: float, share: float, items_per_second: int
) -> dict[str, Any]:
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = RecommendationServiceStub(channel)
        catalog: Any = catalog_pb2_grpc.CatalogServiceStub(channel)

        async def ask(number: int) -> float:
            request = pb.RecommendRequest(
                query=types.Query(user=types.UserQuery(id=f"user-{number % 10_000}"))
            )
            begin = time.perf_counter()
            await stub.Recommend(request, timeout=TIMEOUT_S)
            return time.perf_counter() - begin

        patiently = patient(ask)
        await closed_loop(patiently, 4, 400)
        saturation = (await closed_loop(patiently, 16, 3_000))["per_second"]
        rate = share * saturation
        before = await open_loop(ask, rate, seconds / 2)
        stop = asyncio.Event()
        writing = asyncio.create_task(_write(catalog, items_per_second, stop))
        during = await open_loop(ask, rate, seconds)
        stop.set()
        writes = await writing
        stats = await catalog.GetCatalogStats(catalog_pb2.GetCatalogStatsRequest(), timeout=10)
        after = await open_loop(ask, rate, seconds / 2)
    return {
        "saturation": saturation,
        "offered": rate,
        "before": before,
        "during": during,
        "after": after,
        "p99_ratio": during["latency_ms"]["p99"] / before["latency_ms"]["p99"],
        "writes": writes,
        "items": stats.item_count,
        "rows_beside_the_index": stats.tail_row_count,
    }


async def _write(catalog: Any, items_per_second: int, stop: asyncio.Event) -> dict[str, Any]:
    """Write items until told to stop; each call waits for the one before."""
    draw = np.random.default_rng(5)
    acknowledged: list[float] = []
    visible: list[float] = []
    watched: list[asyncio.Task[None]] = []
    period = CALL_ITEMS / items_per_second
    begin = due = time.perf_counter()
    count = 0

    async def watch(revision: int, since: float) -> None:
        seen = 0
        while seen < revision:
            await asyncio.sleep(POLL_S)
            seen = (await catalog.GetCatalogStats(catalog_pb2.GetCatalogStatsRequest())).revision
        visible.append((time.perf_counter() - since) * 1e3)

    while not stop.is_set():
        request = catalog_pb2.UpsertItemsRequest()
        for place in range(CALL_ITEMS):
            old = place % 2
            number = int(draw.integers(0, ITEMS)) if old else count + place
            item = request.items.add(id=f"item-{number}" if old else f"new-{number}")
            item.vector.values.extend(draw.normal(size=DIMENSION).tolist())
        names = {item.id for item in request.items}
        if len(names) < CALL_ITEMS:
            continue
        sent = time.perf_counter()
        response = await catalog.UpsertItems(request, timeout=TIMEOUT_S)
        now = time.perf_counter()
        acknowledged.append((now - sent) * 1e3)
        assert not any(outcome.HasField("error") for outcome in response.outcomes)
        watched.append(asyncio.create_task(watch(response.revision, now)))
        count += CALL_ITEMS
        due += period
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    spent = time.perf_counter() - begin
    await asyncio.gather(*watched)
    return {
        "items_per_second": count / spent,
        "acknowledged_ms": {**percentiles(acknowledged), "max": max(acknowledged)},
        "visible_after_ms": {**percentiles(visible), "max": max(visible)},
    }


if __name__ == "__main__":
    main()
