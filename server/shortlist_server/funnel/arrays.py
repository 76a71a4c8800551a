"""The arrays that travel down the funnel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
"""Positions in the catalogue."""
Mask = NDArray[np.bool_]

NO_ROWS: Rows = np.empty(0, np.int64)
NO_ROWS.flags.writeable = False
