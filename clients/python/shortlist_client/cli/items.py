"""Items of the catalogue as lines of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from shortlist_client.errors import InvalidValue
from shortlist_client.options import CatalogItem

ITEMS_MAX = 1_000
"""Most items of one call."""
FORM = '{"id": "42", "attributes": {"title": "Up", "year": 2009}, "vector": [0.1, ...]}'


def read_items(file: str) -> list[CatalogItem]:
    """Return the items of a file, one line of JSON each; `-` is standard input.

    Raises:
        InvalidValue: The file cannot be read, or a line is no item; the error names the line.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(file, "a file with a line of JSON for each item", str(error)) from error
    lines = enumerate(text.splitlines(), start=1)
    items = [_item(line, f"{file}:{number}") for number, line in lines if line.strip()]
    if not items:
        raise _refused(file, "a line of JSON for each item", "none")
    return items


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


def _refused(place: str, expected: str, got: str) -> InvalidValue:
    return InvalidValue.about(place, reason="INVALID_VALUE", expected=expected, got=got)
