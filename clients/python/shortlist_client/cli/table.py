"""A table of text, as wide as its letters are on a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shortlist_client.cli.screen import BOLD, styled
from shortlist_client.values import AttributeValue

_GAP = "  "
_WIDTH_MIN = 6
"""Text columns are cut no shorter than this; then the line's end is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column, from its title down."""

    title: str
    cells: Sequence[str]
    numeric: bool = False
    """Aligned to the right, and never cut: half a number is a wrong number."""


def table_lines(columns: Sequence[Column], *, width_max: int | None) -> list[str]:
    """Return the header and one line for each row.

    Args:
        columns: At least one, all of the same length.
        width_max: Terminal columns to stay within: text is cut where it is longest. None: no limit.
    """
    texts = [[printable(cell) for cell in (column.title, *column.cells)] for column in columns]
    widths = _fitted_widths(
        [max(map(width, cells)) for cells in texts],
        [column.numeric for column in columns],
        width_max,
    )
    lines = []
    for cells in zip(*texts, strict=True):
        padded = [
            _padded(cut(cell, room), room, right=column.numeric)
            for cell, room, column in zip(cells, widths, columns, strict=True)
        ]
        line = _GAP.join(padded).rstrip()
        lines.append(line if width_max is None else cut(line, width_max))
    return lines


def property_lines(properties: Mapping[str, str]) -> list[str]:
    """Return one line for each property, the values below each other."""
    room = max(map(len, properties))
    return [
        f"{styled(name.ljust(room), BOLD)}  {printable(value)}"
        for name, value in properties.items()
    ]


def value_text(value: AttributeValue) -> str:
    """Return a value as people write it."""
    if isinstance(value, tuple):
        return ", ".join(map(value_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def width(text: str) -> int:
    """Return how many terminal columns a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_letter_width, text))


def cut(text: str, width_max: int) -> str:
    """Return the text, or as much of its beginning as leaves room for an ellipsis."""
    if width(text) <= width_max:
        return text
    kept: list[str] = []
    room = width_max - 1
    for letter in text:
        room -= _letter_width(letter)
        if room < 0:
            break
        kept.append(letter)
    return "".join(kept).rstrip() + "…"


def printable(text: str) -> str:
    """Return the text on one line, and unable to move the cursor or to turn colours on."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _substitute(letter) for letter in text)


def _substitute(letter: str) -> str:
    category = unicodedata.category(letter)
    if letter in "\t\n\r" or category.startswith("Z"):
        return " "
    # Invisible anyway: joiners, and marks that turn the writing direction of all that follows.
    return "" if category == "Cf" else "�"


def _letter_width(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _fitted_widths(widths: list[int], numeric: list[bool], width_max: int | None) -> list[int]:
    """Take from the widest text columns what is too much."""
    fitted = list(widths)
    if width_max is None:
        return fitted
    excess = sum(fitted) + len(_GAP) * (len(fitted) - 1) - width_max
    for _ in range(excess):
        cuttable = [i for i, fixed in enumerate(numeric) if not fixed and fitted[i] > _WIDTH_MIN]
        if not cuttable:
            break
        fitted[max(cuttable, key=fitted.__getitem__)] -= 1
    return fitted


def _padded(text: str, room: int, *, right: bool) -> str:
    padding = " " * (room - width(text))
    return padding + text if right else text + padding
