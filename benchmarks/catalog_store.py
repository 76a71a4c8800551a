"""Measures the stores of the live catalogue: appends of 100 items, and reading the tail.

    python benchmarks/catalog_store.py sqlite FOLDER
    python benchmarks/catalog_store.py postgres CONNINFO

An item's payload has 350 bytes: a vector of 64 float32 and some attributes.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shortlist_server.catalog.store import (
    Append,
    AppendResult,
    CatalogStore,
    IdempotencyKey,
    ItemChange,
    StoreOptions,
)

ITEMS = 100_000
ITEMS_PER_CALL = 100
PAYLOAD_BYTES = 350
SECONDS = 4.0


def main() -> None:
    engine, place, *child = sys.argv[1:]
    if child:
        store, transactions = counted(open_store(engine, place))
        measured = load(store, int(child[0]), float(child[1]))
        print(transactions[0], *measured)
        return
    print(f"{engine}; {os.cpu_count()} cores; calls of {ITEMS_PER_CALL} items")
    print("processes  callers each  calls/s  p50 ms  p99 ms  calls a transaction")
    for processes, callers in ((1, 1), (1, 8), (4, 1), (4, 8)):
        command = [sys.executable, __file__, engine, place, str(callers), str(SECONDS)]
        children = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)
        ]
        latencies: list[float] = []
        transactions_count = 0
        for each in children:
            count, *own = each.communicate()[0].split()
            transactions_count += int(count)
            latencies += map(float, own)
        latencies.sort()
        rate = len(latencies) / SECONDS
        p50, p99 = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99))
        group = len(latencies) / transactions_count
        print(f"{processes:9} {callers:13} {rate:8.0f} {p50:7.2f} {p99:7.2f} {group:20.1f}")
    tail(open_store(engine, place))


def open_store(engine: str, place: str) -> CatalogStore:
    options = StoreOptions(lock_wait_ms=60_000)
    if engine == "sqlite":
        from shortlist_server.catalog.sqlite_store import SqliteStore

        return SqliteStore(Path(place) / "catalog.sqlite", "bench", options)
    from shortlist_server.catalog.postgres_store import PostgresStore

    return PostgresStore(place, "bench", options)


def counted(store: CatalogStore) -> tuple[CatalogStore, list[int]]:
    """Count the transactions of a store, by its group commit's calls."""
    transactions = [0]
    group_commit = store._group_commit  # type: ignore[attr-defined]
    commit = group_commit._commit

    def counting(appends: Sequence[Append]) -> Sequence[AppendResult | Exception]:
        transactions[0] += 1
        results: Sequence[AppendResult | Exception] = commit(appends)
        return results

    group_commit._commit = counting
    return store, transactions


def load(store: CatalogStore, callers: int, seconds: float) -> list[float]:
    """Return how long each call took, in milliseconds."""
    end = time.perf_counter() + seconds
    payload = os.urandom(PAYLOAD_BYTES)

    def call() -> list[float]:
        latencies = []
        while (begin := time.perf_counter()) < end:
            changes = [
                ItemChange(item_id=f"item{random.randrange(ITEMS)}", payload=payload)
                for _ in range(ITEMS_PER_CALL)
            ]
            key = IdempotencyKey(key=os.urandom(16).hex(), request_digest=payload[:32])
            store.append(
                Append(changes=changes, outcomes=bytes(ITEMS_PER_CALL), idempotency_key=key)
            ).result()
            latencies.append((time.perf_counter() - begin) * 1000)
        return latencies

    with ThreadPoolExecutor(callers) as pool:
        return [
            ms for calls in [pool.submit(call) for _ in range(callers)] for ms in calls.result()
        ]


def tail(store: CatalogStore) -> None:
    """Print what readers pay."""

    def mean_ms(turns: int, read: object) -> float:
        assert callable(read)
        begin = time.perf_counter()
        for _ in range(turns):
            read()
        return (time.perf_counter() - begin) / turns * 1000

    head = store.head()
    after = head - 10
    count = len(store.changes_since(after).changes)
    print(f"head: {mean_ms(1000, store.head):.4f} ms")
    print(f"tail of {count}: {mean_ms(50, lambda: store.changes_since(after)):.2f} ms")
    everything = mean_ms(1, lambda: store.changes_since(0))
    print(f"everything: {everything:.0f} ms for {len(store.changes_since(0).changes)}")


if __name__ == "__main__":
    main()
