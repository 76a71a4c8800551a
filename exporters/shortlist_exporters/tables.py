"""Tables of items, users and interactions, from files to the columns of a bundle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from shortlist_server.bundle.columns import ColumnArray

from shortlist_exporters.data.generic import read_table_file
from shortlist_exporters.errors import SpecError
from shortlist_exporters.spec import InteractionsSpec, TableSpec

ID_BYTES_MAX = 256

VALUE_TYPES = {"string": "string", "int64": "int64", "double": "double", "bool": "bool"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Items or users, one row each."""

    ids: list[str]
    columns: list[ColumnArray]

    @property
    def by_name(self) -> Mapping[str, ColumnArray]:
        """The columns by name."""
        return {column.name: column for column in self.columns}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interactions:
    """What users did, as rows of the items; a user's in order, oldest first."""

    user_ids: list[str]
    """Distinct ids, in order of first appearance."""
    offsets: NDArray[np.int64]
    """int64 [users + 1]: user i did `item_rows[offsets[i]:offsets[i + 1]]`."""
    item_rows: NDArray[np.int64]
    item_count: int

    def popularity(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return all items that anybody did something with, and how often; most often first, then
        by row.
        """
        counts = np.bincount(self.item_rows, minlength=self.item_count)
        rows = np.lexsort((np.arange(self.item_count), -counts))
        rows = rows[counts[rows] > 0].astype(np.int64)
        return rows, counts[rows].astype(np.float32)

    def history(self, user_id: str) -> NDArray[np.int64]:
        """Return the items of one user, oldest first; none if he did nothing."""
        if user_id not in self.user_ids:
            return np.empty(0, np.int64)
        position = self.user_ids.index(user_id)
        return self.item_rows[self.offsets[position] : self.offsets[position + 1]]

    def seen(self, user_ids: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the items of these users, as offsets int64 [users + 1] and rows int64 [total]."""
        positions = {user_id: position for position, user_id in enumerate(self.user_ids)}
        parts = []
        offsets = np.zeros(len(user_ids) + 1, np.int64)
        for place, user_id in enumerate(user_ids):
            position = positions.get(user_id)
            if position is not None:
                parts.append(self.item_rows[self.offsets[position] : self.offsets[position + 1]])
            offsets[place + 1] = offsets[place] + (0 if position is None else len(parts[-1]))
        return offsets, np.concatenate(parts) if parts else np.empty(0, np.int64)


def read_table(spec: TableSpec, folder: Path, what: str) -> Table:
    """Read a table of items or users.

    Args:
        spec: Which file, and which of its columns.
        folder: What the spec's paths are relative to.
        what: `items` or `users`, for messages.

    Raises:
        DataError: the file cannot be read, or a row is malformed; the message names file and line.
        SpecError: a column that the spec names is missing, an id is repeated, empty or too long.
    """
    path = folder / spec.file
    table = read_table_file(path, string_columns=[spec.id], list_columns=spec.lists)
    wanted = [spec.id, *(spec.columns if spec.columns is not None else table.column_names)]
    if missing := [name for name in wanted if name not in table.column_names]:
        raise SpecError(
            f"{what}: {path}: expected a column {missing[0]!r}, got {table.column_names}"
        )
    ids = table[spec.id].to_pylist()
    _check_ids(ids, f"{what}: {path}")
    if not ids:
        raise SpecError(f"{what}: {path}: expected a row or more, got none")
    names = list(dict.fromkeys(name for name in wanted if name != spec.id))
    return Table(ids=ids, columns=[_column(name, table[name], f"{what}: {path}") for name in names])


def text_columns(columns: Iterable[ColumnArray]) -> dict[str, list[Any]]:
    """Return the cells of the columns of texts and of lists of texts, by name."""
    return {
        column.name: column.tolist()
        for column in columns
        if column.type in ("string", "string_list")
    }


def read_interactions(
    spec: InteractionsSpec | None, folder: Path, items: Table
) -> Interactions | None:
    """Read what users did; None where the spec names no file.

    Raises:
        DataError: the file cannot be read, or a row is malformed.
        SpecError: a column is missing, or an item is not among the items.
    """
    if spec is None:
        return None
    path = folder / spec.file
    table = read_table_file(
        path, string_columns=[spec.user, spec.item], time_columns=[spec.time] if spec.time else []
    )
    for name in filter(None, (spec.user, spec.item, spec.time)):
        if name not in table.column_names:
            raise SpecError(
                f"interactions: {path}: expected a column {name!r}, got {table.column_names}"
            )
    if spec.time is not None:
        # Arrow's sort is not stable: the file's own order breaks ties.
        numbered = table.append_column("__row", pa.array(range(len(table))))
        table = numbered.sort_by([(spec.time, "ascending"), ("__row", "ascending")])
    rows = {item_id: row for row, item_id in enumerate(items.ids)}
    of_user: dict[str, list[int]] = {}
    for user_id, item_id in zip(
        table[spec.user].to_pylist(), table[spec.item].to_pylist(), strict=True
    ):
        row = rows.get(item_id)
        if row is None:
            raise SpecError(
                f"interactions: {path}: expected items of the item table, got {item_id!r}"
            )
        if not user_id or len(user_id.encode()) > ID_BYTES_MAX:
            raise SpecError(
                f"interactions: {path}: expected user ids of 1 to {ID_BYTES_MAX} bytes, got "
                f"{user_id!r} (with item {item_id!r})"
            )
        of_user.setdefault(user_id, []).append(row)
    offsets = np.zeros(len(of_user) + 1, np.int64)
    np.cumsum([len(done) for done in of_user.values()], out=offsets[1:])
    return Interactions(
        user_ids=list(of_user),
        offsets=offsets,
        item_rows=np.array([row for done in of_user.values() for row in done], np.int64),
        item_count=len(items.ids),
    )


def join_users(table: Table | None, interactions: Interactions | None) -> Table | None:
    """Return the known users: those of the table, then those who only did something."""
    if interactions is None:
        return table
    known = [] if table is None else table.ids
    more = sorted(set(interactions.user_ids) - set(known))
    if not more:
        return table
    columns = [] if table is None else table.columns
    return Table(
        ids=[*known, *more],
        columns=[
            ColumnArray.of(column.name, column.type, column.tolist() + [None] * len(more))
            for column in columns
        ],
    )


def read_tokens(path: Path, kind: str) -> list[str] | list[int]:
    """Read a vocabulary, in order: a text file with one token a line, or a JSON list.

    Args:
        path: The file.
        kind: `string` or `int64`.

    Raises:
        SpecError: it cannot be read, or a token is not of that type.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tokens: Any = (
            json.loads(text) if path.suffix == ".json" else text.removesuffix("\n").split("\n")
        )
        if kind == "int64" and path.suffix != ".json":
            tokens = [int(token) for token in tokens]
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: expected a vocabulary of type {kind}: {error}") from error
    wanted = int if kind == "int64" else str
    if not isinstance(tokens, list) or any(type(token) is not wanted for token in tokens):
        raise SpecError(f"{path}: expected a list of tokens of type {kind}, got something else")
    if kind == "int64" and any(not -(2**63) <= token < 2**63 for token in tokens):
        raise SpecError(f"{path}: expected 64-bit integers, got a larger one")
    return tokens


def _check_ids(ids: list[Any], where: str) -> None:
    seen: dict[str, int] = {}
    for row, item_id in enumerate(ids):
        if not item_id or len(item_id.encode()) > ID_BYTES_MAX:
            raise SpecError(
                f"{where}: row {row + 1}: expected an id of 1 to {ID_BYTES_MAX} bytes, got "
                f"{item_id!r}"
            )
        if item_id in seen:
            raise SpecError(
                f"{where}: row {row + 1}: id {item_id!r} stands in row {seen[item_id] + 1} already"
            )
        seen[item_id] = row


def _column(name: str, values: pa.ChunkedArray, where: str) -> ColumnArray:
    kind = values.type
    suffix = ""
    if pa.types.is_list(kind):
        kind, suffix = kind.value_type, "_list"
    if str(kind) not in VALUE_TYPES:
        raise SpecError(
            f"{where}: column {name!r}: expected {', '.join(VALUE_TYPES)} or a list of one of "
            f"them, got {values.type}"
        )
    return ColumnArray.of(name, VALUE_TYPES[str(kind)] + suffix, values.to_pylist())
