"""The durable store of the live catalogue: what is changed since the bundle was made.

A compacted log by key: one row an item that was ever changed, with its latest revision. Every
append gets the next revision, which its items share. Whoever has applied everything up to a
revision asks for what came after it. The store knows nothing of attributes: a payload is bytes.

Implemented by `sqlite_store.py` for one machine, and by `postgres_store.py` for several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from shortlist_server.errors import IdempotencyKeyReused

KEY_HOURS = 24
"""How long an idempotency key is kept at least, in hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChange:
    """What an item becomes.

    Attributes:
        item_id: The item's id, not empty.
        deleted: Whether it is gone.
        payload: What it is; empty if it is gone.
    """

    item_id: str
    deleted: bool = False
    payload: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChange:
    """The latest change of an item, and the revision that brought it."""

    item_id: str
    revision: int
    deleted: bool
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """Names a request, so that it is applied once however often it is sent.

    Attributes:
        key: What the caller named it, not empty.
        request_digest: A hash of what it says: another request must not come under its name.
    """

    key: str
    request_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """One call's changes, to be applied together.

    Attributes:
        changes: If several concern one item, the last counts.
        outcomes: What to tell the caller, and to tell again if the request is sent again.
        idempotency_key: None if the request has none.
    """

    changes: Sequence[ItemChange]
    outcomes: bytes = b""
    idempotency_key: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendResult:
    """How an append ended.

    Attributes:
        revision: From this revision on, its changes are in the catalogue.
        outcomes: Those of the append, or of the first one of this idempotency key.
        replayed: Whether an earlier append of this idempotency key was found; nothing was applied.
    """

    revision: int
    outcomes: bytes
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The changes after a revision.

    Attributes:
        changes: In the order of their revisions. An item is in it once.
        revision: Ask for what came after this one, next.
        complete: Whether that is all there was. If not, an item that was changed within these
            revisions and again after them is still to come: the catalogue is that of `revision`
            only once a complete tail has been applied.
    """

    changes: tuple[StoredChange, ...]
    revision: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Bounds of a store.

    Attributes:
        waiting_max: Most appends that wait for the writer; more are refused as Overloaded.
        batch_changes_max: A transaction takes no further append once it has as many changes.
        lock_wait_ms: Longest wait for another process's transaction, in milliseconds.
        statement_ms_max: Longest that a PostgreSQL statement may run, in milliseconds.
        connect_ms_max: Longest that connecting to PostgreSQL may take, in milliseconds.
        check_bytes_max: An SQLite file up to this size, in bytes, is checked when it is opened,
            at about 0.2 s per 100 MB.
    """

    waiting_max: int = 1024
    batch_changes_max: int = 10_000
    lock_wait_ms: int = 5000
    statement_ms_max: int = 30_000
    connect_ms_max: int = 5000
    check_bytes_max: int = 256 * 1024 * 1024


class CatalogStore(Protocol):
    """The changes of one catalogue. Safe to use from several threads and processes; opened after a
    fork, never before.
    """

    identity: str
    """Random, made with the store: another store has another one, under the same name too."""

    def append(self, append: Append) -> Future[AppendResult]:
        """Apply changes, all or none. The future is done when they are on disk.

        It ends with IdempotencyKeyReused, or with CatalogUnavailable: then nothing was applied,
        or, if the connection was lost in the middle of a commit, all may have been; sent again with
        its idempotency key, an append is applied once.

        Raises:
            Overloaded: `waiting_max` appends wait.
            CatalogUnavailable: The store is closed.
        """
        ...

    def changes_since(self, revision: int, *, limit: int | None = None) -> Tail:
        """Return the changes after a revision, at one point in time. None is ever missed: no append
        gets a revision that is not above all that anyone could have read.

        Args:
            revision: 0 for everything.
            limit: At least 1. Changes of further revisions are left out once there are as many;
                those of one revision are never parted.

        Raises:
            CatalogUnavailable: The store cannot be read now.
            CatalogCorrupt: What is read is not what was written.
        """
        ...

    def head(self) -> int:
        """Return the latest revision; 0 if nothing was ever appended.

        Raises:
            CatalogUnavailable: The store cannot be read now.
        """
        ...

    def close(self) -> None:
        """Apply what waits, and let go of the store."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreClock:
    """The time by which keys age: it goes on as the wall clock does, but never backward, and at
    most an hour from one transaction to the next: a wall clock that jumps cannot end a key's day.

    Keys of a store that is written less than once an hour live longer than a day: those of its last
    25 transactions.

    Attributes:
        time_ms: Its time, in milliseconds since it began.
        wall_ms: What the wall clock said then, in milliseconds.
    """

    time_ms: int
    wall_ms: int

    def at(self, wall_ms: int) -> StoreClock:
        """Return the clock moved on to what the wall clock says now."""
        step_ms = min(max(wall_ms - self.wall_ms, 0), HOUR_MS)
        return StoreClock(time_ms=self.time_ms + step_ms, wall_ms=wall_ms)

    @property
    def expired_ms(self) -> int:
        """Keys from before this time are forgotten. One hour more than promised: one jump."""
        return self.time_ms - (KEY_HOURS + 1) * HOUR_MS


HOUR_MS = 3_600_000
WallClock = Callable[[], int]
"""Returns the wall clock's time in milliseconds."""


def latest_changes(changes: Sequence[ItemChange]) -> list[ItemChange]:
    """Return the last change of each item."""
    return list({change.item_id: change for change in changes}.values())


def replayed_result(
    key: IdempotencyKey, request_digest: bytes, revision: int, outcomes: bytes
) -> AppendResult:
    """Return what was answered under this key before.

    Raises:
        IdempotencyKeyReused: The request that was answered is another one.
    """
    if request_digest != key.request_digest:
        raise IdempotencyKeyReused(key.key)
    return AppendResult(revision=revision, outcomes=outcomes, replayed=True)
