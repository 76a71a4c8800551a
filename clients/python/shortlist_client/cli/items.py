"""Items of the catalogue from files: lines of JSON, CSV, or ids alone."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from shortlist_client.cli.features import value_from_text
from shortlist_client.errors import InvalidValue
from shortlist_client.options import CatalogItem
from shortlist_client.queries import FeatureValue
from shortlist_client.results import FieldInfo, ValueType

FORM = '{"id": "42", "attributes": {"title": "Up", "year": 2009}, "vector": [0.1, ...]}'
JSON_LINES, CSV = "jsonl", "csv"


def format_of(file: str) -> str:
    """Return the format of a file by its name."""
    return CSV if file.lower().endswith(".csv") else JSON_LINES


def read_lines(file: str, expected: str) -> list[tuple[str, str]]:
    """Return the lines of a file that hold something, each with its place; `-` is standard input.

    Args:
        file: Its name.
        expected: What it should hold, for errors.

    Raises:
        InvalidValue: It cannot be read, or is empty.
    """
    lines = enumerate(_text(file, expected).split("\n"), start=1)
    found = [(f"{file}:{number}", line.strip()) for number, line in lines if line.strip()]
    if not found:
        raise _refused(file, expected, "none")
    return found


def read_json_lines(file: str) -> list[CatalogItem]:
    """Return the items of a file, one line of JSON each.

    Raises:
        InvalidValue: The file cannot be read, or a line is no item; the error names the line.
    """
    lines = read_lines(file, "a line of JSON for each item")
    return _each_once((place, _item(line, place)) for place, line in lines)


def read_csv(file: str, declared: Callable[[], Sequence[FieldInfo]]) -> list[CatalogItem]:
    """Return the items of a file, one row each: `id`, `vector` as a JSON list, and attributes.

    Args:
        file: Its name.
        declared: Returns the bundle's item attributes: those that it does not declare are text.

    Raises:
        InvalidValue: The file cannot be read, or a row is no item; the error names line and column.
    """
    # `newline=""`, as csv wants it: lines within a cell are the cell's.
    reader = csv.reader(io.StringIO(_text(file, "CSV with a header"), newline=""), strict=True)
    try:
        header = next(reader, [])
        if "id" not in header or len(set(header)) < len(header):
            raise _refused(f"{file}:1", "columns `id` and attributes, none twice", f"{header}")
        types = {field.name: field.type for field in declared()}
        rows = ((f"{file}:{reader.line_num}", row) for row in reader if row)
        items = _each_once((place, _of_row(header, row, types, place)) for place, row in rows)
    except csv.Error as error:
        raise _refused(f"{file}:{reader.line_num}", "CSV", str(error)) from error
    if not items:
        raise _refused(file, "a row for each item", "none")
    return items


def read_ids(file: str) -> list[str]:
    """Return the ids of a file, one in each line.

    Raises:
        InvalidValue: The file cannot be read, or is empty.
    """
    return [line for _, line in read_lines(file, "an id in each line")]


def _text(file: str, expected: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read()
        # With its line ends as they are, and without the mark that spreadsheets begin it with.
        return Path(file).read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise _refused(file, f"a file with {expected}", why) from error


def _each_once(items: Iterable[tuple[str, CatalogItem]]) -> list[CatalogItem]:
    places: dict[str, str] = {}
    found = []
    for place, item in items:
        if item.id in places:
            raise _refused(place, "each item once", f"{item.id!r}, as in {places[item.id]}")
        places[item.id] = place
        found.append(item)
    return found


def _item(line: str, place: str) -> CatalogItem:
    try:
        document: Any = json.loads(line)
    except ValueError as error:
        raise _refused(place, FORM, str(error)) from error
    if not isinstance(document, dict) or not isinstance(document.get("id"), str):
        raise _refused(place, FORM, line[:80])
    if unknown := sorted(set(document) - {"id", "attributes", "vector"}):
        raise _refused(place, FORM, f"{unknown[0]!r}, too")
    attributes, vector = document.get("attributes", {}), document.get("vector")
    if not isinstance(attributes, dict) or not isinstance(vector, list | None):
        raise _refused(place, FORM, line[:80])
    # None is no value, as where the attribute is absent.
    known = {name: value for name, value in attributes.items() if value is not None}
    return CatalogItem(document["id"], known, vector)


def _of_row(
    header: Sequence[str], row: Sequence[str], types: dict[str, ValueType], place: str
) -> CatalogItem:
    if len(row) != len(header):
        raise _refused(place, f"{len(header)} cells, as in the header", str(len(row)))
    item_id, attributes, vector = "", {}, None
    for name, cell in zip(header, row, strict=True):
        if name == "id":
            item_id = cell
        elif name == "vector" and name not in types:
            vector = _vector(cell, f"{place}: vector") if cell else None
        elif cell:
            attributes[name] = _value(cell, types.get(name, ValueType.STRING), f"{place}: {name}")
    if not item_id:
        raise _refused(f"{place}: id", "an id", "an empty cell")
    return CatalogItem(item_id, attributes, vector)


def _value(cell: str, kind: ValueType, place: str) -> FeatureValue:
    try:
        return value_from_text(cell, kind)
    except (KeyError, ValueError) as error:
        expected = f"{kind.lower()}, as the bundle declares it"
        raise _refused(place, expected, repr(cell)) from error


def _vector(cell: str, place: str) -> list[float]:
    try:
        vector = json.loads(cell)
    except ValueError as error:
        raise _refused(place, "a JSON list of numbers", str(error)) from error
    if not isinstance(vector, list):
        raise _refused(place, "a JSON list of numbers", repr(cell))
    return vector


def _refused(place: str, expected: str, got: str) -> InvalidValue:
    return InvalidValue.about(place, reason="INVALID_VALUE", expected=expected, got=got)
