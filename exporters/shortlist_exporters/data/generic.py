"""Any recommender's data: interactions, items and users as CSV or Parquet, columns of any name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from shortlist_exporters.data import columns as convert
from shortlist_exporters.data.columns import ColumnError
from shortlist_exporters.data.dataset import Dataset
from shortlist_exporters.data.identity import first_duplicate, first_unknown
from shortlist_exporters.data.tabular import TabularFile

Conversion = Callable[[pa.ChunkedArray], pa.ChunkedArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnNames:
    """What the files call the columns that have a meaning of their own."""

    user: str = "user_id"
    """In the interactions."""
    item: str = "item_id"
    """In the interactions."""
    rating: str | None = "rating"
    """In the interactions; None if nothing was rated."""
    time: str | None = "time"
    """In the interactions; None if they are not dated. Holds whole seconds since 1970, timestamps,
    dates or ISO 8601 text."""
    item_id: str = "id"
    """In the items."""
    user_id: str = "id"
    """In the users."""
    item_lists: Mapping[str, str] = field(default_factory=dict)
    """Columns of the items that hold several values in one text, with the separator:
    {"genres": "|"}."""


STANDARD_NAMES = ColumnNames()


def load_interactions(
    interactions: Path,
    *,
    name: str,
    items: Path | None = None,
    users: Path | None = None,
    names: ColumnNames = STANDARD_NAMES,
    delimiter: str = ",",
) -> Dataset:
    """Load a data set from its own files, each CSV or Parquet.

    All columns of items and users become attributes, under their own names. Whole numbers become
    int64, other numbers double; in CSV files the types are inferred, and dates stay text.

    Args:
        interactions: One row for each thing that a user did with an item.
        name: Short name of the data set, becomes part of bundle names.
        items: One row an item. None: the items are those of the interactions, without
            attributes.
        users: One row a user. None: nothing is known of them but what they did.
        names: What the columns are called. Every named column must be there.
        delimiter: The character between the fields of all CSV files.

    Raises:
        DataError: a file or column is missing, a column has a type that is not supported, a value
            is malformed, an id occurs twice, or an interaction names an item that is not among the
            items. The message names the file, and the line (CSV) or row (Parquet).
    """
    source = TabularFile(path=interactions, delimiter=delimiter)
    events = _read_events(source, names)
    if items is None:
        item_table = pa.table({"id": pc.unique(events["item_id"])})
    else:
        item_source = TabularFile(path=items, delimiter=delimiter)
        item_table = _read_entities(item_source, names.item_id, names.item_lists)
        row = first_unknown(events["item_id"], item_table["id"])
        if row is not None:
            raise source.fault(
                f'expected an item of {items.name}, got id "{events["item_id"][row].as_py()}", '
                "which is not there; add the item or remove the interaction",
                row=row,
            )
    user_table = None
    if users is not None:
        user_source = TabularFile(path=users, delimiter=delimiter)
        user_table = _read_entities(user_source, names.user_id, {})
    return Dataset(
        name=name, simulated=False, interactions=events, items=item_table, users=user_table
    )


def read_table_file(
    path: Path,
    *,
    string_columns: Collection[str] = (),
    list_columns: Mapping[str, str] | None = None,
    time_columns: Collection[str] = (),
    delimiter: str = ",",
) -> pa.Table:
    """Read a CSV or Parquet file: all columns as string, int64, double, bool or a list of these.

    Args:
        path: A `.csv` or `.parquet` file.
        string_columns: Columns of text whatever they look like, such as ids. Those that the file
            does not have are passed over: who needs them finds out.
        list_columns: Columns that hold several values in one text, with the separator; they must
            exist.
        time_columns: Columns of points in time, to be int64 seconds since 1970; as for
            `string_columns`.
        delimiter: The character between the fields of a CSV file.

    Raises:
        DataError: the file cannot be read, a listed column is missing, a row is malformed, or a
            column has another type; the message names the file, and the line (CSV) or row
            (Parquet).
    """
    source = TabularFile(path=path, delimiter=delimiter)
    conversions: dict[str, Conversion] = dict.fromkeys(string_columns, convert.text)
    conversions |= dict.fromkeys(time_columns, convert.times)
    return _read_attributes(source, conversions, list_columns or {})


def _read_events(source: TabularFile, names: ColumnNames) -> pa.Table:
    found = source.column_names()
    roles: dict[str, tuple[str | None, Conversion, pa.DataType]] = {
        "user_id": (names.user, convert.ids, pa.string()),
        "item_id": (names.item, convert.ids, pa.string()),
        "rating": (names.rating, convert.ratings, pa.float32()),
        "time": (names.time, convert.times, pa.int64()),
    }
    wanted = [name for name, _, _ in roles.values() if name is not None]
    _check_present(source, found, wanted)
    chosen = list(dict.fromkeys(wanted))
    # As text: one bad cell would make Arrow take the whole CSV column for text, without a word.
    table = source.read(chosen, as_text=chosen)
    if len(table) == 0:
        raise source.fault("expected interactions, got none")
    present = {role: (name, conversion) for role, (name, conversion, _) in roles.items() if name}
    converted = _convert(source, table, present)
    return pa.table(
        {
            role: converted[role] if role in converted else pa.nulls(len(table), empty)
            for role, (_, _, empty) in roles.items()
        }
    )


def _read_entities(source: TabularFile, id_column: str, lists: Mapping[str, str]) -> pa.Table:
    found = source.column_names()
    _check_present(source, found, [id_column])
    if id_column != "id" and "id" in found:
        raise source.fault(
            f'expected no column "id" beside "{id_column}", which takes that name, got both; '
            "rename one"
        )
    table = _read_attributes(source, {id_column: convert.ids}, lists)
    rows = first_duplicate(table[id_column])
    if rows is not None:
        earlier, later = rows
        raise source.fault(
            f'expected ids that differ, got "{table[id_column][later].as_py()}" a second time '
            f"after {source.place(earlier)}; remove one of the two",
            row=later,
        )
    others = [name for name in found if name != id_column]
    return table.select([id_column, *others]).rename_columns(["id", *others])


def _read_attributes(
    source: TabularFile, conversions: Mapping[str, Conversion], lists: Mapping[str, str]
) -> pa.Table:
    found = source.column_names()
    _check_present(source, found, lists)
    table = source.read(as_text=[*conversions, *lists])
    chosen: dict[str, Conversion] = dict.fromkeys(found, convert.attribute)
    chosen |= {name: conversion for name, conversion in conversions.items() if name in found}
    chosen |= {name: partial(_split, separator=separator) for name, separator in lists.items()}
    return pa.table(_convert(source, table, {name: (name, chosen[name]) for name in found}))


def _split(column: pa.ChunkedArray, *, separator: str) -> pa.ChunkedArray:
    return convert.attribute(convert.lists(column, separator))


def _convert(
    source: TabularFile, table: pa.Table, plan: Mapping[str, tuple[str, Conversion]]
) -> dict[str, pa.ChunkedArray]:
    converted = {}
    faults = []
    for target, (name, conversion) in plan.items():
        try:
            converted[target] = conversion(table[name])
        except ColumnError as error:
            faults.append((-1 if error.row is None else error.row, name, error))
    if faults:
        # Of all columns' first faults the one that stands first in the file.
        _, name, fault = min(faults, key=lambda entry: entry[0])
        raise source.fault(f'column "{name}": {fault.problem}', row=fault.row) from fault
    return converted


def _check_present(source: TabularFile, found: list[str], wanted: Collection[str]) -> None:
    if missing := [name for name in wanted if name not in found]:
        raise source.fault(f'expected a column "{missing[0]}", got {", ".join(found)}')
