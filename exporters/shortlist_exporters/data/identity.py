"""What holds between the tables of a data set: ids are unique, references lead somewhere."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def first_duplicate(ids: pa.ChunkedArray) -> tuple[int, int] | None:
    """Return the first row that repeats an id, as (earlier, later); None if all ids differ."""
    if pc.count_distinct(ids, mode="all").as_py() == len(ids):
        return None
    rows: dict[str, int] = {}
    for row, value in enumerate(ids.to_pylist()):
        if value in rows:
            return rows[value], row
        rows[value] = row
    return None


def first_unknown(references: pa.ChunkedArray, ids: pa.ChunkedArray) -> int | None:
    """Return the first row whose reference is not among the ids; None if all are."""
    return first_false(pc.is_in(references, value_set=ids.combine_chunks()))


def first_false(values: pa.ChunkedArray) -> int | None:
    """Return the first row that is false or null; None if all are true."""
    row: int = pc.index(pc.fill_null(values, False), False).as_py()
    return None if row < 0 else row
