"""What changing items costs those who ask: recommendations with and without 1,000 changes a second.

    python benchmarks/live_catalog.py          (make bench-catalog)

100,000 x 64 items behind one server with an SQLite store. Requests come at random (a Poisson
process) at a share of the saturation rate; first alone, then beside calls of 100 items, half of
them new, with vectors or with features that the item tower embeds, as many a second as asked for,
then alone again. Each acknowledged revision is looked for until every connection is answered from
it. Writes benchmarks/results/live_catalog.json.
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
POLL_S = 0.02
CHANNELS = 4
STATS = catalog_pb2.GetCatalogStatsRequest()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="with changes; half without")
    parser.add_argument("--share", type=float, default=0.5, help="of the saturation rate")
    parser.add_argument("--items-per-second", type=int, default=1_000)
    parser.add_argument("--embedded", action="store_true", help="send features, no vectors")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument(
        "--compact-at", type=int, help="fold changes into the index from so many rows on"
    )
    arguments = parser.parse_args()
    bundle = synthetic.bundle(ITEMS, DIMENSION)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(bundle)]
        command += ["--listen", "127.0.0.1:0", "--drain-notice-ms", "0", "--log-level", "error"]
        command += ["--catalog-store", f"{folder}/catalog.sqlite"]
        command += ["--workers", str(arguments.workers)]
        if arguments.compact_at is not None:
            command += ["--state-dir", f"{folder}/state"]
            command += ["--compact-at", str(arguments.compact_at)]
        with serving(command) as target:
            result = asyncio.run(_measure(target, arguments))
    report = {"machine": machine(), **vars(arguments), **result}
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    print(f"written: {RESULT.relative_to(ROOT)}")


async def _measure(target: str, arguments: argparse.Namespace) -> dict[str, Any]:
    # Several connections, so that all workers are asked.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(CHANNELS)]
    stubs: list[Any] = [RecommendationServiceStub(channel) for channel in channels]

    async def ask(number: int) -> float:
        request = pb.RecommendRequest(
            query=types.Query(user=types.UserQuery(id=f"user-{number % 10_000}"))
        )
        begin = time.perf_counter()
        await stubs[number % CHANNELS].Recommend(request, timeout=TIMEOUT_S)
        return time.perf_counter() - begin

    patiently, seconds = patient(ask), arguments.seconds
    await closed_loop(patiently, 4, 400)
    saturation = (await closed_loop(patiently, 16, 3_000))["per_second"]
    rate = arguments.share * saturation
    before = await open_loop(ask, rate, seconds / 2)
    writer = Writer(channels, arguments.items_per_second, embedded=arguments.embedded)
    writing = asyncio.create_task(writer.run())
    during = await open_loop(ask, rate, seconds)
    writer.stopped = True
    writes = await writing
    stats = await writer.catalogs[0].GetCatalogStats(STATS, timeout=10)
    after = await open_loop(ask, rate, seconds / 2)
    for channel in channels:
        await channel.close()
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


class Writer:
    """Writes items at a rate, and looks for what was acknowledged on all connections."""

    def __init__(
        self,
        channels: list[grpc.aio.Channel],
        items_per_second: int,
        *,
        embedded: bool,
        items: int = ITEMS,
    ) -> None:
        """Take the connections, the rate, whether the server is to embed the items, and how many
        the bundle has.
        """
        self.catalogs: list[Any] = [
            catalog_pb2_grpc.CatalogServiceStub(channel) for channel in channels
        ]
        self.stopped = False
        self._all_written = False
        self._period = CALL_ITEMS / items_per_second
        self._embedded = embedded
        self._items_count = items
        self._draw = np.random.default_rng(5)
        self.new_count = 0
        self._awaited: dict[int, float] = {}
        """When each revision was acknowledged that has not been seen everywhere."""
        self._visible_ms: list[float] = []

    async def run(self) -> dict[str, Any]:
        """Write until told to stop, each call after the one before; return how long it took."""
        acknowledged: list[float] = []
        watching = asyncio.create_task(self._watch())
        begin = due = time.perf_counter()
        while not self.stopped:
            request = self._items()
            sent = time.perf_counter()
            response = await self.catalogs[0].UpsertItems(request, timeout=TIMEOUT_S)
            now = time.perf_counter()
            acknowledged.append((now - sent) * 1e3)
            assert not any(outcome.HasField("error") for outcome in response.outcomes)
            self._awaited[response.revision] = now
            due += self._period
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        spent = time.perf_counter() - begin
        # Not when it is told to stop: a call may be under way then.
        self._all_written = True
        await watching
        return {
            "calls": len(acknowledged),
            "calls_seen": len(self._visible_ms),
            "items_per_second": len(acknowledged) * CALL_ITEMS / spent,
            "acknowledged_ms": {**percentiles(acknowledged), "max": max(acknowledged)},
            "visible_after_ms": {**percentiles(self._visible_ms), "max": max(self._visible_ms)},
        }

    def _items(self) -> catalog_pb2.UpsertItemsRequest:
        """Return items of which every other is new."""
        request = catalog_pb2.UpsertItemsRequest()
        old = self._draw.choice(self._items_count, CALL_ITEMS // 2, replace=False)
        ids = [f"item-{number}" for number in old]
        ids += [f"new-{self.new_count + place}" for place in range(CALL_ITEMS // 2)]
        self.new_count += CALL_ITEMS // 2
        for item_id in ids:
            item = request.items.add(id=item_id)
            if self._embedded:
                cluster = int(self._draw.integers(0, synthetic.CLUSTER_COUNT))
                item.attributes["cluster"].int64_value = cluster
            else:
                item.vector.values.extend(self._draw.normal(size=DIMENSION).tolist())
        return request

    async def _watch(self) -> None:
        while not self._all_written or self._awaited:
            await asyncio.sleep(POLL_S)
            answers = await asyncio.gather(
                *(catalog.GetCatalogStats(STATS, timeout=TIMEOUT_S) for catalog in self.catalogs)
            )
            seen, now = min(answer.revision for answer in answers), time.perf_counter()
            for revision in [one for one in self._awaited if one <= seen]:
                self._visible_ms.append((now - self._awaited.pop(revision)) * 1e3)


if __name__ == "__main__":
    main()
