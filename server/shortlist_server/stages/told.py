"""What a language model is told of a user and of items, and under which names."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from shortlist_server.funnel.arrays import Rows
from shortlist_server.funnel.stages import Catalog
from shortlist_server.funnel.types import ResolvedQuery
from shortlist_server.llm.prompt import (
    SEARCH_CHARS_MAX,
    TEXT_CHARS_MAX,
    clean,
    described,
)


class Shown(Protocol):
    """What a prompt says of how items are shown."""

    @property
    def title(self) -> str:
        """The item attribute that is an item's title."""

    @property
    def attributes(self) -> tuple[str, ...] | None:
        """Other attributes that are shown, in order; None: the first of those that there are."""


def profile(
    query: ResolvedQuery,
    catalog: Catalog,
    prompt: Shown,
    *,
    history_count: int,
    rated_first: bool = False,
) -> dict[str, Any]:
    """Return what is known of the user.

    Args:
        query: The query.
        catalog: The items.
        prompt: How they are shown.
        history_count: Most events of the history, the newest, and most items that others are
            wanted like.
        rated_first: Whether events with a rating go before those without one, where not all are
            shown; they stand in the order in which they happened all the same.
    """
    history: list[dict[str, Any]] = []
    for position in _positions(query, history_count, rated_first=rated_first):
        entry = item(catalog, int(query.history_rows[position]), prompt)
        if query.history:
            event = query.history[position]
            if event.rating is not None:
                entry["rating"] = round(event.rating, 2)
            if event.action:
                entry["action"] = clean(event.action, TEXT_CHARS_MAX)
        history.append(entry)
    told: dict[str, Any] = {"history": history}
    if examples := query.example_rows[:history_count].tolist():
        told["like"] = [item(catalog, row, prompt) for row in examples]
    if query.text:
        told["search"] = clean(query.text, SEARCH_CHARS_MAX)
    return told


def item(catalog: Catalog, row: int, prompt: Shown) -> dict[str, Any]:
    """Return an item as it is shown."""
    return described(catalog, row, title=prompt.title, attributes=prompt.attributes)


def items(catalog: Catalog, rows: Rows, prompt: Shown) -> list[dict[str, Any]]:
    """Return items as they are shown, each under its handle."""
    names = handles(len(rows))
    return [
        {"handle": handle, **item(catalog, row, prompt)}
        for handle, row in zip(names, rows.tolist(), strict=True)
    ]


def nothing_to_ask(query: ResolvedQuery, catalog: Catalog) -> str:
    """Return why a language model could not judge; empty where it could."""
    if not len(query.history_rows) and not len(query.example_rows) and not query.text:
        return "nothing is known of the user that it could judge by"
    if not catalog.attribute_names:
        return "the items have no attributes that it could read"
    return ""


def handles(count: int) -> list[str]:
    """Return the names under which so many items are shown."""
    width = max(2, len(str(count)))
    return [f"c{number:0{width}d}" for number in range(1, count + 1)]


def seed_of(item_ids: Sequence[str]) -> int:
    """Return a seed that depends on which items there are, not on their order: what is asked again
    is then the same to the letter, and a kept answer is found.
    """
    text = "\0".join(sorted(item_ids))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def shuffle(count: int, seed: int) -> list[int]:
    """Return the order in which items are shown, as positions."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def _positions(query: ResolvedQuery, count: int, *, rated_first: bool) -> list[int]:
    positions = np.arange(len(query.history_rows))
    if rated_first and query.history:
        rated = np.array([event.rating is not None for event in query.history])
        # Stable: the newest last among those that are rated, and among the others before them.
        positions = positions[np.argsort(rated, kind="stable")]
    return sorted(positions[max(0, len(positions) - count) :].tolist())
