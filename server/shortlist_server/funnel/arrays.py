"""The arrays that travel down the funnel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
"""Positions in the catalogue."""
Mask = NDArray[np.bool_]

NO_ROWS: Rows = np.empty(0, np.int64)
NO_ROWS.flags.writeable = False


class Stacked:
    """Two arrays of rows, one after the other, as if they were one: what does not change, and what
    has come since. Neither is copied.
    """

    def __init__(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        """Take the arrays: [n, ...] and [m, ...], alike but for the number of rows."""
        self._first = first
        self._second = second
        self._count = len(first)
        self.shape = (len(first) + len(second), *first.shape[1:])

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Rows) -> Any:
        beyond = rows >= self._count
        if not beyond.any():
            return self._first[rows]
        if beyond.all():
            return self._second[rows - self._count]
        values = np.empty((len(rows), *self.shape[1:]), self._first.dtype)
        values[~beyond] = self._first[rows[~beyond]]
        values[beyond] = self._second[rows[beyond] - self._count]
        return values


ByRow = NDArray[Any] | Stacked
"""What is looked up by an array of rows."""
