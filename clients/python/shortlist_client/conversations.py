"""What comes back in a conversation, turn by turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from shortlist_client.explanation import Degradation, StageReport
from shortlist_client.results import AnswerInfo, ScoredItem


@dataclass(frozen=True, slots=True)
class ConversationState:
    """A conversation that the caller keeps: sent with the next turn as it came."""

    data: bytes = field(repr=False)
    """At most 512 KiB; for the server to read."""


class TurnAction(StrEnum):
    """What a turn asks for."""

    RECOMMEND = "RECOMMEND"
    """New items."""
    SWAP = "SWAP"
    """Others in place of some of the last list; the rest of it stays."""
    EXPLAIN = "EXPLAIN"
    """Why items of the last list were recommended."""
    UNRECOGNIZED = "UNRECOGNIZED"


class AttributeComparison(StrEnum):
    """How an attribute is compared."""

    IS = "IS"
    """It is one of the values, or holds one of them."""
    IS_NOT = "IS_NOT"
    """It is none of the values, and holds none of them."""
    AT_LEAST = "AT_LEAST"
    AT_MOST = "AT_MOST"
    UNRECOGNIZED = "UNRECOGNIZED"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeCondition:
    """A condition on an attribute of the items, as the user put it."""

    attribute: str
    comparison: AttributeComparison
    values: tuple[str | int | float | bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedCondition:
    """A condition that has no effect."""

    attribute: str
    """As it was named: untrusted text."""
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Understanding:
    """What was understood of a turn; comes first."""

    action: TurnAction
    taste: str
    """What the user would like now, in words: untrusted text."""
    conditions: tuple[AttributeCondition, ...]
    """Those that hold from now on."""
    dropped_conditions: tuple[DroppedCondition, ...]
    liked_item_ids: tuple[str, ...]
    rejected_item_ids: tuple[str, ...]
    subject_item_ids: tuple[str, ...]
    """Items that are to be replaced, or explained."""
    by_language_model: bool
    """Whether a language model understood it; `TurnEnd.degraded` says why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnItems:
    """The items of a turn, best first; come second."""

    items: tuple[ScoredItem, ...]
    info: AnswerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyPiece:
    """A piece of the reply."""

    text: str
    """Untrusted text."""
    replaces: bool
    """Whether it takes the place of all pieces before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModelCost:
    """What a call of a language model cost."""

    input_token_count: int
    output_token_count: int
    price: float
    """In the currency of the server's configured prices; 0 where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModelUse:
    """What a language model was asked in a turn."""

    model: str
    """Provider and model."""
    prompt: str
    """Name and version of the prompt."""
    input_token_count: int
    """Of the turn: the sum of `intent` and `reply`, as the two below."""
    output_token_count: int
    price: float
    """In the currency of the server's configured prices; 0 where it has none."""
    violations: tuple[str, ...]
    """What was wrong with its answers, by name: `foreign_item`, `condition`, ..."""
    intent: LanguageModelCost
    """What it cost to understand the turn."""
    reply: LanguageModelCost
    """What it cost to word the reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """The end of a turn; comes last."""

    reply: str
    """The whole reply: untrusted text."""
    by_language_model: bool
    """Whether it is a language model's; else a plain one."""
    conversation: str | ConversationState
    """What the next turn must send: the id of a conversation that the server keeps, or the state of
    one that the caller keeps.
    """
    expire_time: datetime | None
    """When the server forgets it, unless a turn comes before. None where the caller keeps it."""
    degraded: tuple[Degradation, ...]
    """What the language model did not do: stage `intent` or `reply`; or `retrieval`, where the
    taste could not be searched by.
    """
    stages: tuple[StageReport, ...]
    language_model: LanguageModelUse | None
    """None where the server has none."""


TurnPart: TypeAlias = Understanding | TurnItems | ReplyPiece | TurnEnd
