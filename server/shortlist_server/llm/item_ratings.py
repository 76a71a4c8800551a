"""Ratings of items as a language model gives them: asked for by schema, taken only if they are of
these items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RATING_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "ratings": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"handle": {"type": "string"}, "rating": {"type": "number"}},
                "required": ["handle", "rating"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["ratings"],
    "additionalProperties": False,
}
"""Without bounds: a rating of 5.5 says enough to be taken for 5, where the bound would have the
whole answer refused.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRatings:
    """What an answer says."""

    ratings: tuple[float, ...] | None
    """One for each item, in the order in which they were shown; None where the answer is not
    taken.
    """
    clamped: frozenset[int] = frozenset()
    """Positions of those that were out of bounds."""
    violations: frozenset[str] = frozenset()
    """What was wrong with it: `shape`, `foreign`, `duplicate`, `missing`; or `clamped`, with which
    it is taken.
    """


def read_ratings(
    value: Mapping[str, Any], handles: Sequence[str], *, lowest: float, highest: float
) -> ItemRatings:
    """Return what an answer says, if it rates each of the items once and nothing else.

    Args:
        value: The answer.
        handles: Those of the items, in the order in which they were shown.
        lowest: Least rating; lower ones are taken for it.
        highest: Greatest rating; higher ones are taken for it.
    """
    entries = value.get("ratings")
    if not isinstance(entries, list):
        return ItemRatings(ratings=None, violations=frozenset({"shape"}))
    position_of = {handle: position for position, handle in enumerate(handles)}
    found: dict[int, float] = {}
    clamped: set[int] = set()
    violations: set[str] = set()
    # One more than there are is one too many, however many follow.
    for entry in entries[: len(handles) + 1]:
        handle, said = (
            (entry.get("handle"), entry.get("rating")) if isinstance(entry, dict) else (None, None)
        )
        # NaN differs from itself, and is no rating.
        if isinstance(said, bool) or not isinstance(said, int | float) or said != said:
            violations.add("shape")
            continue
        position = position_of.get(handle) if isinstance(handle, str) else None
        if position is None:
            violations.add("foreign")
            continue
        if position in found:
            violations.add("duplicate")
        # Compared before it is made a float, which an integer may be too large for.
        found[position] = float(min(max(said, lowest), highest))
        if not lowest <= said <= highest:
            clamped.add(position)
    if len(found) < len(handles):
        violations.add("missing")
    if violations:
        return ItemRatings(ratings=None, violations=frozenset(violations))
    return ItemRatings(
        ratings=tuple(found[position] for position in range(len(handles))),
        clamped=frozenset(clamped),
        violations=frozenset({"clamped"} if clamped else ()),
    )
