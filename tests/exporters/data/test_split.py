from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from shortlist_exporters.data.split import random_split


def numbered(count: int) -> pa.Table:
    return pa.table({"user_id": [str(row) for row in range(count)], "time": list(range(count))})


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_parts_hold_every_row_once_in_exact_sizes(count: int, fraction: float, seed: int) -> None:
    assume(0 < round(count * fraction) < count)

    train, test = random_split(numbered(count), test_fraction=fraction, seed=seed)

    assert len(test) == round(count * fraction)
    assert sorted(train["time"].to_pylist() + test["time"].to_pylist()) == list(range(count))
    assert all(str(row["time"]) == row["user_id"] for row in test.to_pylist())


def test_same_seed_gives_equal_parts_and_another_seed_others() -> None:
    first = random_split(numbered(100), test_fraction=0.2, seed=3)
    again = random_split(numbered(100), test_fraction=0.2, seed=3)
    other = random_split(numbered(100), test_fraction=0.2, seed=4)

    assert first[0].equals(again[0])
    assert first[1].equals(again[1])
    assert not first[1].equals(other[1])


def test_parts_are_shuffled() -> None:
    train, test = random_split(numbered(100), test_fraction=0.5, seed=1)

    assert train["time"].to_pylist() != sorted(train["time"].to_pylist())
    assert test["time"].to_pylist() != sorted(test["time"].to_pylist())


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="test_fraction: expected above 0 and below 1"):
        random_split(numbered(10), test_fraction=fraction, seed=1)


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed: expected 0 or more, got -1"):
        random_split(numbered(10), test_fraction=0.2, seed=-1)


@pytest.mark.parametrize(("count", "fraction"), [(0, 0.5), (1, 0.5), (2, 0.1), (2, 0.9)])
def test_empty_part_is_refused(count: int, fraction: float) -> None:
    with pytest.raises(ValueError, match="leaves a part empty"):
        random_split(numbered(count), test_fraction=fraction, seed=1)
