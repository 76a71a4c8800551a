"""The ratings file of a MovieLens data set, up to 32 million rows, as interactions.

Arrow parses and checks the whole file at once. Only if that finds something wrong is the file read
again line by line, to say which line it is.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from shortlist_exporters.data.columns import NUMBER, TIME_MAX, WHOLE_NUMBER
from shortlist_exporters.data.delimited import (
    TextLayout,
    excerpt,
    read_header,
    read_rows,
    reading,
)
from shortlist_exporters.data.identity import first_false
from shortlist_exporters.errors import DataError

RATING_MIN = 0.5
RATING_MAX = 5.0
HEADER = ["userId", "movieId", "rating", "timestamp"]

FIELDS = ("user_id", "item_id", "rating", "time")


def read_ratings(path: Path, layout: TextLayout) -> pa.Table:
    """Read a ratings file: user, item, rating, time.

    Args:
        path: `u.data`, `ratings.dat` or `ratings.csv`.
        layout: How it is written; the separator is one character, or one character twice.

    Returns:
        A table as `Dataset.interactions`, in the order of the file.

    Raises:
        DataError: the file holds no ratings, or a row is malformed; the first such line is named.
    """
    if layout.header and (header := read_header(path, layout)) != HEADER:
        raise DataError(path, f"expected the columns {HEADER}, got {header}", line=1)
    try:
        with reading(path):
            table = _parse(path, layout)
    except pa.ArrowInvalid as error:
        _raise_first_malformed(path, layout, str(error))
    if len(table) == 0:
        raise DataError(path, "expected ratings, got none; download the data set again")
    if first_false(_validity(table)) is not None:
        _raise_first_malformed(path, layout, "a value is out of range")
    return table


def _parse(path: Path, layout: TextLayout) -> pa.Table:
    types = {
        "user_id": pa.string(),
        "item_id": pa.string(),
        "rating": pa.float32(),
        "time": pa.int64(),
    }
    names = list(FIELDS)
    if len(layout.separator) == 2:
        # Arrow's separator is one character: "a::b" is read as a, nothing, b, and the column of
        # nothings has the null type, so that anything in it is an error.
        names = [name for field in FIELDS for name in (field, f"after {field}")][:-1]
        types |= {name: pa.null() for name in names if name not in FIELDS}
    if path.stat().st_size == 0:
        return pa.table({field: pa.array([], types[field]) for field in FIELDS})
    table = csv.read_csv(
        path,
        read_options=csv.ReadOptions(column_names=names, skip_rows=int(layout.header)),
        parse_options=csv.ParseOptions(
            delimiter=layout.separator[0], quote_char='"' if layout.quoted else False
        ),
        convert_options=csv.ConvertOptions(column_types=types, null_values=[""]),
    )
    return table.select(list(FIELDS))


def _validity(table: pa.Table) -> pa.ChunkedArray:
    # NaN compares as false with everything, null as null: both come out as not valid.
    checks = (
        pc.greater(pc.binary_length(table["user_id"]), 0),
        pc.greater(pc.binary_length(table["item_id"]), 0),
        pc.greater_equal(table["rating"], RATING_MIN),
        pc.less_equal(table["rating"], RATING_MAX),
        pc.greater_equal(table["time"], 0),
        pc.less_equal(table["time"], TIME_MAX),
    )
    valid = checks[0]
    for check in checks[1:]:
        valid = pc.and_(valid, check)
    return valid


def _raise_first_malformed(path: Path, layout: TextLayout, cause: str) -> NoReturn:
    rows = read_rows(path, layout)
    if layout.header:
        next(rows)
    for row in rows:
        if problem := _problem(row.fields, layout):
            raise DataError(path, f"{problem}; correct or remove the line", line=row.line)
    # Arrow is stricter than the scan somewhere: better its own words, without a line, than nothing.
    raise DataError(path, f"expected ratings, got rows that cannot be read: {cause}")


def _problem(fields: list[str], layout: TextLayout) -> str | None:
    if len(fields) != len(FIELDS):
        return (
            f"expected 4 fields (user, item, rating, time) separated by {layout.separator_name}, "
            f"got {len(fields)} in {excerpt(layout.separator.join(fields))}"
        )
    user_id, item_id, rating, time = fields
    if not user_id:
        return "expected a user id, got nothing"
    if not item_id:
        return "expected an item id, got nothing"
    number = float(rating) if NUMBER.fullmatch(rating.strip()) else math.nan
    if not RATING_MIN <= number <= RATING_MAX:
        return f"expected a rating from {RATING_MIN} to {RATING_MAX}, got {excerpt(rating)}"
    if not WHOLE_NUMBER.fullmatch(time.strip()) or not 0 <= int(time) <= TIME_MAX:
        return (
            f"expected a time in whole seconds since 1970-01-01 UTC, from 0 to {TIME_MAX}, "
            f"got {excerpt(time)}"
        )
    return None
