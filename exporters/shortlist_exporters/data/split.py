"""Splits of interactions into a part to train on and a part to test with."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def random_split(
    interactions: pa.Table, *, test_fraction: float, seed: int
) -> tuple[pa.Table, pa.Table]:
    """Return the interactions in two random parts, (train, test).

    The same table, fraction and seed give the same parts, in the same shuffled order.

    Args:
        interactions: At least two rows.
        test_fraction: Above 0 and below 1; the test part has round(rows * test_fraction) rows.
        seed: 0 or more.

    Raises:
        ValueError: an argument is out of range, or a part would be empty.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction: expected above 0 and below 1, got {test_fraction}")
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    count = len(interactions)
    test_count = round(count * test_fraction)
    if test_count in (0, count):
        raise ValueError(
            f"test_fraction: {test_fraction} of {count} interactions leaves a part empty; "
            "give more interactions or another fraction"
        )
    order = np.random.default_rng(seed).permutation(count)
    train_count = count - test_count
    return interactions.take(order[:train_count]), interactions.take(order[train_count:])
