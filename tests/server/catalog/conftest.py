from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from shortlist_server.catalog.postgres_store import PostgresStore
from shortlist_server.catalog.sqlite_store import SqliteStore
from shortlist_server.catalog.store import CatalogStore, StoreOptions, WallClock


class OpenStore(Protocol):
    """Opens the store of one test: each call the same one, as another process would."""

    def __call__(
        self,
        name: str = "films",
        *,
        options: StoreOptions = ...,
        wall_clock: WallClock = ...,
    ) -> CatalogStore: ...


class WallClockOfTests:
    def __init__(self) -> None:
        self.now_ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> WallClockOfTests:
    return WallClockOfTests()


@pytest.fixture(params=["sqlite", "postgres"])
def open_store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: WallClockOfTests
) -> Iterator[OpenStore]:
    opened: list[CatalogStore] = []
    make: Callable[[str, StoreOptions, WallClock], CatalogStore] = MAKERS[request.param](
        request, tmp_path
    )

    def open_(
        name: str = "films",
        *,
        options: StoreOptions = StoreOptions(),  # noqa: B008 - frozen
        wall_clock: WallClock = clock,
    ) -> CatalogStore:
        opened.append(make(name, options, wall_clock))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


def _sqlite(
    request: pytest.FixtureRequest, folder: Path
) -> Callable[[str, StoreOptions, WallClock], CatalogStore]:
    return lambda name, options, clock: SqliteStore(
        folder / "catalog.sqlite", name, options, wall_clock=clock
    )


def _postgres(
    request: pytest.FixtureRequest, folder: Path
) -> Callable[[str, StoreOptions, WallClock], CatalogStore]:
    conninfo = request.getfixturevalue("postgres").make_database()
    return lambda name, options, clock: PostgresStore(conninfo, name, options, wall_clock=clock)


MAKERS = {"sqlite": _sqlite, "postgres": _postgres}
