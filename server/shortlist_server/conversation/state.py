"""What a conversation came to: bounded, and of effect on nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from shortlist_server.funnel.filter import Scalar

TURNS_MAX = 20
TEXT_BYTES_MAX = 2_000
REPLY_CHARS_MAX = 1_500
TASTE_CHARS_MAX = 300
CONDITIONS_MAX = 16
VALUES_MAX = 16
LIMIT_MAX = 20
LIKED_MAX = 100
REJECTED_MAX = 100
SHOWN_MAX = 500


class Comparison(Enum):
    """How an attribute is compared."""

    IS = "is"
    IS_NOT = "is_not"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition on an attribute of the items."""

    attribute: str
    comparison: Comparison
    values: tuple[Scalar, ...]
    """1..16: any of them for IS, none of them for IS_NOT; one for the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredTurn:
    """A turn that was answered."""

    text: str
    reply: str
    item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What came of the turns so far; empty for a first turn."""

    turns: tuple[AnsweredTurn, ...] = ()
    """Oldest first, at most 20."""
    taste: str = ""
    conditions: tuple[Condition, ...] = ()
    liked: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    """Ids of items, oldest first, each once."""

    @property
    def last_item_ids(self) -> tuple[str, ...]:
        """The items of the last list."""
        return self.turns[-1].item_ids if self.turns else ()

    def after(
        self,
        turn: AnsweredTurn,
        *,
        taste: str,
        conditions: tuple[Condition, ...],
        liked: Sequence[str],
        rejected: Sequence[str],
    ) -> Conversation:
        """Return the conversation with one more turn; what is too much is forgotten, oldest first.

        Args:
            turn: The turn.
            taste: What the user would like now.
            conditions: Those that hold now.
            liked: Items that he likes, by what he said in the turn.
            rejected: Items that he does not want.
        """
        now_liked = [item for item in self.liked if item not in rejected]
        now_rejected = [item for item in self.rejected if item not in liked]
        return replace(
            self,
            turns=(*self.turns, turn)[-TURNS_MAX:],
            taste=taste,
            conditions=conditions,
            liked=_newest(now_liked, liked, LIKED_MAX),
            rejected=_newest(now_rejected, rejected, REJECTED_MAX),
            shown=_newest(self.shown, turn.item_ids, SHOWN_MAX),
        )


def _newest(before: Sequence[str], added: Sequence[str], count_max: int) -> tuple[str, ...]:
    """Return ids each once, where it came last, and the newest of them."""
    again = set(added)
    kept = [item for item in before if item not in again]
    return (*kept, *dict.fromkeys(added))[-count_max:]
