"""Fills the free places of a list one by one: caps, and maximal marginal relevance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.arrays import Floats

STEP_NS = 6_000
COMPONENT_NS = 0.35
"""What one step costs, and what it costs more for each component of a candidate's embedding, on
one core of the build machine: only to see beforehand whether there is time.
"""

Values = Callable[[int], Iterable[Hashable]]
"""Returns the values that an item, by its place among the candidates, has for an attribute."""
Admit = Callable[[int], bool]
"""Lets the item at a place into the list, if it may be there; returns whether it may."""


class CapCounts:
    """How many items in the list have each value, against the most that may."""

    def __init__(self, caps: Sequence[tuple[int, Values]]) -> None:
        """Begin with an empty list.

        Args:
            caps: For each cap the most items that may share a value, and where values come from.
        """
        self._caps = [(most, values, Counter[Hashable]()) for most, values in caps]

    def admit(self, place: int) -> bool:
        """Count an item in, if it fits under all caps; returns whether it does."""
        held = []
        for most, values, counts in self._caps:
            own = set(values(place))
            if any(counts[value] >= most for value in own):
                return False
            held.append((counts, own))
        for counts, own in held:
            counts.update(own)
        return True


def fill(places: Sequence[int], wanted: int, admit: Admit) -> list[int]:
    """Return the first places that are admitted, as many as wanted, in order."""
    chosen: list[int] = []
    for place in places:
        if len(chosen) >= wanted:
            break
        if admit(place):
            chosen.append(place)
    return chosen


def fill_diverse(
    relevance: NDArray[np.float64],
    directions: Floats,
    wanted: int,
    *,
    strength: float,
    admit: Admit,
    present: Floats,
    checkpoint: Callable[[], None],
) -> list[int]:
    """Return places by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    Each next item is the one with the largest (1 - strength) * relevance - strength * similarity,
    similarity being the largest cosine with an item that is in the list already; 0 while the list
    is empty. Equal ones are taken in order.

    Args:
        relevance: float64 [n], 0..1.
        directions: float32 [n, dimension], of unit length.
        wanted: How many at most.
        strength: 0..1.
        admit: Asked for each next item.
        present: float32 [m, dimension]: items that are in the list already.
        checkpoint: Called before each step; what it raises ends the search.
    """
    similarity = np.full(len(relevance), -np.inf)
    for direction in present:
        np.maximum(similarity, directions @ direction, out=similarity)
    gain = (1 - strength) * relevance
    chosen: list[int] = []
    left = np.ones(len(relevance), np.bool_)
    while len(chosen) < wanted and left.any():
        checkpoint()
        known = strength * similarity if len(present) or chosen else 0.0
        best = int(np.argmax(np.where(left, gain - known, -np.inf)))
        left[best] = False
        if admit(best):
            chosen.append(best)
            np.maximum(similarity, directions @ directions[best], out=similarity)
    return chosen


def expected_ns(candidates: int, dimension: int, wanted: int) -> float:
    """Return how long `fill_diverse` is expected to take, in nanoseconds."""
    return wanted * (STEP_NS + COMPONENT_NS * candidates * dimension)


def scaled(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores scaled to 0..1; 0 where they are all equal."""
    if not len(scores):
        return scores
    low, high = float(scores.min()), float(scores.max())
    if high <= low:
        return np.zeros(len(scores))
    # Halves: the difference of two large scores of opposite signs may overflow.
    return (scores / 2 - low / 2) / (high / 2 - low / 2)
