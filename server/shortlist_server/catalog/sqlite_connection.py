"""How the file of a store is opened: what SQLite is told before anything is read or written."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from shortlist_server.errors import CatalogUnavailable

WAL_BYTES_MAX = 64 * 1024 * 1024
"""The write-ahead log is cut to this size when it is emptied."""
CHECKPOINT_PAGES = 8000
"""After so many pages of 4 KiB the log is emptied into the file. At SQLite's 1,000 a call of 100
random items would nearly always wait for that, and most pages would be written again and again."""
CACHE_KIB = 16 * 1024
AGAIN_S = 0.005


def connect(path: Path, *, create: bool, lock_wait_ms: float) -> sqlite3.Connection:
    """Open a file, in WAL mode, each commit on the disk before it is acknowledged.

    Args:
        path: The file.
        create: Whether to make it where there is none.
        lock_wait_ms: How long to wait for other processes' locks.

    Raises:
        CatalogUnavailable: the disk supports no write-ahead log.
        sqlite3.DatabaseError: the file cannot be opened, or is none of SQLite.
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}",
        uri=True,
        timeout=lock_wait_ms / 1000,
        isolation_level=None,  # transactions begin where we say
        check_same_thread=False,  # one thread at a time: the group's, or who holds the lock
    )
    try:
        journal = use_wal(connection, wait_s=lock_wait_ms / 1000)
        if journal != "wal":
            raise CatalogUnavailable(f"its disk supports no write-ahead log, only {journal}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def use_wal(connection: sqlite3.Connection, *, wait_s: float) -> str:
    """Have a file in WAL mode; return its mode, which is another where its disk supports none.

    Args:
        connection: To the file.
        wait_s: How long to wait for other processes' locks, in seconds.

    Raises:
        sqlite3.DatabaseError: the file cannot be opened, or is none of SQLite.
    """
    end = time.monotonic() + wait_s
    while True:
        try:
            (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return str(journal)
        except sqlite3.OperationalError as error:
            # Of processes that open a new file at the same time one changes its mode. SQLite does
            # not wait here, whatever the timeout (https://www.sqlite.org/c3ref/busy_handler.html).
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(AGAIN_S)
