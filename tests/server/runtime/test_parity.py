from __future__ import annotations

import numpy as np
import pytest
from shortlist_server.bundle.manifest import Tolerance
from shortlist_server.errors import ParityError
from shortlist_server.runtime.parity import check_parity, first_difference

TOLERANCE = Tolerance(absolute=0.1, relative=0.01)


def test_difference_within_tolerance_passes_and_is_returned() -> None:
    expected = np.array([[0.0, 100.0]], np.float32)
    actual = np.array([[0.09, 101.0]], np.float32)
    assert check_parity(expected, actual, TOLERANCE, "model: output") == pytest.approx(1.0)


def test_relative_tolerance_is_of_the_expected_value() -> None:
    # Of the actual value, 0.01 * 1000 would do.
    assert first_difference(np.array([0.0]), np.array([1000.0]), TOLERANCE) == (0,)


def test_error_names_model_index_and_both_values() -> None:
    expected = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    actual = np.array([[1.0, 2.0], [3.5, 9.0]], np.float32)
    with pytest.raises(
        ParityError, match=r"tower: output 'e': at \[1, 0\] expected 3\.0 .* got 3\.5"
    ):
        check_parity(expected, actual, TOLERANCE, "tower: output 'e'")


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (np.nan, 1.0),
        (1.0, np.nan),
        (np.nan, np.nan),
        (np.inf, 1.0),
        (1.0, np.inf),
        (np.inf, np.inf),
        (-np.inf, np.inf),
    ],
)
def test_numbers_that_are_not_finite_never_agree(expected: float, actual: float) -> None:
    left, right = np.array([0.0, expected]), np.array([0.0, actual])
    assert first_difference(left, right, TOLERANCE) == (1,)


def test_shapes_must_be_equal() -> None:
    with pytest.raises(ParityError, match=r"expected shape \[2\], got \[2, 1\]"):
        check_parity(np.zeros(2), np.zeros((2, 1)), TOLERANCE, "ranker: rating")


def test_no_rows_agree() -> None:
    assert check_parity(np.zeros((0, 4)), np.zeros((0, 4)), TOLERANCE, "tower: embedding") == 0.0
