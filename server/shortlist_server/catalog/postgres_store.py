"""The catalogue's store in PostgreSQL: for servers on several machines.

Each transaction first locks the one row that holds the revision, so writers come one after the
other and revisions become visible in their order: nobody who reads the tail can miss one that
commits later. (A sequence would hand out revisions in an order that is not that of the commits.)
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, LiteralString, cast

from shortlist_server import fault_points
from shortlist_server.catalog.group_commit import GroupCommit
from shortlist_server.catalog.store import (
    Append,
    AppendResult,
    StoreClock,
    StoredChange,
    StoreOptions,
    Tail,
    WallClock,
    latest_changes,
    replayed_result,
)
from shortlist_server.errors import (
    CatalogMismatch,
    CatalogUnavailable,
    CatalogUnsupported,
    ConfigError,
    MissingExtra,
    ShortlistError,
)

try:
    import psycopg
    from psycopg import errors as sql
except ImportError as error:
    raise MissingExtra(feature="a catalogue in PostgreSQL", extra="postgres") from error

SCHEMA_VERSION = 1
SETUP_LOCK = 0x53484C54
"""Number of the advisory lock under which the tables are made."""
# Ids and keys are bytes: PostgreSQL's text takes no NUL, and orders by the language.
SCHEMA = """
CREATE TABLE shortlist_catalog (
  name text NOT NULL, version integer NOT NULL, revision bigint NOT NULL,
  clock_ms bigint NOT NULL, wall_ms bigint NOT NULL
);
CREATE TABLE shortlist_items (
  item_id bytea PRIMARY KEY, revision bigint NOT NULL, deleted boolean NOT NULL,
  payload bytea NOT NULL
);
CREATE INDEX shortlist_items_by_revision ON shortlist_items (revision);
CREATE TABLE shortlist_idempotency_keys (
  key bytea PRIMARY KEY, request_digest bytea NOT NULL, revision bigint NOT NULL,
  outcomes bytea NOT NULL, clock_ms bigint NOT NULL
);
CREATE INDEX shortlist_idempotency_keys_by_clock ON shortlist_idempotency_keys (clock_ms);
"""
PUT_ITEMS = """
INSERT INTO shortlist_items (item_id, revision, deleted, payload)
SELECT item_id, %s, deleted, payload
FROM unnest(%s::bytea[], %s::boolean[], %s::bytea[]) AS put (item_id, deleted, payload)
ON CONFLICT (item_id) DO UPDATE SET
  revision = excluded.revision, deleted = excluded.deleted, payload = excluded.payload
"""
LOCK_CATALOG = """
SELECT revision, clock_ms, wall_ms, (extract(epoch FROM clock_timestamp()) * 1000)::bigint
FROM shortlist_catalog FOR UPDATE
"""
Connection = psycopg.Connection[tuple[Any, ...]]
UNAVAILABLE: tuple[tuple[type[psycopg.Error], str], ...] = (
    (sql.LockNotAvailable, "another server has held its lock for too long"),
    (sql.QueryCanceled, "a statement has taken too long"),
    (sql.DiskFull, "the disk is full"),
    (sql.ReadOnlySqlTransaction, "the database is read-only"),
    (sql.TooManyConnections, "the database has too many connections"),
    (sql.TransactionRollback, "the database has rolled back"),
    (psycopg.InterfaceError, "the database cannot be reached"),
    (psycopg.OperationalError, "the database cannot be reached"),
    (sql.InsufficientPrivilege, "the role may not use or make the store's tables"),
    (sql.UndefinedTable, "the store's tables are gone"),
    (sql.InternalError, "the database reports a fault of its own"),
)


class PostgresStore:
    """Implements `store.CatalogStore`. A lost connection is made anew by the next call."""

    def __init__(
        self,
        conninfo: str,
        name: str,
        options: StoreOptions,
        *,
        wall_clock: WallClock | None = None,
    ) -> None:
        """Open the store of a catalogue; make its tables if there are none.

        Args:
            conninfo: A libpq connection string or URL. Its role may create tables, or somebody has.
                A database, or a schema first in the role's search_path, holds one catalogue.
            name: Name of the catalogue, which is the bundle's.
            options: Bounds.
            wall_clock: Where idempotency keys get their age from; None is the database's clock,
                which is one for all servers.

        Raises:
            ConfigError: The connection string is none.
            CatalogMismatch: The tables are another catalogue's.
            CatalogUnsupported: A later version of Shortlist made them.
            CatalogUnavailable: The database cannot be reached, or refuses.
        """
        try:
            psycopg.conninfo.conninfo_to_dict(conninfo)
        except psycopg.ProgrammingError as error:
            # The text may hold a password: none of it is repeated.
            raise ConfigError(
                "catalogue: expected a PostgreSQL connection string or URL, got another text"
            ) from error
        self._conninfo = conninfo
        self._options = options
        self._wall_clock = wall_clock
        with self._told(), self._connect() as connection:
            self._prepare(connection, name)
        self._reader: Connection | None = None
        self._reading = threading.Lock()
        self._writer: Connection | None = None
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
        with self._reads() as connection, connection.transaction():
            # The statements below see one point in time.
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            head = last = _head(connection)
            if limit is not None:
                row = connection.execute(
                    "SELECT revision FROM shortlist_items WHERE revision > %s ORDER BY revision "
                    "LIMIT 1 OFFSET %s",
                    (revision, limit - 1),
                ).fetchone()
                last = row[0] if row else head
            rows = connection.cursor(binary=True).execute(
                "SELECT item_id, revision, deleted, payload FROM shortlist_items "
                "WHERE revision > %s AND revision <= %s ORDER BY revision",
                (revision, last),
            )
            changes = tuple(
                StoredChange(
                    item_id=item_id.decode(), revision=at, deleted=deleted, payload=payload
                )
                for item_id, at, deleted, payload in rows
            )
        return Tail(changes=changes, revision=max(last, revision), complete=last == head)

    def close(self) -> None:
        """Apply what waits, and close the connections. May be called again."""
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
            if self._writer is None or not _alive(self._writer):
                self._writer = self._connect()
            try:
                with self._writer.transaction():
                    results = self._transaction(self._writer, appends)
                    fault_points.hit("append.before_commit")
            except BaseException:
                self._writer.close()
                self._writer = None
                raise
        fault_points.hit("append.after_commit")
        return results

    def _transaction(
        self, connection: Connection, appends: Sequence[Append]
    ) -> list[AppendResult | Exception]:
        revision, time_ms, wall_ms, now_ms = _row(connection, LOCK_CATALOG)
        fault_points.hit("append.begin")
        clock = StoreClock(time_ms=time_ms, wall_ms=wall_ms).at(
            self._wall_clock() if self._wall_clock else now_ms
        )
        results: list[AppendResult | Exception] = []
        for append in appends:
            try:
                with connection.transaction():  # a savepoint
                    result = _apply(connection, append, revision + 1, clock.time_ms)
                revision = max(revision, result.revision)
                results.append(result)
            except (ShortlistError, ValueError, sql.DataError) as error:
                # This append's own fault; the database's faults end the transaction.
                results.append(error)
        connection.execute(
            "DELETE FROM shortlist_idempotency_keys WHERE clock_ms < %s", (clock.expired_ms,)
        )
        connection.execute(
            "UPDATE shortlist_catalog SET revision = %s, clock_ms = %s, wall_ms = %s",
            (revision, clock.time_ms, clock.wall_ms),
        )
        return results

    def _prepare(self, connection: Connection, name: str) -> None:
        """Make the tables where there are none; check those that there are."""
        with connection.transaction():
            # Servers that start together come one by one.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (SETUP_LOCK,))
            (found,) = _row(connection, "SELECT to_regclass('shortlist_catalog')")
            if found is None:
                connection.execute(SCHEMA)
                connection.execute(
                    "INSERT INTO shortlist_catalog VALUES (%s, %s, 0, 0, 0)", (name, SCHEMA_VERSION)
                )
            # A table of its own: stores from before it get it now, and remain of format 1.
            (found,) = _row(connection, "SELECT to_regclass('shortlist_identity')")
            if found is None:
                connection.execute("CREATE TABLE shortlist_identity (id text NOT NULL)")
                connection.execute(
                    "INSERT INTO shortlist_identity VALUES (%s)", (secrets.token_hex(16),)
                )
        self.identity = str(_row(connection, "SELECT id FROM shortlist_identity")[0])
        rows = connection.execute("SELECT name, version FROM shortlist_catalog").fetchall()
        if len(rows) != 1:
            raise CatalogMismatch(
                f"table shortlist_catalog: expected one row, got {len(rows)}; restore a backup"
            )
        got, version = rows[0]
        if version != SCHEMA_VERSION:
            raise CatalogUnsupported(
                f"table shortlist_catalog: expected format {SCHEMA_VERSION}, got {version}; a "
                "later version of Shortlist made it: start that one"
            )
        if got != name:
            raise CatalogMismatch(
                f"table shortlist_catalog: expected the store of catalogue {name!r}, got that of "
                f"{got!r}; name another database or schema, or the bundle that it belongs to"
            )

    @contextmanager
    def _reads(self) -> Iterator[Connection]:
        with self._reading, self._told():
            if self._closed:
                raise CatalogUnavailable("it is closed")
            if self._reader is None:
                self._reader = self._connect()
            try:
                yield self._reader
            except BaseException:
                self._reader.close()
                self._reader = None
                raise

    def _connect(self) -> Connection:
        timeout_s = max(2, self._options.connect_ms_max // 1000)  # libpq takes no less than 2
        connection = psycopg.connect(
            self._conninfo, autocommit=True, connect_timeout=timeout_s, application_name="shortlist"
        )
        try:
            connection.execute(
                "SELECT set_config('lock_timeout', %s, false), "
                "set_config('statement_timeout', %s, false), "
                "set_config('idle_in_transaction_session_timeout', %s, false)",
                (
                    str(self._options.lock_wait_ms),
                    str(self._options.statement_ms_max),
                    str(self._options.statement_ms_max),
                ),
            )
            # A role or a database may have it off; what is stronger than `on` is left alone.
            row = connection.execute("SHOW synchronous_commit").fetchone()
            if row in (("off",), ("local",)):
                connection.execute("SET synchronous_commit = on")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what psycopg raises into what is wrong."""
        try:
            yield
        except psycopg.Error as error:
            for kind, problem in UNAVAILABLE:
                if isinstance(error, kind):
                    raise CatalogUnavailable(problem) from error
            raise


def _apply(connection: Connection, append: Append, revision: int, clock_ms: int) -> AppendResult:
    key = append.idempotency_key
    if key is not None:
        name = key.key.encode()
        earlier = connection.execute(
            "SELECT request_digest, revision, outcomes FROM shortlist_idempotency_keys "
            "WHERE key = %s",
            (name,),
        ).fetchone()
        if earlier:
            return replayed_result(key, *earlier)
        connection.execute(
            "INSERT INTO shortlist_idempotency_keys VALUES (%s, %s, %s, %s, %s)",
            (name, key.request_digest, revision, append.outcomes, clock_ms),
        )
    changes = latest_changes(append.changes)
    if changes:
        connection.execute(
            PUT_ITEMS,
            (
                revision,
                [change.item_id.encode() for change in changes],
                [change.deleted for change in changes],
                [change.payload for change in changes],
            ),
            binary=True,
        )
    return AppendResult(revision=revision, outcomes=append.outcomes, replayed=False)


def _head(connection: Connection) -> int:
    return cast(int, _row(connection, "SELECT revision FROM shortlist_catalog")[0])


def _row(connection: Connection, statement: LiteralString) -> tuple[Any, ...]:
    row = connection.execute(statement).fetchone()
    if row is None:
        raise CatalogUnavailable("the store's tables are empty")
    return row


def _alive(connection: Connection) -> bool:
    """Whether the server still answers: a group that fails for an old connection is avoidable."""
    if connection.closed or connection.broken:
        return False
    try:
        connection.execute("")
    except psycopg.Error:
        connection.close()
        return False
    return True
