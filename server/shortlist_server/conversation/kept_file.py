"""Conversations that the workers of one machine keep together, in an SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shortlist_server.catalog.sqlite_connection import use_wal
from shortlist_server.conversation.kept import KeptOptions
from shortlist_server.errors import ConfigError

FILE = "conversations.sqlite"
APPLICATION_ID = 0x53484C43  # "SHLC", in the file's header: `file` and we tell it from others
SCHEMA_VERSION = 1
LOCK_WAIT_S = 5.0
"""Longest wait for another process that writes; each writes for a millisecond or so."""
SCHEMA = (
    """CREATE TABLE kept (
      id TEXT PRIMARY KEY, owner TEXT NOT NULL, state BLOB NOT NULL, expires REAL NOT NULL
    )""",
    "CREATE INDEX kept_by_expiry ON kept (expires)",
    # Counted as they change: adding them up would read all, each time.
    "CREATE TABLE totals (count INTEGER NOT NULL, bytes INTEGER NOT NULL)",
    "INSERT INTO totals VALUES (0, 0)",
    """CREATE TRIGGER kept_added AFTER INSERT ON kept BEGIN
      UPDATE totals SET count = count + 1, bytes = bytes + length(new.state);
    END""",
    """CREATE TRIGGER kept_removed AFTER DELETE ON kept BEGIN
      UPDATE totals SET count = count - 1, bytes = bytes - length(old.state);
    END""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
FORGET_OLDEST = """
DELETE FROM kept WHERE id = (SELECT id FROM kept ORDER BY expires, rowid LIMIT 1)
"""


class FileConversations:
    """Implements `kept.KeptConversations`. A conversation outlives the processes, for its time."""

    def __init__(
        self, folder: Path, options: KeptOptions, clock: Callable[[], float] = time.time
    ) -> None:
        """Open the file; make it, readable for its owner alone, where there is none.

        Args:
            folder: Where it is, on a local disk.
            options: How much is kept, and for how long.
            clock: Seconds, the same for all processes.

        Raises:
            ConfigError: it cannot be used.
        """
        self.options = options
        self._path = folder / FILE
        self._clock = clock
        # Whoever waits for another process's lock is a thread that may.
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            self._connection = self._connect()
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(
                f"state_dir: {self._path}: cannot keep conversations: {error}; where it is "
                "damaged, remove it: the conversations in it are lost"
            ) from error

    def __len__(self) -> int:
        return self._totals()[0]

    @property
    def size_bytes(self) -> int:
        """What their states take."""
        return self._totals()[1]

    async def find(self, conversation_id: str, owner: str) -> bytes | None:
        """Return the state of a conversation; see `KeptConversations.find`."""
        return await asyncio.to_thread(self._find, conversation_id, owner)

    async def keep(self, conversation_id: str, owner: str, state: bytes) -> None:
        """Keep a conversation as it is now; see `KeptConversations.keep`."""
        await asyncio.to_thread(self._keep, conversation_id, owner, state)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _find(self, conversation_id: str, owner: str) -> bytes | None:
        with self._lock:
            found = self._connection.execute(
                "SELECT state FROM kept WHERE id = ? AND owner = ? AND expires > ?",
                (conversation_id, owner, self._clock()),
            ).fetchone()
        return None if found is None else bytes(found[0])

    def _keep(self, conversation_id: str, owner: str, state: bytes) -> None:
        now = self._clock()
        with self._lock, self._transaction() as connection:
            connection.execute(
                "DELETE FROM kept WHERE id = ? OR expires <= ?", (conversation_id, now)
            )
            connection.execute(
                "INSERT INTO kept VALUES (?, ?, ?, ?)",
                (conversation_id, owner, state, now + self.options.ttl_s),
            )
            while True:
                count, size_bytes = _totals(connection)
                if count <= self.options.count_max and size_bytes <= self.options.bytes_max:
                    break
                connection.execute(FORGET_OLDEST)

    def _totals(self) -> tuple[int, int]:
        # Asked for by the event loop, which waits for no lock.
        connection = self._connect()
        try:
            return _totals(connection)
        finally:
            connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # A full disk has rolled it back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=LOCK_WAIT_S,
            isolation_level=None,  # transactions begin where we say
            check_same_thread=False,  # one thread at a time: who holds the lock
        )
        journal = use_wal(connection, wait_s=LOCK_WAIT_S)
        if journal != "wal":
            raise sqlite3.OperationalError(f"its disk has no write-ahead log, only {journal}")
        # What the machine loses when it stops are the last turns, and they may be sent again.
        connection.execute("PRAGMA synchronous = NORMAL")
        # What was forgotten is not to stand in the file.
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection

    def _prepare(self) -> None:
        """Make the tables in a new file; check that an old one is ours."""
        connection = self._connection
        with self._transaction():
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if not tables:
                for statement in SCHEMA:
                    connection.execute(statement)
            for name, expected in (
                ("application_id", APPLICATION_ID),
                ("user_version", SCHEMA_VERSION),
            ):
                (got,) = connection.execute(f"PRAGMA {name}").fetchone()
                if got != expected:
                    raise sqlite3.DatabaseError(f"expected {name} {expected}, got {got}")
            connection.execute("DELETE FROM kept WHERE expires <= ?", (self._clock(),))


def _totals(connection: sqlite3.Connection) -> tuple[int, int]:
    count, size_bytes = connection.execute("SELECT count, bytes FROM totals").fetchone()
    return int(count), int(size_bytes)
