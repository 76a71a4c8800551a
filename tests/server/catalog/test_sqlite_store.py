"""What happens to the SQLite file, and to its disk."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from shortlist_server.catalog.sqlite_store import SqliteStore
from shortlist_server.catalog.store import Append, IdempotencyKey, ItemChange, StoreOptions
from shortlist_server.errors import (
    CatalogCorrupt,
    CatalogMismatch,
    CatalogUnavailable,
    CatalogUnsupported,
)


def put(*item_ids: str, payload: bytes = b"x", key: str | None = None) -> Append:
    return Append(
        changes=[ItemChange(item_id=item_id, payload=payload) for item_id in item_ids],
        idempotency_key=IdempotencyKey(key=key, request_digest=b"d") if key else None,
    )


def open_(path: Path, options: StoreOptions | None = None) -> SqliteStore:
    return SqliteStore(path, "films", options or StoreOptions())


def ids(store: SqliteStore) -> set[str]:
    return {each.item_id for each in store.changes_since(0).changes}


def failed(store: SqliteStore, append: Append) -> CatalogUnavailable:
    error = store.append(append).exception(30)
    assert isinstance(error, CatalogUnavailable), error
    return error


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def filled(path: Path) -> Path:
    with closing(open_(path)) as store:
        for number in range(20):
            payload = f"payload {number:03} ".encode() * 40
            appended = put(*(f"{number:03}-{item}" for item in range(20)), payload=payload)
            store.append(appended).result(20)
    return path


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill_disk(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)) == 4096:
            pass


def test_commits_are_flushed_to_the_disk(path: Path) -> None:
    with closing(open_(path)) as store:
        store.append(put("a")).result(20)
        assert store._writer is not None
        modes = [
            store._writer.execute(f"PRAGMA {pragma}").fetchone()[0]
            for pragma in ("journal_mode", "synchronous")
        ]
    assert modes == ["wal", 2]


def test_a_full_disk_fails_whole_appends_and_is_survived(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, closing(open_(disk / "catalog.sqlite")) as store:
        store.append(put("a", "b")).result(20)
        ballast = disk / "ballast"
        fill_disk(ballast)
        error = failed(store, put("c", *(f"c{n}" for n in range(50)), payload=bytes(9000), key="k"))
        assert error.problem == "the disk is full"
        assert str(disk) not in str(error)
        assert ids(store) == {"a", "b"}
        ballast.unlink()
        result = store.append(put("c", "d", key="k")).result(20)
        assert not result.replayed
        assert ids(store) == {"a", "b", "c", "d"}


def test_a_file_that_may_not_grow_fails_whole_appends_and_is_survived(path: Path) -> None:
    with closing(open_(path)) as store:
        store.append(put("a")).result(20)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        try:
            error = failed(store, put("b", "c", payload=bytes(200_000)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert error.problem == "its disk failed to read or write"
        assert ids(store) == {"a"}
        store.append(put("b", "c", payload=bytes(200_000))).result(20)
        assert ids(store) == {"a", "b", "c"}


def test_a_disk_that_becomes_read_only_is_survived(tmp_path: Path) -> None:
    # A bind of its own cannot become read-only while a file is open for writing: the state that a
    # failing disk is put in is reached by opening after it, as the store does after any failure.
    with small_disk(tmp_path / "disk") as disk:
        with closing(open_(disk / "catalog.sqlite")) as store:
            store.append(put("a")).result(20)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(CatalogUnavailable, match=r"read-only|cannot be opened"):
            open_(disk / "catalog.sqlite")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        with closing(open_(disk / "catalog.sqlite")) as store:
            store.append(put("b")).result(20)
            assert ids(store) == {"a", "b"}


def test_those_who_open_a_new_file_together_all_can(tmp_path: Path) -> None:
    # SQLite lets one of them change the mode of the file, and refuses the others at once.
    together = threading.Barrier(6)

    def open_and_close(path: Path) -> None:
        together.wait()
        open_(path).close()

    with ThreadPoolExecutor(6) as pool:
        for number in range(40):
            list(pool.map(open_and_close, [tmp_path / f"{number}.sqlite"] * 6))


def test_a_lock_held_too_long_is_told_and_outlived(path: Path) -> None:
    with closing(open_(path, StoreOptions(lock_wait_ms=50))) as store:
        store.append(put("a")).result(20)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert "lock for too long" in failed(store, put("b")).problem
            assert ids(store) == {"a"}
            other.execute("ROLLBACK")
        store.append(put("b")).result(20)
        assert ids(store) == {"a", "b"}


def test_a_file_that_is_deleted_or_replaced_takes_no_appends(filled: Path) -> None:
    with closing(open_(filled)) as store:
        copy = filled.with_name("copy")
        shutil.copy(filled, copy)
        moved = filled.rename(filled.with_name("moved"))
        assert failed(store, put("a")).problem == "its file is gone"
        copy.rename(filled)
        assert "replaced" in failed(store, put("a")).problem
        moved.rename(filled)
        store.append(put("a")).result(20)
        assert "a" in ids(store)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailable, match="cannot be opened"):
        open_(tmp_path / "missing" / "catalog.sqlite")


def test_a_file_of_something_else_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (a)")
    before = path.read_bytes()[100:]
    with pytest.raises(CatalogMismatch, match="another program"):
        open_(path)
    assert path.read_bytes()[100:] == before
    path.write_text("a text, " * 2000)
    with pytest.raises(CatalogCorrupt, match="not a database"):
        open_(path)


def test_a_later_format_is_refused_by_name(filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(CatalogUnsupported, match=r"expected format 1, got 2"):
        open_(filled)


@pytest.mark.parametrize("page", [0, 1, 2, 4, 8])
def test_a_damaged_page_is_refused_when_opened(filled: Path, page: int) -> None:
    content = bytearray(filled.read_bytes())
    start = page * 4096 + (0 if page else 100)
    content[start : start + 64] = b"\xa5" * 64
    filled.write_bytes(content)
    with pytest.raises(CatalogCorrupt, match=r"catalog\.sqlite: .*backup"):
        open_(filled)


def test_a_file_cut_short_is_refused_when_opened(filled: Path) -> None:
    os.truncate(filled, filled.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(CatalogCorrupt, match=r"catalog\.sqlite"):
        open_(filled)


def test_a_changed_byte_of_a_payload_is_never_served(filled: Path) -> None:
    content = bytearray(filled.read_bytes())
    content[content.index(b"payload 007")] ^= 1
    filled.write_bytes(content)
    # SQLite's own check sees nothing; what is read is compared with its checksum.
    with closing(open_(filled)) as store, pytest.raises(CatalogCorrupt, match="item '007-"):
        store.changes_since(0)


def test_a_file_over_the_limit_is_opened_unchecked(filled: Path) -> None:
    content = bytearray(filled.read_bytes())
    content[9 * 4096 : 9 * 4096 + 64] = b"\xa5" * 64
    filled.write_bytes(content)
    with (
        closing(open_(filled, StoreOptions(check_bytes_max=0))) as store,
        pytest.raises(CatalogCorrupt),
    ):
        store.changes_since(0)


def test_a_file_from_before_identities_gets_one_and_another_file_another(path: Path) -> None:
    other_path = path.with_name("other.sqlite")
    with closing(open_(path)) as one, closing(open_(other_path)) as other:
        first = one.identity
        assert first != other.identity
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE identity")
    with closing(open_(path)) as again:
        assert again.identity not in ("", first)
        with closing(open_(path)) as once_more:
            assert once_more.identity == again.identity
