"""Logs on disk: one file, or a folder of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shortlist_server.errors import LogCorrupt, LogMissing
from shortlist_server.observability import log_file
from shortlist_server.observability.log_row import LogRow


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRow:
    """A row, and where it stands."""

    file: str
    """Name of the file."""
    position: int
    """Position in the file, 0 for the first."""
    row: LogRow


def read_log(path: Path, limit: int | None = None) -> Iterator[PlacedRow]:
    """Return the rows of a log, the oldest file first.

    Files that are being written, or that a killed server left unfinished, are passed over; so is
    one that a running server removes to make room.

    Args:
        path: A file of a log, or the folder that was `request_log`.
        limit: Most rows; None means all.

    Raises:
        LogMissing: there is no log, or nothing in it.
        LogCorrupt: a file is no file of a request log, or is damaged.
        LogUnsupported: a file is written in a later format.
        MissingExtra: pyarrow is not installed.
    """
    log_file.require()
    rows = itertools.islice(_rows(_files(path)), limit)
    first = next(rows, None)
    if first is None:
        raise LogMissing(f"{path}: expected logged requests, got files without any")
    return itertools.chain([first], rows)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise LogMissing(f"{path}: no such file or folder; expected what `request_log` names")
    if not path.is_dir():
        return [path]
    files = log_file.finished_files(path)
    if not files:
        unfinished = len(list(path.glob(log_file.BEING_WRITTEN)))
        raise LogMissing(
            f"{path}: expected files {log_file.PREFIX}*{log_file.SUFFIX}, got none, and "
            f"{unfinished} unfinished; a server finishes its file when it stops, and every "
            "`request_log_file_s` seconds"
        )
    return files


def _rows(files: list[Path]) -> Iterator[PlacedRow]:
    for path in files:
        try:
            for position, row in enumerate(log_file.read_rows(path)):
                yield PlacedRow(file=path.name, position=position, row=row)
        except FileNotFoundError:
            continue  # removed to make room since the folder was listed
        except OSError as error:
            raise LogCorrupt(f"{path}: cannot be read: {error.strerror}") from error
