"""When changes are folded in, how a folding ends, and what is kept of it on the disk. The process
that folds is the real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from changing_world import first_items, world_of
from shortlist_server.catalog.item_state import ItemState
from shortlist_server.catalog.sqlite_store import SqliteStore
from shortlist_server.catalog.store import Append, ItemChange, StoreOptions
from shortlist_server.compacted_folders import CompactedFolders
from shortlist_server.compaction import Compactor, families
from shortlist_server.config import ServerConfig


class Host:
    """A server that serves nothing."""

    def __init__(self, folder: Path, *, rows: int = 100, busy: bool = False) -> None:
        self.folder = folder
        self.rows = rows
        self.busy = busy
        self.taken = 0
        self.revision = 0
        self.on_asked: Callable[[], None] = lambda: None

    async def pending_rows(self) -> int:
        return self.rows

    def served_folder(self) -> Path:
        return self.folder

    def is_busy(self) -> bool:
        self.on_asked()
        return self.busy

    async def take_over(self) -> int:
        self.taken += 1
        return self.revision


class Enough(Exception):
    """Ends the loop."""


def config_of(tmp_path: Path, interval_s: float = 7.0) -> ServerConfig:
    return ServerConfig(
        catalog_store=str(tmp_path / "catalog.sqlite"),
        state_dir=tmp_path / "state",
        compact_at=100,
        compact_interval_s_min=interval_s,
    )


def run(config: ServerConfig, host: Host, sleeps: int) -> tuple[Compactor, list[float]]:
    """Run until time was to pass so often; returns for how long each time."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == sleeps:
            raise Enough

    compactor = Compactor(config, host, sleep)
    with pytest.raises(Enough):
        asyncio.run(compactor.run())
    return compactor, slept


async def when(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # a process is waited for
        await asyncio.sleep(0.01)


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A bundle of which one item has changed in the store."""
    bundle = world_of(tmp_path / "world", first_items())
    with closing(SqliteStore(tmp_path / "catalog.sqlite", "tiny", StoreOptions())) as store:
        payload = ItemState(attributes={"title": "new"}).encode()
        changes = [
            ItemChange(item_id="i1", payload=payload),
            ItemChange(item_id="i2", deleted=True),
        ]
        store.append(Append(changes=changes)).result(20)
    return bundle


def test_one_that_fails_is_tried_again_later_each_time(tmp_path: Path) -> None:
    host = Host(tmp_path / "nowhere")
    compactor, slept = run(config_of(tmp_path), host, 6)
    assert slept == [7.0, 0.5, 14.0, 0.5, 28.0, 0.5]
    assert compactor.counts == {"done": 0, "failed": 3, "given_up": 0}
    assert host.taken == 0


def test_nothing_is_folded_before_it_is_time(tmp_path: Path) -> None:
    for host in (Host(tmp_path, rows=99), Host(tmp_path, busy=True)):
        compactor, slept = run(config_of(tmp_path), host, 3)
        assert slept == [0.5, 0.5, 0.5]
        assert sum(compactor.counts.values()) == 0


def test_what_is_folded_in_is_taken_over(changed: Path, tmp_path: Path) -> None:
    host = Host(changed)
    host.revision = 1
    compactor, slept = run(config_of(tmp_path), host, 1)
    assert slept == [7.0]
    assert compactor.counts["done"] == host.taken == 1
    (folder,) = (tmp_path / "state/compacted").iterdir()
    assert folder.name.endswith("-1")
    shown = {one["name"]: one["samples"] for one in families(compactor)}
    assert ["shortlist_compactions_total", {"outcome": "done"}, 1] in shown["shortlist_compactions"]
    assert shown["shortlist_compaction_seconds"][0][2] == compactor.seconds > 0


def test_what_is_not_served_in_the_end_has_failed(changed: Path, tmp_path: Path) -> None:
    host = Host(changed)  # which goes on serving revision 0
    compactor, _ = run(config_of(tmp_path), host, 1)
    assert (host.taken, compactor.counts["failed"]) == (1, 1)


def test_one_for_a_bundle_that_serves_no_more_is_given_up(changed: Path, tmp_path: Path) -> None:
    host = Host(changed)

    def switch() -> None:
        host.on_asked = lambda: setattr(host, "folder", tmp_path)  # asked again when it is made

    host.on_asked = switch
    compactor, slept = run(config_of(tmp_path), host, 1)
    assert (host.taken, compactor.counts["given_up"], slept) == (0, 1, [7.0])


def test_one_that_is_being_made_is_ended_for_a_switch(changed: Path, tmp_path: Path) -> None:
    host = Host(changed)

    async def switch() -> Compactor:
        compactor = Compactor(config_of(tmp_path), host)
        running = asyncio.create_task(compactor.run())
        await when(lambda: compactor.is_running)
        compactor.give_up()
        await when(lambda: sum(compactor.counts.values()) > 0)
        running.cancel()
        return compactor

    compactor = asyncio.run(switch())
    assert compactor.counts == {"done": 0, "failed": 0, "given_up": 1}
    assert CompactedFolders(tmp_path / "state").of("") == []


def test_folders_are_found_by_revision_and_removed_with_what_was_left(tmp_path: Path) -> None:
    folders = CompactedFolders(tmp_path)
    folders.keep_only([])  # there is none yet
    names = [folders.folder("ab" * 32, revision) for revision in (9, 10, 2)]
    other = folders.folder("cd" * 32, 11)
    left = names[0].with_name(f".{names[0].name}.writing-1")
    for folder in (*names, other, left, names[0].with_name(f"{names[0].name}x")):
        folder.mkdir(parents=True)
        (folder / "file").write_text("")
    assert folders.of("ab" * 32) == [names[1], names[0], names[2]]
    folders.keep_only([names[0]])
    assert [folder.name for folder in names[0].parent.iterdir()] == [names[0].name]
