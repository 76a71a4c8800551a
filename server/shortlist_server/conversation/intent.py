"""What a turn asks for: by a language model's answer, taken as far as it holds good; else by the
text itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from shortlist_server.conversation.attributes import Attributes, ConditionUnfit, fitted
from shortlist_server.conversation.state import (
    CONDITIONS_MAX,
    TASTE_CHARS_MAX,
    Comparison,
    Condition,
    Conversation,
)
from shortlist_server.llm.prompt import clean

HANDLES_MAX = 60
NAME_CHARS_MAX = 64


class Action(Enum):
    """What a turn asks for."""

    RECOMMEND = "recommend"
    SWAP = "swap"
    EXPLAIN = "explain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A condition that has no effect."""

    attribute: str
    """As it was named: one line, cut."""
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What a turn asks for."""

    action: Action = Action.RECOMMEND
    taste: str
    conditions: tuple[Condition, ...]
    """All that hold now, each fit for the catalogue."""
    dropped: tuple[Dropped, ...] = ()
    liked: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    """Ids of items that were shown; `liked` and `rejected` too."""
    by_model: bool = False
    violations: frozenset[str] = frozenset()
    """What was wrong with the model's answer: `foreign_item`, `condition`."""


def intent_schema() -> dict[str, Any]:
    """Return the JSON schema of an intent. Values are texts in it, whatever the attribute's type:
    not every provider takes a schema of alternatives.
    """
    text = {"type": "string"}
    texts = {"type": "array", "items": text}
    condition = _object(
        attribute=text,
        comparison={"type": "string", "enum": [one.value for one in Comparison]},
        values=texts,
    )
    return _object(
        action={"type": "string", "enum": [one.value for one in Action]},
        taste=text,
        conditions={"type": "array", "items": condition},
        liked=texts,
        rejected=texts,
        subjects=texts,
    )


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def read_intent(
    value: Mapping[str, Any], handles: Mapping[str, str], attributes: Attributes
) -> Intent:
    """Return what an answer says, without what does not hold good.

    Args:
        value: An object of `intent_schema`.
        handles: Ids of the items that the model was shown, by handle.
        attributes: Those of the catalogue.
    """
    named = {name: value[name][:HANDLES_MAX] for name in ("liked", "rejected", "subjects")}
    foreign = any(handle not in handles for several in named.values() for handle in several)
    items = {
        name: tuple(dict.fromkeys(handles[one] for one in several if one in handles))
        for name, several in named.items()
    }
    stated = [
        (one["attribute"], Comparison(one["comparison"]), one["values"])
        for one in value["conditions"]
    ]
    conditions, dropped = fit(stated, attributes)
    rejected = set(items["rejected"])
    return Intent(
        action=Action(value["action"]),
        taste=clean(value["taste"], TASTE_CHARS_MAX),
        conditions=conditions,
        dropped=dropped,
        liked=tuple(one for one in items["liked"] if one not in rejected),
        rejected=items["rejected"],
        subjects=items["subjects"],
        by_model=True,
        violations=frozenset(["foreign_item"] if foreign else [])
        | frozenset(["condition"] if dropped else []),
    )


def plain_intent(text: str, conversation: Conversation, attributes: Attributes) -> Intent:
    """Return what a turn asks for where no model says it: its text is the taste, and the conditions
    of the turns before hold on.
    """
    conditions, dropped = fit(
        [(one.attribute, one.comparison, one.values) for one in conversation.conditions],
        attributes,
    )
    return Intent(taste=clean(text, TASTE_CHARS_MAX), conditions=conditions, dropped=dropped)


def fit(
    stated: Sequence[tuple[str, Comparison, Sequence[Any]]], attributes: Attributes
) -> tuple[tuple[Condition, ...], tuple[Dropped, ...]]:
    """Return the conditions that fit the catalogue, each once, and those that do not."""
    kept: dict[Condition, None] = {}
    dropped = []
    for name, comparison, values in stated[: 2 * CONDITIONS_MAX]:
        try:
            if len(kept) == CONDITIONS_MAX:
                raise ConditionUnfit(f"there are {CONDITIONS_MAX} conditions already")
            kept[fitted(attributes, name, comparison, values)] = None
        except ConditionUnfit as error:
            dropped.append(Dropped(attribute=clean(name, NAME_CHARS_MAX), problem=str(error)))
    return tuple(kept), tuple(dropped[:CONDITIONS_MAX])
