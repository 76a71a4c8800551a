"""A single file of interactions, as data sets for recommenders are handed around.

    user item
    user item time                  fields separated by tabs, commas, "::" or spaces, with a first
    user item rating time           line of column names or without; .gz as well
    user item item item ...         what each user did, in order
    a .parquet file                 with such columns

Without names the first line says which it is; where it could be two, the file is refused, and a
line of names says it. Every other line must be like the first: a malformed one is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from shortlist_exporters.data import columns as convert
from shortlist_exporters.data.columns import WHOLE_NUMBER, ColumnError
from shortlist_exporters.data.dataset import Dataset
from shortlist_exporters.data.delimited import TextLayout, TextRow, excerpt, read_rows, reading
from shortlist_exporters.data.generic import ColumnNames, load_interactions
from shortlist_exporters.data.tabular import PARQUET_SUFFIX, TabularFile
from shortlist_exporters.errors import DataError

NAMES = {
    "user_id": ("user_id", "userid", "user"),
    "item_id": ("item_id", "itemid", "item", "movie_id", "movieid"),
    "items": ("items", "item_ids"),
    "rating": ("rating", "score"),
    "time": ("time", "timestamp", "date"),
}
"""What columns are called, in small letters."""
TIME_MIN = 100_000_000
"""A last field from here on, a second of 1973, is a time where nothing names it."""
LISTS = ("user_id", "items")


def load_interaction_file(path: Path) -> Dataset:
    """Load a data set that is one file; its items are those that occur, without attributes.

    Raises:
        DataError: the file cannot be read, it is not clear what its fields are, or a line is
            malformed; the message names the file, and the line or row.
    """
    if path.suffix.lower() == PARQUET_SUFFIX:
        return _load_parquet(path)
    layout, first = _sniff(path)
    roles = _named(first.fields)
    if roles is not None and len(set(roles)) < len(roles):
        twice = next(role for role in roles if roles.count(role) > 1)
        raise DataError(path, f"expected one column {twice}, got two", line=first.line)
    columns = _Columns(path=path, roles=roles or _guessed(path, first, layout), layout=layout)
    rows = read_rows(path, layout)
    if roles is not None:
        next(rows)
    with reading(path):
        events = columns.lists(rows) if columns.roles == LISTS else columns.table(rows)
    return Dataset(
        name=path.name.split(".")[0] or "interactions",
        simulated=False,
        interactions=events,
        items=pa.table({"id": pc.unique(events["item_id"])}),
        users=None,
    )


def _load_parquet(path: Path) -> Dataset:
    found = TabularFile(path=path).column_names()
    roles = dict(zip(_roles(found), found, strict=True))
    if not {"user_id", "item_id"} <= set(roles):
        raise DataError(
            path, f"expected the columns user_id and item_id, got {', '.join(map(str, found))}"
        )
    names = ColumnNames(
        user=roles["user_id"],
        item=roles["item_id"],
        rating=roles.get("rating"),
        time=roles.get("time"),
    )
    return load_interactions(path, name=path.stem, names=names)


def _sniff(path: Path) -> tuple[TextLayout, TextRow]:
    whole = TextLayout(separator="\n")
    first = next(read_rows(path, whole), None)
    if first is None:
        raise DataError(path, "expected interactions, got an empty file")
    text = first.fields[0]
    separator = next((mark for mark in ("\t", "::", ",") if mark in text), " ")
    layout = TextLayout(separator=separator, quoted=separator == ",")
    return layout, next(read_rows(path, layout))


def _named(fields: Sequence[str]) -> tuple[str, ...] | None:
    """Return what the fields of a line of names are; None where it is none."""
    roles = _roles(fields)
    if "user_id" not in roles:
        return None
    return roles if {"item_id", "items"} & set(roles) else None


def _roles(fields: Sequence[str]) -> tuple[str, ...]:
    """Return the role of each column by its name; its own name where it has none."""
    known = {name: role for role, names in NAMES.items() for name in names}
    return tuple(known.get(field.strip().lower(), f"other {field}") for field in fields)


def _guessed(path: Path, first: TextRow, layout: TextLayout) -> tuple[str, ...]:
    fields = [field.strip() for field in first.fields]
    last = fields[-1]
    dated = bool(WHOLE_NUMBER.fullmatch(last)) and int(last) >= TIME_MIN
    if len(fields) == 2:
        return ("user_id", "item_id")
    if len(fields) == 3 and dated:
        return ("user_id", "item_id", "time")
    if len(fields) == 4 and dated and convert.NUMBER.fullmatch(fields[2]):
        return ("user_id", "item_id", "rating", "time")
    if len(fields) > 3 and not dated:
        return LISTS
    raise DataError(
        path,
        f"expected user item, user item time, user item rating time, or user and items, got "
        f"{excerpt(layout.separator.join(fields))}, which may be several; put a line of names "
        'first, such as "user item rating" or "user items"',
        line=first.line,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Turns rows of text into interactions."""

    path: Path
    roles: tuple[str, ...]
    layout: TextLayout

    def table(self, rows: Iterable[TextRow]) -> pa.Table:
        """Return what one interaction a row says."""
        lines: list[int] = []
        cells: list[list[str]] = [[] for _ in self.roles]
        for row in rows:
            if len(row.fields) != len(self.roles):
                names = ", ".join(role.removeprefix("other ") for role in self.roles)
                raise self._fault(row, f"{len(self.roles)} fields ({names})")
            lines.append(row.line)
            for column, field in zip(cells, row.fields, strict=True):
                column.append(field.strip())
        return self._converted(dict(zip(self.roles, cells, strict=True)), lines)

    def lists(self, rows: Iterable[TextRow]) -> pa.Table:
        """Return what rows of a user and items say; a user without items did nothing."""
        lines: list[int] = []
        users: list[str] = []
        items: list[str] = []
        for row in rows:
            # A separator at the end of a line is common, and no item.
            user, *named = (field.strip() for field in row.fields)
            while named and not named[-1]:
                named.pop()
            users += [user] * len(named)
            items += named
            lines += [row.line] * len(named)
        return self._converted({"user_id": users, "item_id": items}, lines)

    def _converted(self, cells: Mapping[str, list[str]], lines: Sequence[int]) -> pa.Table:
        if not lines:
            raise DataError(self.path, "expected interactions, got none")
        events = {
            "rating": pa.nulls(len(lines), pa.float32()),
            "time": pa.nulls(len(lines), pa.int64()),
        }
        for role, conversion in CONVERSIONS.items():
            if role not in cells:
                continue
            column = pa.chunked_array([pa.array(cells[role], pa.string())])
            if role in ("rating", "time"):
                column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
            try:
                events[role] = conversion(column)
            except ColumnError as error:
                line = None if error.row is None else lines[error.row]
                raise DataError(self.path, f"{role}: {error.problem}", line=line) from error
        return pa.table({role: events[role] for role in CONVERSIONS})

    def _fault(self, row: TextRow, expected: str) -> DataError:
        return DataError(
            self.path,
            f"expected {expected} separated by {self.layout.separator_name}, got "
            f"{len(row.fields)} in {excerpt(self.layout.separator.join(row.fields))}; correct or "
            "remove the line",
            line=row.line,
        )


CONVERSIONS: dict[str, Callable[[pa.ChunkedArray], pa.ChunkedArray]] = {
    "user_id": convert.ids,
    "item_id": convert.ids,
    "rating": convert.ratings,
    "time": convert.times,
}
