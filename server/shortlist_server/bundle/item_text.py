"""What an item's text is made of, alike where a bundle is built and where items change."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_TO_SPACE = {"Cc", "Zl", "Zp"}
"""Categories of control characters, and of breaks of lines and paragraphs."""


def clean_text(text: str) -> str:
    """Return a text without control characters, and with one space wherever there was white space
    or one of them.
    """
    spaced = "".join(" " if unicodedata.category(sign) in _TO_SPACE else sign for sign in text)
    return " ".join(spaced.split())


def item_text(values: Sequence[str | Sequence[str] | None]) -> str:
    """Return an item's text of the values of its attributes, in order; empty where they say
    nothing. A list is joined by commas.
    """
    parts = (
        "" if value is None else value if isinstance(value, str) else ", ".join(value)
        for value in values
    )
    return ". ".join(part for part in map(clean_text, parts) if part)
