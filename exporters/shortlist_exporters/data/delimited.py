"""Delimited text, row by row with line numbers: the slow and exact way to read a file.

Arrow reads the same files far faster but cannot say in which line a value stands; it goes first,
and this is for small files and for finding the line of what Arrow refused.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from shortlist_exporters.errors import DataError
from shortlist_exporters.progress import step

EXCERPT_LENGTH = 80
PROGRESS_FLOOR_BYTES = 50_000_000
"""Reading a file above this size is shown to whoever waits."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLayout:
    """How rows and fields are written in a text file; an empty line holds no row."""

    separator: str
    """Stands between fields. One character if `quoted`; a space is any run of spaces and tabs."""
    quoted: bool = False
    """Whether a field may stand in double quotes, and then hold separators and line breaks."""
    header: bool = False
    """Whether the first row names the columns."""
    encoding: str = "utf-8"

    @property
    def separator_name(self) -> str:
        """The separator as messages show it."""
        named = {"\t": "tabs", " ": "spaces"}
        return named.get(self.separator, f'"{self.separator}"')


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """One row of a text file."""

    line: int
    """Where the row begins, from 1."""
    fields: list[str]


def read_rows(path: Path, layout: TextLayout) -> Iterator[TextRow]:
    """Yield every row, the header's among them.

    Raises:
        DataError: a line is not in the layout's encoding, a quoted field does not end, or the file
            is called .gz and is no whole gzip file.
    """
    lines = _read_lines(path, layout.encoding)
    if not layout.quoted:
        for number, text in enumerate(lines, 1):
            if bare := text.rstrip("\r\n"):
                separator = None if layout.separator == " " else layout.separator
                yield TextRow(line=number, fields=bare.split(separator))
        return
    # strict: without it a quote that is never closed swallows the rest of the file as one field.
    reader = csv.reader(lines, delimiter=layout.separator, strict=True)
    line = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                path, f"expected quoted text, got a row that cannot be split ({error})", line=line
            ) from error
        if fields:
            yield TextRow(line=line, fields=fields)
        line = reader.line_num + 1


def line_of_row(path: Path, layout: TextLayout, row: int) -> int:
    """Return the line where a row begins.

    Args:
        path: The file.
        layout: How it is written.
        row: From 0, the header not counted; must exist.
    """
    for position, found in enumerate(read_rows(path, layout), -1 if layout.header else 0):
        if position == row:
            return found.line
    raise IndexError(f"{path}: no row {row}")


def read_header(path: Path, layout: TextLayout) -> list[str]:
    """Return the column names in the first row.

    Raises:
        DataError: the file is empty, or a name occurs twice.
    """
    first = next(read_rows(path, layout), None)
    if first is None:
        raise DataError(path, "expected a line with the column names, got an empty file")
    repeated = [name for name in first.fields if first.fields.count(name) > 1]
    if repeated:
        raise DataError(
            path, f'expected column names that differ, got "{repeated[0]}" twice', line=first.line
        )
    return first.fields


def reading(path: Path) -> AbstractContextManager[Callable[[int], None] | None]:
    """Return a context to read a file in, which shows that it is under way if the file is large."""
    large = path.stat().st_size > PROGRESS_FLOOR_BYTES
    return step(f"read {path.name}") if large else nullcontext()


def excerpt(text: str) -> str:
    """Return text as a message quotes it, cut where it is long."""
    return repr(text if len(text) <= EXCERPT_LENGTH else text[:EXCERPT_LENGTH] + "...")


def _read_lines(path: Path, encoding: str) -> Iterator[str]:
    with _open(path) as file:
        for number, raw in enumerate(_raw_lines(path, file), 1):
            if number == 1:
                raw = raw.removeprefix(BYTE_ORDER_MARK)  # spreadsheets write one
            try:
                yield raw.decode(encoding)
            except UnicodeDecodeError as error:
                raise DataError(
                    path,
                    f"expected {encoding.upper()} text, got the byte 0x{raw[error.start]:02x}; "
                    "convert the file",
                    line=number,
                ) from error


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _raw_lines(path: Path, file: Iterable[bytes]) -> Iterator[bytes]:
    try:
        yield from file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(path, f"expected a gzip file, got one that is broken ({error})") from error
