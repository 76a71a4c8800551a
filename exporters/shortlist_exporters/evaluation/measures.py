"""A figure as sums by user, so that users can be drawn again and compared in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A figure that is a ratio of sums over users.

    A mean over users has the denominator 1 for each, a mean over their test pairs how many each
    has.
    """

    numerators: Floats
    """[users]."""
    denominators: Floats
    """[users]: 0 where a user has no part in the figure."""
    root: bool = False
    """Whether the figure is the square root of the ratio (RMSE)."""

    @property
    def value(self) -> float:
        """The figure; NaN where nobody has a part in it."""
        return float(self.of(self.numerators.sum(), self.denominators.sum()))

    def of(self, numerators: Floats | float, denominators: Floats | float) -> Floats:
        """Return the figure for sums over some users."""
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.asarray(numerators, np.float64) / denominators
        return np.sqrt(ratio) if self.root else ratio


def mean_over_users(values: Floats) -> Measure:
    """Return the mean of a number for each user; users with NaN have no part in it."""
    known = np.isfinite(values)
    return Measure(numerators=np.where(known, values, 0.0), denominators=known.astype(np.float64))
