"""What happens to the PostgreSQL server, and to connections to it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from postgres import Postgres
from shortlist_server.catalog.postgres_store import PostgresStore
from shortlist_server.catalog.store import Append, IdempotencyKey, ItemChange, StoreOptions
from shortlist_server.errors import (
    CatalogMismatch,
    CatalogUnavailable,
    CatalogUnsupported,
    ConfigError,
)


@pytest.fixture
def conninfo(postgres: Postgres) -> str:
    return postgres.make_database()


@pytest.fixture
def store(conninfo: str) -> Iterator[PostgresStore]:
    with closing(open_(conninfo)) as opened:
        yield opened


def open_(conninfo: str, options: StoreOptions | None = None) -> PostgresStore:
    return PostgresStore(conninfo, "films", options or StoreOptions())


def put(*item_ids: str, key: str | None = None) -> Append:
    return Append(
        changes=[ItemChange(item_id=item_id, payload=b"x") for item_id in item_ids],
        idempotency_key=IdempotencyKey(key=key, request_digest=b"d") if key else None,
    )


def ids(store: PostgresStore) -> set[str]:
    return {each.item_id for each in store.changes_since(0).changes}


def admin(conninfo: str) -> psycopg.Connection:
    return psycopg.connect(conninfo, autocommit=True)


def kill_all(conninfo: str) -> int:
    with admin(conninfo) as connection:
        killed = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'shortlist' AND datname = current_database()"
        ).fetchall()
    return len(killed)


def test_a_lost_connection_costs_no_append(store: PostgresStore, conninfo: str) -> None:
    for number in range(5):
        store.append(put(f"i{number}")).result(20)
        assert store.head() == number + 1
        assert kill_all(conninfo) == 2
        # The writer looks whether its connection lives; a reader finds out, and can read again.
        with pytest.raises(CatalogUnavailable, match="cannot be reached"):
            store.head()
    assert ids(store) == {f"i{number}" for number in range(5)}


def test_a_server_that_restarts_is_told_and_come_back_to(
    postgres: Postgres, store: PostgresStore
) -> None:
    store.append(put("a")).result(20)
    postgres.stop("immediate")
    try:
        error = store.append(put("b", key="k")).exception(20)
        assert isinstance(error, CatalogUnavailable)
        assert str(postgres.folder) not in str(error)
        with pytest.raises(CatalogUnavailable):
            store.head()
        with pytest.raises(CatalogUnavailable):
            open_(postgres.conninfo("tests1"))
    finally:
        postgres.start()
    assert not store.append(put("b", key="k")).result(20).replayed
    assert ids(store) == {"a", "b"}


def test_a_connection_that_dies_within_a_transaction_applies_nothing(
    store: PostgresStore, conninfo: str
) -> None:
    store.append(put("a")).result(20)
    with admin(conninfo) as connection, connection.transaction():
        connection.execute("SELECT 1 FROM shortlist_catalog FOR UPDATE")
        future = store.append(put("b"))
        waiting = []
        while not waiting:
            waiting = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'shortlist' "
                "AND datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchall()
            connection.execute("SELECT pg_stat_clear_snapshot()")
        connection.execute("SELECT pg_terminate_backend(%s)", waiting[0])
        assert isinstance(future.exception(20), CatalogUnavailable)
    store.append(put("c")).result(20)
    assert ids(store) == {"a", "c"}


def test_a_lock_held_too_long_is_told_and_outlived(conninfo: str) -> None:
    with closing(open_(conninfo, StoreOptions(lock_wait_ms=50))) as store:
        with admin(conninfo) as connection, connection.transaction():
            connection.execute("SELECT 1 FROM shortlist_catalog FOR UPDATE")
            error = store.append(put("a")).exception(20)
            assert isinstance(error, CatalogUnavailable)
            assert "lock for too long" in error.problem
            assert ids(store) == set()
        store.append(put("b")).result(20)
        assert ids(store) == {"b"}


def test_a_statement_that_takes_too_long_is_told_and_outlived(conninfo: str) -> None:
    with closing(open_(conninfo, StoreOptions(statement_ms_max=50))) as store:
        with admin(conninfo) as connection, connection.transaction():
            connection.execute("LOCK TABLE shortlist_items IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(CatalogUnavailable, match="taken too long"):
                store.changes_since(0)
        assert ids(store) == set()


def test_a_database_that_is_read_only_is_told_and_outlived(
    store: PostgresStore, conninfo: str
) -> None:
    with admin(conninfo) as connection:
        database = connection.info.dbname
        connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    kill_all(conninfo)
    error = store.append(put("a")).exception(20)
    assert isinstance(error, CatalogUnavailable)
    assert error.problem == "the database is read-only"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    kill_all(conninfo)
    store.append(put("a")).result(20)
    assert ids(store) == {"a"}


def test_a_commit_waits_for_the_disk_even_where_the_role_would_not(conninfo: str) -> None:
    with closing(open_(f"{conninfo} options='-c synchronous_commit=off'")) as store:
        store.append(put("a")).result(20)
        assert store._writer is not None
        assert store._writer.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_openers_that_start_together_make_the_tables_once(conninfo: str) -> None:
    barrier = threading.Barrier(8)
    failures: list[Exception] = []

    def start() -> None:
        barrier.wait()
        try:
            open_(conninfo).close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_tables_of_another_catalogue_or_a_later_format_are_refused(
    store: PostgresStore, conninfo: str
) -> None:
    with pytest.raises(CatalogMismatch, match=r"'books'.*'films'"):
        PostgresStore(conninfo, "books", StoreOptions())
    with admin(conninfo) as connection:
        connection.execute("UPDATE shortlist_catalog SET version = 2")
    with pytest.raises(CatalogUnsupported, match="expected format 1, got 2"):
        open_(conninfo)


def test_tables_that_are_gone_are_told(store: PostgresStore, conninfo: str) -> None:
    with admin(conninfo) as connection:
        connection.execute("DROP TABLE shortlist_catalog")
    with pytest.raises(CatalogUnavailable, match="tables are gone"):
        store.head()


def test_a_connection_string_that_is_none_is_refused_without_repeating_it() -> None:
    with pytest.raises(ConfigError, match="connection string") as caught:
        open_("nonsense password=secret")
    assert "secret" not in str(caught.value)


def test_without_psycopg_one_sentence_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from shortlist_server.errors import MissingExtra\n"
        "try: import shortlist_server.catalog.postgres_store\n"
        "except MissingExtra as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'shortlist[postgres]'" in result.stdout, result.stderr
