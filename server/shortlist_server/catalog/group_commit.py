"""Gathers the appends of many callers into few transactions, since each waits for the disk.

One thread writes. While it waits for a commit, appends collect; it takes all of them next. So a
lone append never waits for others, and the more there are, the larger the groups: no timer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from shortlist_server import fault_points
from shortlist_server.catalog.store import Append, AppendResult, StoreOptions
from shortlist_server.errors import CatalogUnavailable, Overloaded

RETRY_DELAY_MS = 100
Commit = Callable[[Sequence[Append]], Sequence[AppendResult | Exception]]
"""Applies appends in one transaction; returns how each ended, once the transaction is on disk."""


class GroupCommit:
    """The thread that writes, and the appends that wait for it."""

    def __init__(self, commit: Commit, options: StoreOptions) -> None:
        """Start the thread. `commit` is called by it only; if it raises, the whole group fails."""
        self._commit = commit
        self._options = options
        self._waiting: deque[tuple[Append, Future[AppendResult]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="catalog-writer", daemon=True)
        self._thread.start()

    def submit(self, append: Append) -> Future[AppendResult]:
        """Hand an append to the thread; see `CatalogStore.append`."""
        future: Future[AppendResult] = Future()
        with self._changed:
            if self._closed:
                raise CatalogUnavailable("it is closed")
            if len(self._waiting) >= self._options.waiting_max:
                raise Overloaded(
                    waiting_max=self._options.waiting_max, retry_delay_ms=RETRY_DELAY_MS
                )
            self._waiting.append((append, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Write what waits and end the thread. May be called again."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            self._write(group)

    def _next_group(self) -> list[tuple[Append, Future[AppendResult]]]:
        """Return the appends to write next; none when there will be no more."""
        group = []
        changes_count = 0
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            while self._waiting and changes_count < self._options.batch_changes_max:
                append, future = self._waiting.popleft()
                group.append((append, future))
                changes_count += len(append.changes)
        return group

    def _write(self, group: list[tuple[Append, Future[AppendResult]]]) -> None:
        # A caller who has gone away before his turn no longer wants it.
        group = [entry for entry in group if entry[1].set_running_or_notify_cancel()]
        if not group:
            return
        results: Sequence[AppendResult | Exception]
        try:
            results = self._commit([append for append, _ in group])
        except Exception as error:
            results = [error] * len(group)
        fault_points.hit("append.before_acknowledge")
        for (_, future), result in zip(group, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
