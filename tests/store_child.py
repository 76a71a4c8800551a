"""Appends to a store from several threads, and tells each append that is acknowledged.

    store_child.py PLACE NAME THREADS APPENDS

PLACE is a file, or a PostgreSQL connection string. Append n of NAME puts the items `NAME/n/left`
and `NAME/n/right`, and `shared`, under the key `NAME/n`; a line `n revision` tells that it is
there.
"""

from __future__ import annotations

import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from shortlist_server.catalog.store import (
    Append,
    CatalogStore,
    IdempotencyKey,
    ItemChange,
    StoreOptions,
)

OPTIONS = StoreOptions(lock_wait_ms=60_000)


def open_place(place: str) -> CatalogStore:
    if place.startswith("/"):
        from shortlist_server.catalog.sqlite_store import SqliteStore

        return SqliteStore(Path(place), "films", OPTIONS)
    from shortlist_server.catalog.postgres_store import PostgresStore

    return PostgresStore(place, "films", OPTIONS)


def append_of(name: str, number: int) -> Append:
    payload = f"{name}/{number}".encode() * 20
    items = (f"{name}/{number}/left", "shared", f"{name}/{number}/right")
    return Append(
        changes=[ItemChange(item_id=item_id, payload=payload) for item_id in items],
        outcomes=payload,
        idempotency_key=IdempotencyKey(key=f"{name}/{number}", request_digest=b"d"),
    )


def main() -> None:
    place, name, threads, appends = sys.argv[1:]
    store = open_place(place)
    numbers = itertools.count()

    def work() -> None:
        while (number := next(numbers)) < int(appends):
            result = store.append(append_of(name, number)).result(60)
            os.write(1, f"{number} {result.revision}\n".encode())

    with ThreadPoolExecutor(int(threads)) as pool:
        for worker in [pool.submit(work) for _ in range(int(threads))]:
            worker.result()
    store.close()


if __name__ == "__main__":
    main()
