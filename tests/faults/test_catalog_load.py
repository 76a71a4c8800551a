"""Many items a second change while others ask: what is acknowledged is seen by every worker."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from benchmark_modules import benchmark
from serving_process import ServingProcess
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

FULL = os.environ.get("SHORTLIST_FAULTS") == "full"
ITEMS, SECONDS = (100_000, 60.0) if FULL else (5_000, 5.0)
PER_SECOND = 1_000
ASKED_PER_SECOND = 20
CHANNELS = 4


@pytest.fixture(scope="module")
def live_catalog() -> Any:
    """The benchmark."""
    return benchmark("live_catalog")


@pytest.fixture(scope="module")
def bundle(live_catalog: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "bundle"
    live_catalog.synthetic.build(folder, items=ITEMS, dimension=live_catalog.DIMENSION)
    return folder


async def ask(channels: list[grpc.aio.Channel], stopped: asyncio.Event) -> Counter[str]:
    """Recommend at a rate until told to stop; returns how the calls ended."""
    ends: Counter[str] = Counter()
    stubs: list[Any] = [RecommendationServiceStub(channel) for channel in channels]
    number = 0
    while not stopped.is_set():
        number += 1
        query = types.Query(user=types.UserQuery(id=f"user-{number % 1_000}"))
        try:
            request = pb.RecommendRequest(query=query, limit=20)
            answer = await stubs[number % CHANNELS].Recommend(request, timeout=60)
            assert len(answer.items) == 20
            ends["OK"] += 1
        except grpc.aio.AioRpcError as error:
            ends[f"{error.code().name}: {error.details()}"] += 1
        await asyncio.sleep(1 / ASKED_PER_SECOND)
    return ends


@pytest.mark.parametrize("embedded", [False, True], ids=["vectors", "features"])
async def test_every_item_of_many_a_second_is_seen_by_all_workers(
    live_catalog: Any,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    embedded: bool,
) -> None:
    # However busy the machine is: times are printed, and counts are asserted.
    monkeypatch.setattr(live_catalog, "TIMEOUT_S", 60.0)
    patience = ("--wait-ms-max", "60000", "--wait-ms-standing", "60000")
    store = ("--catalog-store", tmp_path / "catalog.sqlite", "--workers", "2")
    options = [("grpc.use_local_subchannel_pool", 1)]
    per_second = PER_SECOND // 2 if embedded else PER_SECOND
    with ServingProcess(bundle, *store, *patience, "--log-level", "error") as server:
        channels = [grpc.aio.insecure_channel(server.target, options) for _ in range(CHANNELS)]
        writer = live_catalog.Writer(channels, per_second, embedded=embedded, items=ITEMS)
        stopped = asyncio.Event()
        asking = asyncio.create_task(ask(channels, stopped))
        writing = asyncio.create_task(writer.run())
        await asyncio.sleep(SECONDS)
        writer.stopped = True
        writes = await writing
        stopped.set()
        ends = await asking
        stats = await asyncio.gather(
            *(
                catalog.GetCatalogStats(live_catalog.STATS, timeout=60)
                for catalog in writer.catalogs
            )
        )
        for channel in channels:
            await channel.close()
    print(
        f"{writes['calls']} calls of {live_catalog.CALL_ITEMS} items, "
        f"{'features' if embedded else 'vectors'}, {writes['items_per_second']:.0f} items/s: "
        f"{writes['calls_seen']} seen by all, after p50 {writes['visible_after_ms']['p50']:.0f}, "
        f"p99 {writes['visible_after_ms']['p99']:.0f} ms; {dict(ends)} beside"
    )
    assert writes["calls"] == writes["calls_seen"] > 0
    assert {one.item_count for one in stats} == {ITEMS + writer.new_count}
    assert ends.keys() == {"OK"}
