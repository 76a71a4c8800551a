"""Texts of items that a service is still to embed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingText:
    """The text of an item that has no point yet."""

    item_id: str
    revision: int
    """Of the change that brought it."""
    text: str
    problem: str = ""
    """Why it has none; empty where nothing has gone wrong so far."""


class PendingTexts:
    """Those of one bundle's items, in the order in which they are to be embedded."""

    def __init__(self) -> None:
        """Begin with none."""
        self._texts: dict[str, PendingText] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[PendingText]:
        return iter(list(self._texts.values()))

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._texts

    def add(self, text: PendingText) -> None:
        """Have a text embedded, after those that are there."""
        self.drop(text.item_id)
        self._texts[text.item_id] = text

    def drop(self, item_id: str) -> None:
        """Leave out what an item has; it may have none."""
        self._texts.pop(item_id, None)

    def first(self, count: int) -> list[PendingText]:
        """Return those that are next, at most so many."""
        return list(islice(self._texts.values(), count))

    def still(self, texts: Sequence[PendingText]) -> list[int]:
        """Return the places of those whose items have the same text still."""
        return [
            place
            for place, text in enumerate(texts)
            if (own := self._texts.get(text.item_id)) and own.revision == text.revision
        ]

    def put_last(self, texts: Sequence[PendingText], problem: str) -> None:
        """Note why texts have no points, and have them embedded after the others."""
        for place in self.still(texts):
            self.add(replace(texts[place], problem=problem))
