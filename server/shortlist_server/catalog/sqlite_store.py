"""The catalogue's store in one SQLite file: for the workers of one machine.

The file is in WAL mode with full sync: a commit has been written to the disk and flushed when it
returns. One process writes at a time; the others wait for its lock.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from shortlist_server import fault_points
from shortlist_server.catalog.group_commit import GroupCommit
from shortlist_server.catalog.sqlite_connection import connect
from shortlist_server.catalog.store import (
    Append,
    AppendResult,
    ItemChange,
    StoreClock,
    StoredChange,
    StoreOptions,
    Tail,
    WallClock,
    latest_changes,
    replayed_result,
)
from shortlist_server.errors import (
    CatalogCorrupt,
    CatalogMismatch,
    CatalogUnavailable,
    CatalogUnsupported,
    ShortlistError,
)

APPLICATION_ID = 0x53484C54  # "SHLT", in the file's header: `file` and we tell it from others
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE catalog (
  name TEXT NOT NULL, revision INTEGER NOT NULL, clock_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL
);
CREATE TABLE items (
  item_id TEXT PRIMARY KEY, revision INTEGER NOT NULL, deleted INTEGER NOT NULL,
  payload BLOB NOT NULL, checksum INTEGER NOT NULL
);
CREATE INDEX items_by_revision ON items (revision);
CREATE TABLE idempotency_keys (
  key TEXT PRIMARY KEY, request_digest BLOB NOT NULL, revision INTEGER NOT NULL,
  outcomes BLOB NOT NULL, clock_ms INTEGER NOT NULL
);
CREATE INDEX idempotency_keys_by_clock ON idempotency_keys (clock_ms);
"""
# A table of its own: files from before it get it when they are opened, and remain of format 1.
IDENTITY = "CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL)"
PUT_ITEM = """
INSERT INTO items (item_id, revision, deleted, payload, checksum) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (item_id) DO UPDATE SET
  revision = excluded.revision, deleted = excluded.deleted,
  payload = excluded.payload, checksum = excluded.checksum
"""
UNAVAILABLE = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file or its disk is read-only",
    sqlite3.SQLITE_IOERR: "its disk failed to read or write",
    sqlite3.SQLITE_BUSY: "another process has held its lock for too long",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_PERM: "its file cannot be opened",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_PROTOCOL: "another process has held its lock for too long",
}
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def wall_clock_ms() -> int:
    """Return the wall clock's time in milliseconds."""
    return time.time_ns() // 1_000_000


class SqliteStore:
    """Implements `store.CatalogStore`."""

    def __init__(
        self,
        path: Path,
        name: str,
        options: StoreOptions,
        *,
        wall_clock: WallClock = wall_clock_ms,
    ) -> None:
        """Open the store of a catalogue; make it if there is no file.

        Args:
            path: The file. SQLite puts two more beside it, `-wal` and `-shm`: they belong to it.
            name: Name of the catalogue, which is the bundle's.
            options: Bounds.
            wall_clock: Where idempotency keys get their age from.

        Raises:
            CatalogMismatch: The file is another catalogue's, or none of ours.
            CatalogUnsupported: A later version of Shortlist wrote it.
            CatalogCorrupt: It is damaged.
            CatalogUnavailable: It cannot be read or written.
        """
        self._path = path
        self._options = options
        self._wall_clock = wall_clock
        with self._told():
            with self._connection(create=True) as connection:
                self._prepare(connection, name)
                self.identity = _identity(connection)
            stat = path.stat()
        self._file = (stat.st_dev, stat.st_ino)
        self._reader: sqlite3.Connection | None = None
        self._reading = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._group_commit = GroupCommit(self._commit, options)
        self._closed = False

    def append(self, append: Append) -> Future[AppendResult]:
        """Apply changes; see `CatalogStore.append`."""
        return self._group_commit.submit(append)

    def head(self) -> int:
        """Return the latest revision."""
        with self._reads() as connection:
            return _head(connection)

    def changes_since(self, revision: int, *, limit: int | None = None) -> Tail:
        """Return the changes after a revision; see `CatalogStore.changes_since`."""
        with self._reads() as connection:
            connection.execute("BEGIN")  # the statements below see one point in time
            try:
                head = last = _head(connection)
                if limit is not None:
                    row = connection.execute(
                        "SELECT revision FROM items WHERE revision > ? ORDER BY revision "
                        "LIMIT 1 OFFSET ?",
                        (revision, limit - 1),
                    ).fetchone()
                    last = row[0] if row else head
                rows = connection.execute(
                    "SELECT item_id, revision, deleted, payload, checksum FROM items "
                    "WHERE revision > ? AND revision <= ? ORDER BY revision",
                    (revision, last),
                ).fetchall()
            finally:
                connection.execute("ROLLBACK")
        changes = tuple(self._checked(*row) for row in rows)
        return Tail(changes=changes, revision=max(last, revision), complete=last == head)

    def close(self) -> None:
        """Apply what waits, and close the file. May be called again."""
        self._group_commit.close()
        with self._reading:
            self._closed = True
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    def _commit(self, appends: Sequence[Append]) -> list[AppendResult | Exception]:
        """Apply appends in one transaction; called by the group's thread only."""
        with self._told():
            self._check_file()
            if self._writer is None:
                self._writer = self._connect(create=False)
            try:
                return self._transaction(self._writer, appends)
            except BaseException:
                # Whatever state it is in: closing rolls back, and the next group opens anew.
                self._writer.close()
                self._writer = None
                raise

    def _transaction(
        self, connection: sqlite3.Connection, appends: Sequence[Append]
    ) -> list[AppendResult | Exception]:
        connection.execute("BEGIN IMMEDIATE")
        fault_points.hit("append.begin")
        revision, *times = connection.execute(
            "SELECT revision, clock_ms, wall_ms FROM catalog"
        ).fetchone()
        clock = StoreClock(time_ms=times[0], wall_ms=times[1]).at(self._wall_clock())
        results: list[AppendResult | Exception] = []
        for append in appends:
            connection.execute("SAVEPOINT append")
            try:
                result = _apply(connection, append, revision + 1, clock.time_ms)
                revision = max(revision, result.revision)
                results.append(result)
            except (ShortlistError, ValueError, OverflowError, sqlite3.InterfaceError) as error:
                # This append's own fault; the disk's faults end the transaction.
                connection.execute("ROLLBACK TO append")
                results.append(error)
            connection.execute("RELEASE append")
        connection.execute("DELETE FROM idempotency_keys WHERE clock_ms < ?", (clock.expired_ms,))
        connection.execute(
            "UPDATE catalog SET revision = ?, clock_ms = ?, wall_ms = ?",
            (revision, clock.time_ms, clock.wall_ms),
        )
        fault_points.hit("append.before_commit")
        connection.execute("COMMIT")
        fault_points.hit("append.after_commit")
        return results

    def _prepare(self, connection: sqlite3.Connection, name: str) -> None:
        """Make the tables in a new file; check those of an old one."""
        tables, application_id = _made_of(connection)
        if tables == 0 and application_id == 0:
            # Processes that start together come one by one; later ones need no lock.
            connection.execute("BEGIN IMMEDIATE")
            tables, application_id = _made_of(connection)
            if tables == 0 and application_id == 0:
                self._make(connection, name)
                connection.execute("COMMIT")
                return
            connection.execute("ROLLBACK")
        if application_id != APPLICATION_ID:
            raise CatalogMismatch(
                f"{self._path}: expected a catalogue's store, got an SQLite file of another "
                "program; name another file"
            )
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise CatalogUnsupported(
                f"{self._path}: expected format {SCHEMA_VERSION}, got {version}; a later version "
                "of Shortlist wrote it: start that one"
            )
        if self._path.stat().st_size <= self._options.check_bytes_max:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise CatalogCorrupt(self._damage(found))
        rows = connection.execute("SELECT name FROM catalog").fetchall()
        if len(rows) != 1:
            raise CatalogCorrupt(self._damage(f"table catalog has {len(rows)} rows, not one"))
        if rows[0][0] != name:
            raise CatalogMismatch(
                f"{self._path}: expected the store of catalogue {name!r}, got that of "
                f"{rows[0][0]!r}; name another file, or the bundle that it belongs to"
            )

    def _make(self, connection: sqlite3.Connection, name: str) -> None:
        """Make the tables."""
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO catalog VALUES (?, 0, 0, ?)", (name, self._wall_clock()))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _reads(self) -> Iterator[sqlite3.Connection]:
        with self._reading, self._told():
            if self._closed:
                raise CatalogUnavailable("it is closed")
            if self._reader is None:
                self._reader = self._connect(create=False)
            try:
                yield self._reader
            except BaseException:
                self._reader.close()
                self._reader = None
                raise

    @contextmanager
    def _connection(self, *, create: bool) -> Iterator[sqlite3.Connection]:
        connection = self._connect(create=create)
        try:
            yield connection
        finally:
            connection.close()

    def _connect(self, *, create: bool) -> sqlite3.Connection:
        return connect(self._path, create=create, lock_wait_ms=self._options.lock_wait_ms)

    def _check_file(self) -> None:
        """Writing on in a file that was deleted or replaced would lose what is acknowledged."""
        try:
            stat = self._path.stat()
        except OSError as error:
            raise CatalogUnavailable("its file is gone") from error
        if (stat.st_dev, stat.st_ino) != self._file:
            raise CatalogUnavailable("its file was replaced; restart the server")

    def _checked(
        self, item_id: str, revision: int, deleted: int, payload: bytes, checksum: int
    ) -> StoredChange:
        # SQLite has no checksums: a byte of a payload that the disk has changed it would not see.
        if _checksum(item_id, revision, deleted, payload) != checksum:
            raise CatalogCorrupt(self._damage(f"item {item_id!r} is not what was written"))
        return StoredChange(
            item_id=item_id, revision=revision, deleted=bool(deleted), payload=payload
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite raises into what is wrong."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its extension
            if code in DAMAGED:
                raise CatalogCorrupt(self._damage(str(error))) from error
            if code in UNAVAILABLE:
                raise CatalogUnavailable(UNAVAILABLE[code]) from error
            raise
        except OSError as error:
            raise CatalogUnavailable(UNAVAILABLE[sqlite3.SQLITE_CANTOPEN]) from error

    def _damage(self, found: str) -> str:
        found = " ".join(found.removeprefix("*** in database main ***").split())
        return (
            f"{self._path}: expected a sound SQLite file, got a damaged one ({found}); stop the "
            "servers that use it, then put back a backup, or save what can be read with "
            f"`sqlite3 {self._path.name} .recover`"
        )


def _made_of(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the number of tables, and whose file it is; both 0 in a new one."""
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    return int(tables), int(connection.execute("PRAGMA application_id").fetchone()[0])


def _identity(connection: sqlite3.Connection) -> str:
    """Return what tells this store from others; make it where there is none."""
    found = "SELECT id FROM identity"
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'identity'").fetchone():
        return str(connection.execute(found).fetchone()[0])
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(IDENTITY)
    connection.execute(
        "INSERT INTO identity SELECT ? WHERE NOT EXISTS (SELECT 1 FROM identity)",
        (secrets.token_hex(16),),
    )
    identity = str(connection.execute(found).fetchone()[0])
    connection.execute("COMMIT")
    return identity


def _apply(
    connection: sqlite3.Connection, append: Append, revision: int, clock_ms: int
) -> AppendResult:
    key = append.idempotency_key
    if key is not None:
        earlier = connection.execute(
            "SELECT request_digest, revision, outcomes FROM idempotency_keys WHERE key = ?",
            (key.key,),
        ).fetchone()
        if earlier:
            return replayed_result(key, *earlier)
        connection.execute(
            "INSERT INTO idempotency_keys VALUES (?, ?, ?, ?, ?)",
            (key.key, key.request_digest, revision, append.outcomes, clock_ms),
        )
    connection.executemany(
        PUT_ITEM, [_row(change, revision) for change in latest_changes(append.changes)]
    )
    return AppendResult(revision=revision, outcomes=append.outcomes, replayed=False)


def _row(change: ItemChange, revision: int) -> tuple[str, int, int, bytes, int]:
    deleted = int(change.deleted)
    checksum = _checksum(change.item_id, revision, deleted, change.payload)
    return change.item_id, revision, deleted, change.payload, checksum


def _checksum(item_id: str, revision: int, deleted: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(f"{revision} {deleted} {item_id}".encode()))


def _head(connection: sqlite3.Connection) -> int:
    row: tuple[int] = connection.execute("SELECT revision FROM catalog").fetchone()
    return row[0]
