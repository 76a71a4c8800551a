"""How the list of one bundle differs from that of another, for the same request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a shadow's list differs from the one that was sent."""

    overlap: float
    """Share of the longer list that both have, 0..1; 1 where both are empty."""
    same_first: bool
    """Whether both begin with the same item, or are both empty."""
    score_difference: float | None
    """Mean difference of the scores of the items that both have, without sign; None without any."""
    seconds: float
    """Time that the shadow took, waiting for its turn included."""


def compare(sent: dict[str, float], own: dict[str, float], seconds: float) -> Comparison:
    """Compare two lists, as scores by id in order."""
    both = [item_id for item_id in sent if item_id in own]
    longest = max(len(sent), len(own))
    return Comparison(
        overlap=len(both) / longest if longest else 1.0,
        same_first=next(iter(sent), None) == next(iter(own), None),
        score_difference=float(np.mean([abs(sent[one] - own[one]) for one in both]))
        if both
        else None,
        seconds=seconds,
    )
