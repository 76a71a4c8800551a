"""Two answers to one request, and the sum of many such comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What became of a request in comparison."""

    IDENTICAL = "identical"
    """The same items in the same order."""
    REORDERED = "reordered"
    """The same items in another order."""
    DIFFERENT = "different"
    """Other items."""
    ERROR = "errors"
    """One of the two is no answer."""
    MASKED = "masked"
    """The log does not have the request as it was sent: it was not replayed."""


COMPARED = (Outcome.IDENTICAL, Outcome.REORDERED, Outcome.DIFFERENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two answers to one request."""

    outcome: Outcome
    overlap: float = 0.0
    """Items that both have, as a share of the longer list, 0..1; 1 where both are empty."""
    score_change_max: float = 0.0
    """Largest difference of the scores of an item that both have; 0 where there is none."""
    score_change_sum: float = 0.0
    common_count: int = 0
    """Items that both have."""
    bit_identical: bool = False
    """Whether the items, their order and all bits of their scores are the same."""


def compare(
    old_ids: Sequence[str],
    old_scores: Sequence[float],
    new_ids: Sequence[str],
    new_scores: Sequence[float],
) -> Comparison:
    """Compare two answers: items without repetition, best first, and their scores."""
    old = dict(zip(old_ids, old_scores, strict=True))
    changes = [
        abs(score - old[item_id])
        for item_id, score in zip(new_ids, new_scores, strict=True)
        if item_id in old
    ]
    outcome = Outcome.DIFFERENT
    if list(old_ids) == list(new_ids):
        outcome = Outcome.IDENTICAL
    elif len(changes) == len(old_ids) == len(new_ids):
        outcome = Outcome.REORDERED
    longer = max(len(old_ids), len(new_ids))
    return Comparison(
        outcome=outcome,
        overlap=len(changes) / longer if longer else 1.0,
        score_change_max=max(changes, default=0.0),
        score_change_sum=sum(changes),
        common_count=len(changes),
        # By their text: 0.0 == -0.0, which are not the same bits.
        bit_identical=outcome is Outcome.IDENTICAL
        and list(map(float.hex, old_scores)) == list(map(float.hex, new_scores)),
    )


class Tally:
    """The sum of comparisons."""

    def __init__(self) -> None:
        """Begin with none."""
        self.counts: Counter[Outcome] = Counter()
        self.by_kind: dict[str, Counter[Outcome]] = {}
        self.bit_identical_count = 0
        self._overlap_sum = 0.0
        self.score_change_max = 0.0
        self._score_change_sum = 0.0
        self._common_count = 0

    def add(self, kind: str, comparison: Comparison) -> None:
        """Add the comparison of one request of a kind."""
        self.counts[comparison.outcome] += 1
        self.by_kind.setdefault(kind, Counter())[comparison.outcome] += 1
        if comparison.outcome not in COMPARED:
            return
        self.bit_identical_count += comparison.bit_identical
        self._overlap_sum += comparison.overlap
        self.score_change_max = max(self.score_change_max, comparison.score_change_max)
        self._score_change_sum += comparison.score_change_sum
        self._common_count += comparison.common_count

    @property
    def compared_count(self) -> int:
        """Requests that both answered."""
        return sum(self.counts[outcome] for outcome in COMPARED)

    @property
    def overlap_mean(self) -> float | None:
        """Mean overlap of the lists; None where none was compared."""
        return self._overlap_sum / self.compared_count if self.compared_count else None

    @property
    def score_change_mean(self) -> float | None:
        """Mean difference of scores, over all items that both lists of a request have; None where
        there is none.
        """
        return self._score_change_sum / self._common_count if self._common_count else None

    def is_worse_than(self, tolerated: Outcome) -> bool:
        """Whether a request came out worse than this: identical, reordered, different or error."""
        order = [*COMPARED, Outcome.ERROR]
        return any(self.counts[outcome] for outcome in order[order.index(tolerated) + 1 :])
