"""Files of the request log: Parquet. The only importer of pyarrow, which is an optional extra."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shortlist_server.errors import LogCorrupt, LogUnsupported, MissingExtra
from shortlist_server.observability.log_row import LogRow

FORMAT_KEY = b"shortlist.request_log"
FORMAT_VERSION = 1
PREFIX = "requests-"
SUFFIX = ".parquet"
BEING_WRITTEN = f".*{SUFFIX}.writing"
"""Pattern of the names of files that are not finished; they begin with a dot."""
READ_ROWS = 256
"""Rows read at a time."""


def require() -> Any:
    """Import pyarrow and its Parquet part; returns both.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(feature="the request log", extra="replay") from error
    return pyarrow, pyarrow.parquet


class LogFile:
    """A file that is being written: under a hidden name, and by its own name only when finished.

    Parquet without its last bytes cannot be read: a process that is killed leaves a hidden file
    that no reader looks at, and that the next writer removes.
    """

    def __init__(self, folder: Path, time_ns: int) -> None:
        """Begin a file in a folder, named by a time in nanoseconds since 1970.

        Raises:
            OSError: the folder cannot be written to.
        """
        self._arrow, self._parquet = require()
        self._schema = _schema(self._arrow)
        moment = datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.path = folder / f"{PREFIX}{moment}-{os.getpid()}{SUFFIX}"
        self._hidden = folder / f".{self.path.name}.writing"
        # What users did is for the owner and his group.
        descriptor = os.open(self._hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        self._file = os.fdopen(descriptor, "wb")
        # Held as long as the file is being written, also across containers that share the folder,
        # whose process ids mean nothing to each other.
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._writer = self._parquet.ParquetWriter(
            self._file, self._schema, compression="zstd", write_statistics=False
        )
        self._batches: list[Any] = []

    @property
    def size_bytes(self) -> int:
        """What has been written, in bytes."""
        return self._file.tell()

    def add(self, rows: Sequence[LogRow]) -> None:
        """Convert rows, to be written with the next `write`."""
        arrow, schema = self._arrow, self._schema
        columns = {
            "time": [row.time_ns // 1_000 for row in rows],
            "masked": [list(row.masked) for row in rows],
            "item_ids": [list(row.item_ids) for row in rows],
            "scores": [list(row.scores) for row in rows],
        }
        arrays = [
            arrow.array(
                columns[field.name]
                if field.name in columns
                else [getattr(row, field.name) for row in rows],
                field.type,
            )
            for field in schema
        ]
        self._batches.append(arrow.RecordBatch.from_arrays(arrays, schema=schema))

    def write(self) -> None:
        """Compress and write what was added."""
        if self._batches:
            self._writer.write_table(self._arrow.Table.from_batches(self._batches, self._schema))
            self._batches = []

    def finish(self) -> None:
        """Write the rest, make it durable, and give the file its name."""
        self.write()
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._hidden.rename(self.path)
        self._file.close()
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def abandon(self) -> None:
        """Leave the file, which could not be written, and remove what there is of it."""
        # Both write what they still hold, to a disk that may be full.
        with contextlib.suppress(Exception):
            self._writer.close()
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._hidden.unlink()


def finished_files(folder: Path) -> list[Path]:
    """Return the finished files of a log, the oldest first."""
    return sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))


def remove_left_over(folder: Path) -> None:
    """Remove the unfinished files of writers that are no more."""
    for path in folder.glob(BEING_WRITTEN):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        except OSError:
            continue  # it is being written, or gone already


def read_rows(path: Path) -> Iterator[LogRow]:
    """Yield the rows of a finished file, in the order written.

    Raises:
        LogCorrupt: it is no file of a request log, or is damaged.
        LogUnsupported: it is written in a later format.
        MissingExtra: pyarrow is not installed.
        OSError: it cannot be opened.
    """
    arrow, parquet = require()
    with path.open("rb") as file:
        try:
            opened = parquet.ParquetFile(file)
            _check_format(path, (opened.schema_arrow.metadata or {}).get(FORMAT_KEY))
            names = _schema(arrow).names
            if missing := sorted(set(names) - set(opened.schema_arrow.names)):
                raise LogCorrupt(f"{path}: expected the columns {names}, got none of {missing}")
            for batch in opened.iter_batches(READ_ROWS, columns=names, use_threads=False):
                for row in batch.to_pylist():
                    yield _row(row)
        except (arrow.ArrowException, OSError) as error:
            raise LogCorrupt(
                f"{path}: expected a whole Parquet file of a request log, got: {error}"
            ) from error


def _check_format(path: Path, written: bytes | None) -> None:
    if written is None:
        raise LogCorrupt(
            f"{path}: expected a file that `request_log` wrote, got other Parquet: it says nothing "
            f"under {FORMAT_KEY.decode()!r} in its metadata"
        )
    if not written.isdigit() or int(written) > FORMAT_VERSION:
        raise LogUnsupported(
            f"{path}: expected request log format {FORMAT_VERSION} or older, got "
            f"{written.decode(errors='replace')}; replay it with a newer Shortlist"
        )


def _row(cells: dict[str, Any]) -> LogRow:
    time = cells.pop("time")
    for name in ("masked", "item_ids", "scores"):
        cells[name] = tuple(cells[name])
    return LogRow(time_ns=1_000 * round(time.timestamp() * 1e6), **cells)


def _schema(arrow: Any) -> Any:
    texts = arrow.list_(arrow.string())
    return arrow.schema(
        [
            ("time", arrow.timestamp("us", tz="UTC")),
            ("request_id", arrow.string()),
            ("kind", arrow.string()),
            ("request", arrow.binary()),
            ("masked", texts),
            ("item_ids", texts),
            ("scores", arrow.list_(arrow.float64())),
            ("info", arrow.binary()),
            ("bundle_name", arrow.string()),
            ("bundle_version", arrow.string()),
            ("bundle_sha256", arrow.string()),
            ("duration_ns", arrow.int64()),
            ("cpu", arrow.string()),
            ("software", arrow.string()),
        ],
        metadata={FORMAT_KEY: str(FORMAT_VERSION).encode()},
    )
