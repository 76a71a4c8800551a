"""Checks of single values, which every request shares."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shortlist_server.errors import FieldRequired, InvalidValue, OutOfRange

CANDIDATES_MAX = 4_096
LIMIT_MAX = 500
ID_BYTES_MAX = 256
MAGNITUDE_MAX = 1e15
"""Largest magnitude of a component or a weight: products and sums of them stay finite."""


def in_range(field: str, value: int, maximum: int, *, default: str) -> None:
    """Check that a number is between 0 and a maximum.

    Raises:
        OutOfRange: it is not; the error names the field.
    """
    if not 0 <= value <= maximum:
        raise OutOfRange(field, expected=f"1..{maximum}, or unset for {default}", got=str(value))


def count_at_most(field: str, count: int, maximum: int) -> None:
    """Check how many entries a field has; raises like `in_range`."""
    if count > maximum:
        raise OutOfRange(field, expected=f"at most {maximum} entries", got=str(count))


def ids(field: str, item_ids: Sequence[str]) -> None:
    """Check ids: 1 to 256 bytes each; raises FieldRequired and OutOfRange."""
    # A text has at most as many bytes as four times its characters: one pass over the lengths
    # clears most lists.
    if all(item_ids) and max(map(len, item_ids), default=0) <= ID_BYTES_MAX // 4:
        return
    for position, item_id in enumerate(item_ids):
        one_id(f"{field}[{position}]", item_id)


def one_id(field: str, item_id: str) -> None:
    """Check one id; raises like `ids`."""
    if not item_id:
        raise FieldRequired(
            field, expected=f"1..{ID_BYTES_MAX} bytes of UTF-8", got="an empty text"
        )
    text_at_most(field, item_id, ID_BYTES_MAX)


def text_at_most(field: str, text: str, maximum: int) -> None:
    """Check the length of a text, in bytes of UTF-8; raises like `in_range`."""
    if len(text) > maximum // 4 and (size := len(text.encode())) > maximum:
        raise OutOfRange(field, expected=f"at most {maximum} bytes of UTF-8", got=f"{size} bytes")


def finite(field: str, number: float) -> None:
    """Check that a number is finite.

    Raises:
        InvalidValue: it is not; the error names the field.
    """
    if not math.isfinite(number):
        raise InvalidValue(field, expected="a finite number", got=str(number))
