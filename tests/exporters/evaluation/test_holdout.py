from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from shortlist_exporters.evaluation.holdout import make_holdout
from shortlist_server.errors import ConfigError

ITEMS = ["a", "b", "c", "d"]


def events(*rows: tuple[str, str, float | None]) -> pa.Table:
    users, items, ratings = zip(*rows, strict=True)
    return pa.table({"user_id": users, "item_id": items, "rating": pa.array(ratings, pa.float32())})


TRAIN = events(("ada", "a", 5), ("ada", "a", 4), ("ben", "b", 3), ("cleo", "c", 1))
TEST = events(
    ("ben", "c", 2), ("ada", "b", 4), ("ada", "a", 5), ("ben", "c", 5), ("new", "d", None)
)


def test_pairs_stand_by_user_and_history_is_in_the_users_rows() -> None:
    found = make_holdout(TRAIN, TEST, item_ids=ITEMS)

    pairs = [
        (found.user_ids[user], found.item_ids[item])
        for user, item in zip(found.pair_users, found.items, strict=True)
    ]
    assert sorted(pairs) == [("ada", "b"), ("ben", "c"), ("new", "d")]
    seen = dict(zip(found.user_ids, found.seen.toarray(), strict=True))
    assert seen["ada"].tolist() == [1, 0, 0, 0]
    assert seen["new"].tolist() == [0, 0, 0, 0]
    assert found.train_counts.tolist() == [1, 1, 1, 0]
    assert found.train.shape == (4, 4)


def test_pairs_that_no_list_can_hold_are_dropped_and_counted() -> None:
    found = make_holdout(TRAIN, TEST, item_ids=ITEMS)

    assert (found.dropped.seen, found.dropped.repeated, found.dropped.below_relevance) == (1, 1, 0)
    including = make_holdout(TRAIN, TEST, item_ids=ITEMS, exclude_seen=False)
    assert including.dropped.seen == 0
    assert len(including.items) == 4


def test_relevance_keeps_pairs_with_a_rating_that_is_high_enough() -> None:
    found = make_holdout(TRAIN, TEST, item_ids=ITEMS, relevant_from=4)

    assert found.user_ids == ["ada"]
    assert found.ratings.tolist() == [4.0]
    assert found.dropped.below_relevance == 2


def test_items_of_the_bundle_stand_behind_those_of_the_data() -> None:
    found = make_holdout(TRAIN, TEST, item_ids=ITEMS, more_item_ids=["z", "b"])

    assert found.item_ids == [*ITEMS, "z"]
    assert found.catalog_count == 4
    codes = found.codes([["b", "z", "unknown", "a"], []], 3)
    assert codes.tolist() == [[1, 4, -1], [-1, -1, -1]]


def test_missing_rating_is_no_number() -> None:
    found = make_holdout(TRAIN, TEST, item_ids=ITEMS)

    assert np.isnan(found.ratings[found.user_ids.index("new")])


def test_nothing_to_test_with_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected pairs of user and item, got none.*seen=1"):
        make_holdout(TRAIN, events(("ada", "a", 5)), item_ids=ITEMS)


def test_item_outside_of_the_catalogue_is_named() -> None:
    with pytest.raises(ConfigError, match="expected items of the catalogue, got 'd'"):
        make_holdout(TRAIN, TEST, item_ids=ITEMS[:3])
