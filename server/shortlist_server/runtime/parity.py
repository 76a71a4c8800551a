"""Are an ONNX model's numbers those of the framework that trained it?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.manifest import Tolerance
from shortlist_server.errors import ParityError


def check_parity(
    expected: NDArray[Any], actual: NDArray[Any], tolerance: Tolerance, what: str
) -> float:
    """Compare numbers: |actual - expected| <= absolute + relative * |expected|, each.

    Args:
        expected: What the training framework gave.
        actual: What the ONNX model gave.
        tolerance: How far they may differ.
        what: Model and output, as an error message should call them.

    Returns:
        The largest difference; 0 where there are no numbers.

    Raises:
        ParityError: the shapes differ, or a number differs by more or is not finite; the message
            names the first.
    """
    if expected.shape != actual.shape:
        raise ParityError(
            f"{what}: expected shape {list(expected.shape)}, got {list(actual.shape)}"
        )
    first = first_difference(expected, actual, tolerance)
    if first is not None:
        raise ParityError(
            f"{what}: at {list(first)} expected {expected[first]!s} (the training framework's) "
            f"within {tolerance.absolute:g} + {tolerance.relative:g} * |expected|, got "
            f"{actual[first]!s} (ONNX Runtime's); export the bundle again"
        )
    if not expected.size:
        return 0.0
    return float(np.abs(actual.astype(np.float64) - expected.astype(np.float64)).max())


def first_difference(
    expected: NDArray[Any], actual: NDArray[Any], tolerance: Tolerance
) -> tuple[int, ...] | None:
    """Return the index of the first number that differs by more than the tolerance, or None.

    A number that is not finite on either side differs: no served score may be one.
    """
    wanted, got = expected.astype(np.float64), actual.astype(np.float64)
    with np.errstate(invalid="ignore"):
        allowed = tolerance.absolute + tolerance.relative * np.abs(wanted)
        # Written so that NaN, which compares as false, counts as wrong; infinite ones make both
        # sides infinite.
        right = (np.abs(got - wanted) <= allowed) & np.isfinite(wanted)
    wrong = np.argwhere(~right)
    return tuple(int(position) for position in wrong[0]) if len(wrong) else None
