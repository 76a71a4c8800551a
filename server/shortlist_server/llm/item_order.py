"""An order of items as a language model gives it: asked for by schema, taken only if it is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shortlist_server.llm.prompt import clean

REASON_CHARS_MAX = 240
LINKS = ("://", "www.", "mailto:")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOrder:
    """What an answer says."""

    positions: tuple[int, ...] | None
    """The candidates that it names, best first, as positions among those shown; None where the
    answer is not taken.
    """
    reasons: Mapping[int, str] = field(default_factory=dict)
    """By the same positions; only those that are fit to be shown."""
    violations: frozenset[str] = frozenset()
    """What was wrong with it: `shape`, `foreign`, `duplicate`, `missing`; or with reasons, which it
    is taken without: `link`, `prompt_shown`.
    """


def order_schema(*, reasons: bool) -> dict[str, Any]:
    """Return the JSON schema of an order.

    The handles are not in it, though a model could then name no others: whether they are the right
    ones, once each, is checked here in any case, and counted.
    """
    entry: dict[str, Any] = {"type": "string"}
    if reasons:
        entry = {
            "type": "object",
            "properties": {"handle": {"type": "string"}, "reason": {"type": "string"}},
            "required": ["handle", "reason"],
            "additionalProperties": False,
        }
    return {
        "type": "object",
        "properties": {"order": {"type": "array", "items": entry}},
        "required": ["order"],
        "additionalProperties": False,
    }


def read_order(
    value: Mapping[str, Any],
    handles: Sequence[str],
    *,
    subset: bool,
    secrets: Sequence[str] = (),
) -> ItemOrder:
    """Return what an answer says, if it names the candidates and nothing else.

    Args:
        value: The answer.
        handles: Those of the candidates, in the order in which they were shown.
        subset: Whether some may be missing, though not all.
        secrets: Texts, in lower case, that no reason may repeat.
    """
    entries = value.get("order")
    if not isinstance(entries, list):
        return ItemOrder(positions=None, violations=frozenset({"shape"}))
    position_of = {handle: position for position, handle in enumerate(handles)}
    violations: set[str] = set()
    positions: dict[int, None] = {}
    reasons = {}
    # One more than there are is one too many, however many follow.
    for entry in entries[: len(handles) + 1]:
        said = entry.get("reason", "") if isinstance(entry, dict) else ""
        handle = entry.get("handle") if isinstance(entry, dict) else entry
        position = position_of.get(handle) if isinstance(handle, str) else None
        if position is None:
            violations.add("foreign")
            continue
        if position in positions:
            violations.add("duplicate")
        positions[position] = None
        if isinstance(said, str) and (said := clean(said, REASON_CHARS_MAX)):
            if wrong := unfit(said, secrets):
                violations.add(wrong)
            else:
                reasons[position] = said
    if not positions or (not subset and len(positions) < len(handles)):
        violations.add("missing")
    if violations & {"foreign", "duplicate", "missing"}:
        return ItemOrder(positions=None, violations=frozenset(violations))
    return ItemOrder(positions=tuple(positions), reasons=reasons, violations=frozenset(violations))


def unfit(reason: str, secrets: Sequence[str]) -> str:
    """Return what is wrong with a reason; empty where nothing is."""
    lower = reason.casefold()
    if any(link in lower for link in LINKS):
        return "link"
    return "prompt_shown" if any(secret in lower for secret in secrets) else ""


def vote(orders: Sequence[Sequence[int]], count: int) -> tuple[list[int], int]:
    """Return the order by mean position, and how many candidates no order names.

    A candidate that an order leaves out stands in it behind those that it names; those that none
    names come last; equal means are in the order that they had before.

    Args:
        orders: Candidates, best first, without repetition: by what they were before, 0 for the
            best.
        count: Number of candidates.
    """
    places = [0] * count
    named = {candidate for order in orders for candidate in order}
    for order in orders:
        rest = [candidate for candidate in range(count) if candidate not in set(order)]
        for place, candidate in enumerate((*order, *rest)):
            places[candidate] += place
    by_vote = sorted(
        range(count), key=lambda candidate: (candidate not in named, places[candidate], candidate)
    )
    return by_vote, count - len(named)
