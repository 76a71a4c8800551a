"""The request log: keeps a sample of the requests with their answers, for replay.

A request leaves a reference in a queue and goes on; one thread converts, masks, compresses and
writes. Whatever cannot be kept, because the queue is full or the disk is, is dropped and counted:
no request waits, and none fails, for the log.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from shortlist.v1 import types_pb2

from shortlist_server.errors import ConfigError
from shortlist_server.observability import log_file
from shortlist_server.observability.log_file import LogFile
from shortlist_server.observability.log_row import FIXED_BYTES, KINDS, LogRow
from shortlist_server.observability.machine import cpu_type, software
from shortlist_server.observability.masking import Masking

logger = logging.getLogger(__name__)

BATCH_ROWS = 32
"""Rows converted at once: the interpreter is not held for longer than that takes."""
GROUP_ROWS = 1_024
"""Rows compressed and written at once."""
FILE_BYTES_MAX = 64 << 20
FILE_ROWS_MAX = 100_000
POLL_S = 0.05
"""Time between two looks at the queue."""
WORK_S, REST_S = 0.0002, 0.0002
"""Time worked at a stretch, and rest after it: the event loop need not wait longer for its turn."""
WARNING_S = 60.0
"""Time between two warnings of rows dropped."""
CLOSING_S = 30.0
"""Longest that closing waits for what is queued to be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLogOptions:
    """How requests are logged."""

    folder: Path
    """Made if missing."""
    share: float = 1.0
    """Share of the requests that are kept, 0..1."""
    bytes_max: int = 1 << 30
    """Most that the folder's files take; the oldest are removed."""
    file_s: float = 300.0
    """Age at which a file is finished."""
    waiting_max: int = 1_024
    """Rows that may wait to be written; more are dropped."""
    waiting_bytes_max: int = 64 << 20
    """Most that rows which wait may take, in bytes."""
    masking: Masking

    @property
    def file_bytes_max(self) -> int:
        """Size at which a file is finished."""
        return min(FILE_BYTES_MAX, self.bytes_max // 8)

    @property
    def row_bytes_max(self) -> int:
        """Size from which rows are dropped, so that a file is never much larger than it may be."""
        return self.file_bytes_max // 4


@dataclass(frozen=True, slots=True)
class _Entry:
    request: Any
    items: Any
    info: types_pb2.AnswerInfo
    duration_ns: int
    time_ns: int
    size_bytes: int


class RequestLog:
    """Keeps requests with their answers; implements `rpc.recommendation_service.Recorder`."""

    def __init__(
        self,
        options: RequestLogOptions,
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the thread.

        Args:
            options: How requests are logged.
            sleep: Lets time pass; takes seconds.
            clock: Seconds from an arbitrary beginning.

        Raises:
            ConfigError: the folder cannot be written to.
            MissingExtra: pyarrow is not installed.
        """
        log_file.require()
        self._options = options
        self._sleep = sleep
        self._clock = clock
        self._threshold = int(options.share * (1 << 64))
        self._queue: SimpleQueue[_Entry] = SimpleQueue()
        # Each is counted up by one thread alone: what waits is the difference.
        self._taken_bytes = self._handled_bytes = 0
        self._queue_dropped = self._writer_dropped = 0
        self.written_count = 0
        """Rows in finished files."""
        self._file: LogFile | None
        self._batch: list[LogRow]
        self._begin_anew()
        self._file_end_s = 0.0
        self._warned_s = -WARNING_S
        self._warned_count = 0
        self._failure = ""
        self._closing = threading.Event()
        _prepare(options.folder)
        self._thread = threading.Thread(target=self._work, name="request log", daemon=True)
        self._thread.start()

    @property
    def dropped_count(self) -> int:
        """Requests that were to be kept and are not."""
        return self._queue_dropped + self._writer_dropped

    def record(
        self, request: Any, items: Any, info: types_pb2.AnswerInfo, duration_ns: int
    ) -> None:
        """Keep a request, if it is in the sample and there is room; returns at once. To be called
        from one thread.
        """
        if self._closing.is_set() or not self._in_sample(info.request_id):
            return
        size = FIXED_BYTES + request.ByteSize() + 32 * len(items)
        options = self._options
        if (
            size > options.row_bytes_max
            or self._queue.qsize() >= options.waiting_max
            or self._taken_bytes - self._handled_bytes + size > options.waiting_bytes_max
        ):
            self._queue_dropped += 1
            return
        self._taken_bytes += size
        # The messages are not changed any more: the thread may read them when it comes to it.
        self._queue.put(_Entry(request, items, info, duration_ns, time.time_ns(), size))

    def close(self) -> None:
        """Take no more requests, and write those that were taken."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._thread.join(CLOSING_S)
        if self._thread.is_alive():
            logger.warning("the request log could not be written in %.0f s", CLOSING_S)
        elif self.dropped_count:
            dropped = self.dropped_count
            logger.warning("the request log dropped %d requests in all%s", dropped, self._failure)

    def _in_sample(self, request_id: str) -> bool:
        # By the id, so that a request and its retries are in or out alike, on every replica.
        digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._threshold

    # In the thread.

    def _work(self) -> None:
        while True:
            closing = self._closing.is_set()
            begin_s = self._clock()
            while (entry := self._next()) is not None:
                self._handled_bytes += entry.size_bytes
                self._try(partial(self._keep, entry))
                if not closing and self._clock() >= begin_s + WORK_S:
                    self._sleep(REST_S)
                    begin_s = self._clock()
            self._warn()
            if closing or self._clock() >= self._file_end_s:
                self._try(self._finish)
            if closing:
                return
            # Looked at now and then: to wake this thread for each request would have the event
            # loop wait for it each time.
            self._closing.wait(POLL_S)

    def _next(self) -> _Entry | None:
        try:
            return self._queue.get_nowait()
        except Empty:
            return None

    def _try(self, step: Callable[[], None]) -> None:
        """Run a step; where it fails the file is given up, with the rows that are in it."""
        try:
            step()
        except OSError as error:
            # Of a disk that is full every file fails: `_warn` says so, once in a while.
            self._give_up()
            self._failure = f"; it cannot write: {error}"
        except Exception as error:
            lost = self._give_up()
            logger.error("the request log lost %d requests: %s", lost, error, exc_info=error)

    def _give_up(self) -> int:
        """Leave the file; returns how many requests are lost with it."""
        lost = self._file_rows
        if self._file is not None:
            self._file.abandon()
        self._begin_anew()
        self._writer_dropped += lost
        return lost

    def _begin_anew(self) -> None:
        self._file, self._batch = None, []
        self._file_rows = self._group_rows = self._group_bytes = 0

    def _keep(self, entry: _Entry) -> None:
        self._file_rows += 1
        row = self._row(entry)
        if self._file is None:
            self._file = self._begin(entry.time_ns)
        self._batch.append(row)
        self._group_rows += 1
        self._group_bytes += row.size_bytes
        full = self._group_bytes >= self._options.row_bytes_max or self._group_rows >= GROUP_ROWS
        if full or len(self._batch) >= BATCH_ROWS:
            batch, self._batch = self._batch, []
            self._file.add(batch)
        if full:
            self._file.write()
            self._group_rows = self._group_bytes = 0
        if (
            self._clock() >= self._file_end_s
            or self._file.size_bytes >= self._options.file_bytes_max
            or self._file_rows >= FILE_ROWS_MAX
        ):
            self._finish()

    def _begin(self, time_ns: int) -> LogFile:
        # Two files' worth of room: a file may grow by a group of rows beyond where it ends.
        _make_room(self._options.folder, self._options.bytes_max - 2 * self._options.file_bytes_max)
        self._file_end_s = self._clock() + self._options.file_s
        return LogFile(self._options.folder, time_ns)

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.add(self._batch)
        self._file.finish()
        self.written_count += self._file_rows
        self._begin_anew()

    def _row(self, entry: _Entry) -> LogRow:
        masking = self._options.masking
        request, masked = masking.request(entry.request)
        bundle = entry.info.bundle
        items = [(item.id, item.score) for item in entry.items]
        return LogRow(
            time_ns=entry.time_ns,
            request_id=masking.request_id(entry.info.request_id),
            kind=KINDS[type(request).DESCRIPTOR.name],
            request=request.SerializeToString(deterministic=True),
            masked=masked,
            item_ids=tuple(item_id for item_id, _ in items),
            scores=tuple(score for _, score in items),
            info=masking.info(entry.info).SerializeToString(deterministic=True),
            bundle_name=bundle.name,
            bundle_version=bundle.version,
            bundle_sha256=bundle.sha256,
            duration_ns=entry.duration_ns,
            cpu=cpu_type(),
            software=software(),
        )

    def _warn(self) -> None:
        """Say once in a while that requests are dropped."""
        dropped = self.dropped_count
        if dropped > self._warned_count and self._clock() >= self._warned_s + WARNING_S:
            logger.warning(
                "the request log dropped %d requests since it last said so, %d in all%s",
                dropped - self._warned_count,
                dropped,
                self._failure,
            )
            self._failure = ""
            self._warned_s, self._warned_count = self._clock(), dropped


def _prepare(folder: Path) -> None:
    """Make the folder, see that it can be written to, and remove what dead writers left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{time.time_ns()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"request_log: expected a folder to write to, got {folder}: {error.strerror}"
        ) from error
    log_file.remove_left_over(folder)


def _make_room(folder: Path, bytes_max: int) -> None:
    """Remove the oldest files until the others take no more than so many bytes."""
    files = log_file.finished_files(folder)
    sizes = [path.stat().st_size for path in files]
    excess = sum(sizes) - bytes_max
    for path, size in zip(files, sizes, strict=True):
        if excess <= 0:
            return
        path.unlink(missing_ok=True)
        excess -= size
