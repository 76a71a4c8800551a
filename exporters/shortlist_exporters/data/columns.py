"""Columns of any file, brought to the types that `Dataset` promises.

Each function takes one column and returns it converted, or raises a ColumnError; who knows the file
turns that into a DataError that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from shortlist_exporters.data.delimited import excerpt
from shortlist_exporters.data.identity import first_false

ID_BYTES_MAX = 256
TIME_MAX = 253_402_300_799
"""The last second of the year 9999; what is above is milliseconds by mistake."""

# What both Arrow and Python take as numbers; Python alone would also take "1_0" and "+1".
NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


class ColumnError(Exception):
    """A column, or one value in it, is not what it must be.

    Args:
        problem: What was expected and what came.
        row: Which row, from 0; None if it is the column as a whole.
    """

    def __init__(self, problem: str, *, row: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.row = row


def text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return whole numbers and text as text; nulls stay."""
    column = _without_dictionary(column)
    if not (_is_text(column.type) or pa.types.is_integer(column.type)):
        raise ColumnError(f"expected text or whole numbers, got the type {column.type}")
    return column.cast(pa.string())


def ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return ids as text: none null, 1 to 256 bytes each."""
    values = text(column)
    length = pc.binary_length(values)
    row = first_false(pc.and_(pc.greater(length, 0), pc.less_equal(length, ID_BYTES_MAX)))
    if row is not None:
        value = values[row].as_py()
        got = excerpt(value) if value else "nothing"
        raise ColumnError(f"expected an id of 1 to {ID_BYTES_MAX} bytes, got {got}", row=row)
    return values


def ratings(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return numbers, or text that holds numbers, as float32: finite or null."""
    column = _without_dictionary(column)
    expected = "expected a finite number"
    if _is_text(column.type):
        try:
            values = column.cast(pa.float32())
        except pa.ArrowInvalid:
            raise _first_unlike(
                column, expected, lambda cell: bool(NUMBER.fullmatch(cell))
            ) from None
    elif _is_number(column.type) or pa.types.is_null(column.type):
        # Not safe: counts above 2^24 lose their last digits in float32, which is no error here.
        values = column.cast(pa.float32(), safe=False)
    else:
        raise ColumnError(f"expected numbers, got the type {column.type}")
    row = first_false(pc.fill_null(pc.is_finite(values), True))
    if row is not None:
        raise ColumnError(f"{expected}, got {column[row].as_py()}", row=row)
    return values


def times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return points in time as int64 seconds since 1970-01-01 UTC; nulls stay.

    Takes whole seconds, timestamps, dates, and text that holds seconds or ISO 8601; what names no
    zone is UTC.
    """
    column = _without_dictionary(column)
    if _is_text(column.type):
        values = _times_of_text(column)
    elif pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        values = column.cast(pa.int64())
    elif pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        zone = column.type.tz if pa.types.is_timestamp(column.type) else None
        values = column.cast(pa.timestamp("s", tz=zone), safe=False).cast(pa.int64())
    else:
        raise ColumnError(
            f"expected whole seconds, timestamps, dates or ISO 8601 text, got the type "
            f"{column.type}"
        )
    in_range = pc.and_(pc.greater_equal(values, 0), pc.less_equal(values, TIME_MAX))
    row = first_false(pc.fill_null(in_range, True))
    if row is not None:
        hint = " (milliseconds?)" if values[row].as_py() > TIME_MAX else ""
        raise ColumnError(
            f"expected seconds since 1970-01-01 UTC, from 0 to {TIME_MAX}, got "
            f"{column[row].as_py()}{hint}",
            row=row,
        )
    return values


def attribute(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return an attribute as string, int64, double, bool or a list of one of these; nulls stay."""
    column = _without_dictionary(column)
    target = _attribute_type(column.type)
    if target is None:
        raise ColumnError(
            "expected string, integer, floating point, bool or a list of one of these, got the "
            f"type {column.type}; convert or remove the column"
        )
    try:
        return column.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ColumnError(
            f"expected values that fit {target}, got {column.type}: {error}"
        ) from error


def lists(column: pa.ChunkedArray, separator: str) -> pa.ChunkedArray:
    """Return text split into lists; what is a list already stays as it is.

    Spaces around an entry and empty entries are dropped; null and the empty text become the empty
    list.
    """
    column = _without_dictionary(column)
    if _list_value_type(column.type) is not None:
        return column
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not _is_text(column.type):
        raise ColumnError(f"expected text to split at {separator!r}, got the type {column.type}")
    cells = (
        [entry.strip() for entry in (cell or "").split(separator) if entry.strip()]
        for cell in column.to_pylist()
    )
    return pa.chunked_array([pa.array(cells, pa.list_(pa.string()))])


def _times_of_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    # Arrow converts a column in which all cells look the same; Python, slowly, any mixture.
    for target in (pa.int64(), pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            values = column.cast(target)
        except pa.ArrowInvalid:
            continue
        return values if target == pa.int64() else times(values)
    expected = "expected whole seconds or an ISO 8601 time"
    fault = _first_unlike(column, expected, lambda cell: _seconds(cell) is not None)
    if fault.row is not None:
        raise fault
    seconds = (None if cell is None else _seconds(cell) for cell in column.to_pylist())
    return pa.chunked_array([pa.array(seconds, pa.int64())])


def _seconds(cell: str) -> int | None:
    if WHOLE_NUMBER.fullmatch(cell):
        return int(cell)
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _first_unlike(
    column: pa.ChunkedArray, expected: str, is_like: Callable[[str], bool]
) -> ColumnError:
    for row, cell in enumerate(column.to_pylist()):
        if cell is not None and not is_like(cell):
            return ColumnError(f"{expected}, got {excerpt(cell)}", row=row)
    return ColumnError(f"{expected}, got text that cannot be converted")


def _attribute_type(given: pa.DataType) -> pa.DataType | None:
    value = _list_value_type(given)
    if value is not None:
        single = None if _list_value_type(value) is not None else _attribute_type(value)
        return None if single is None else pa.list_(single)
    if _is_text(given) or pa.types.is_null(given):
        return pa.string()
    if pa.types.is_integer(given):
        return pa.int64()
    if pa.types.is_floating(given):
        return pa.float64()
    return pa.bool_() if pa.types.is_boolean(given) else None


def _list_value_type(given: pa.DataType) -> pa.DataType | None:
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return given.value_type if any(is_kind(given) for is_kind in kinds) else None


def _is_text(given: pa.DataType) -> bool:
    return bool(pa.types.is_string(given) or pa.types.is_large_string(given))


def _is_number(given: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(is_kind(given) for is_kind in kinds)


def _without_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
