from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from shortlist_exporters.evaluation.holdout import Holdout, make_holdout
from shortlist_exporters.evaluation.negatives import Negatives, draw_negatives, place_among

ITEMS = [f"i{number}" for number in range(30)]


@pytest.fixture(scope="module")
def holdout() -> Holdout:
    """Item 0 is what everybody did, item 1 half of the people, and so on down."""
    train = [(f"u{user}", f"i{item}") for item in range(10) for user in range(40 // (item + 1))]
    test = [(f"u{user}", f"i{item}") for user in range(20) for item in (20, 21)]
    tables = [
        pa.table(
            {
                "user_id": [user for user, _ in rows],
                "item_id": [item for _, item in rows],
                "rating": pa.nulls(len(rows), pa.float32()),
            }
        )
        for rows in (train, [*test, ("new", "i20")])
    ]
    return make_holdout(*tables, item_ids=ITEMS)


def test_negatives_are_items_that_the_user_did_nothing_with(holdout: Holdout) -> None:
    drawn = draw_negatives(holdout, Negatives(kind="uniform", count=12), seed=1)

    for user, negatives in enumerate(drawn):
        did = {*holdout.test_items(user), *holdout.seen[[user]].indices}
        assert negatives.shape == (len(holdout.test_items(user)), 12)
        for row in negatives:
            assert len(set(row)) == 12
            assert not set(row.tolist()) & did


def test_each_pair_has_its_own_and_the_same_seed_the_same(holdout: Holdout) -> None:
    negatives = Negatives(kind="uniform", count=12)
    drawn = draw_negatives(holdout, negatives, seed=1)

    assert set(drawn[0][0]) != set(drawn[0][1])
    again = draw_negatives(holdout, negatives, seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    other = draw_negatives(holdout, negatives, seed=2)
    assert not all(np.array_equal(a, b) for a, b in zip(drawn, other, strict=True))


def test_popular_items_are_drawn_in_proportion(holdout: Holdout) -> None:
    new = holdout.user_ids.index("new")
    counts = np.zeros(len(ITEMS))
    for seed in range(500):
        counts[draw_negatives(holdout, Negatives(kind="popularity", count=1), seed)[new]] += 1

    share = holdout.train_counts / holdout.train_counts.sum()
    assert np.abs(counts / counts.sum() - share).max() < 0.07
    assert not counts[share == 0].any()


def test_fewer_are_drawn_where_there_are_no_more(holdout: Holdout) -> None:
    drawn = draw_negatives(holdout, Negatives(kind="uniform", count=100), seed=1)

    assert drawn[holdout.user_ids.index("new")].shape == (1, 29)


def test_place_is_how_many_score_above_and_ties_are_told() -> None:
    own = np.array([0.5, -np.inf])
    others = np.array([[0.9, 0.5, 0.1], [0.2, -np.inf, 0.1]])

    above, ties = place_among(own, others)

    # What has no score at all stands behind everything.
    assert (above.tolist(), ties.tolist()) == ([1, 3], [1, 0])
