"""How sure figures are: users drawn again, and users swapped between two bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shortlist_exporters.evaluation.measures import Floats, Measure

DRAWN_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with the bounds of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much higher a figure is for one than for another, over the same users."""

    value: float
    low: float
    high: float
    p_value: float
    """How often chance alone would make a difference as large, in either direction."""


def intervals(
    measures: Mapping[str, Measure], *, count: int, seed: int, level: float = 0.95
) -> dict[str, Interval]:
    """Return each figure with its interval by the percentile bootstrap over users.

    Efron, Tibshirani: An Introduction to the Bootstrap (1993), 13. Users are drawn, not pairs: what
    one user did is not independent.

    Args:
        measures: All over the same users.
        count: How often the users are drawn; 0 gives intervals without width.
        seed: Of the draws.
        level: Share of the draws within the interval.
    """
    if not measures or not count:
        return {name: _without_width(one.value) for name, one in measures.items()}
    drawn = _drawn(measures, count, seed)
    return {
        name: Interval(value=one.value, **_bounds(drawn[name], level))
        for name, one in measures.items()
    }


def differences(
    first: Mapping[str, Measure],
    second: Mapping[str, Measure],
    *,
    count: int,
    swaps: int = 10_000,
    seed: int,
    level: float = 0.95,
) -> dict[str, Difference]:
    """Return by how much the figures of the first are higher, for those that both have.

    The p-value is of a randomization test: each user's results are swapped between the two by the
    toss of a coin, `swaps` times. Smucker, Allan, Carterette: A Comparison of Statistical
    Significance Tests for Information Retrieval Evaluation (CIKM 2007). It is of one figure: of
    twenty that chance alone moves, one has a p-value below 0.05.

    Args:
        first: All over the same users.
        second: Over the same users, in the same order.
        count: Draws of the bootstrap for the interval.
        swaps: Tosses for the p-value, which is at least 1 / (swaps + 1).
        seed: Of both.
        level: Share of the draws within the interval.
    """
    names = [name for name in first if name in second]
    if not names:
        return {}
    ours = {name: first[name] for name in names}
    theirs = {name: second[name] for name in names}
    drawn, others = _drawn(ours, count, seed), _drawn(theirs, count, seed)
    p_values = _p_values(ours, theirs, swaps, seed)
    return {
        name: Difference(
            value=first[name].value - second[name].value,
            p_value=p_values[name],
            **_bounds(drawn[name] - others[name], level),
        )
        for name in names
    }


def _drawn(measures: Mapping[str, Measure], count: int, seed: int) -> dict[str, Floats]:
    """Return each figure for each draw of users, [count]; the same seed draws the same users."""
    numerators, denominators = _columns(measures)
    users = len(numerators)
    draw = np.random.default_rng(seed)
    sums = np.empty((2, count, len(measures)))
    for begin in range(0, count, DRAWN_AT_ONCE):
        size = min(DRAWN_AT_ONCE, count - begin)
        times = draw.multinomial(users, np.full(users, 1.0 / users), size=size).astype(np.float64)
        sums[0, begin : begin + size] = times @ numerators
        sums[1, begin : begin + size] = times @ denominators
    return {
        name: one.of(sums[0, :, column], sums[1, :, column])
        for column, (name, one) in enumerate(measures.items())
    }


def _p_values(
    ours: Mapping[str, Measure], theirs: Mapping[str, Measure], swaps: int, seed: int
) -> dict[str, float]:
    our_numerators, our_denominators = _columns(ours)
    their_numerators, their_denominators = _columns(theirs)
    draw = np.random.default_rng(seed)
    larger = np.zeros(len(ours))
    observed = np.array([abs(ours[name].value - theirs[name].value) for name in ours])
    for begin in range(0, swaps, DRAWN_AT_ONCE):
        size = min(DRAWN_AT_ONCE, swaps - begin)
        swapped = draw.integers(0, 2, size=(size, len(our_numerators))).astype(np.float64)
        moved = swapped @ (their_numerators - our_numerators)
        weights = swapped @ (their_denominators - our_denominators)
        for column, one in enumerate(ours.values()):
            a = one.of(
                our_numerators[:, column].sum() + moved[:, column],
                our_denominators[:, column].sum() + weights[:, column],
            )
            b = one.of(
                their_numerators[:, column].sum() - moved[:, column],
                their_denominators[:, column].sum() - weights[:, column],
            )
            # Sums in another order differ in their last bits: what is equal counts as as large.
            larger[column] += np.sum(np.abs(a - b) >= observed[column] - 1e-12)
    return {name: float((larger[at] + 1) / (swaps + 1)) for at, name in enumerate(ours)}


def _columns(measures: Mapping[str, Measure]) -> tuple[Floats, Floats]:
    return (
        np.stack([one.numerators for one in measures.values()], axis=1),
        np.stack([one.denominators for one in measures.values()], axis=1),
    )


def _bounds(values: Floats, level: float) -> dict[str, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {"low": float("nan"), "high": float("nan")}
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return {"low": float(low), "high": float(high)}


def _without_width(value: float) -> Interval:
    return Interval(value=value, low=value, high=value)
