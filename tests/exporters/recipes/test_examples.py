from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from shortlist_exporters.recipes.features import FeatureSet, id_features

pytestmark = pytest.mark.export


@pytest.fixture
def examples(tensorflow: Any) -> Any:
    from shortlist_exporters.recipes.examples import make_examples

    # Each interaction is recognised by its rating; user u3 and item i0 come last in their tables.
    users, items = pa.table({"id": ["u1", "u2", "u3"]}), pa.table({"id": ["i9", "i0"]})
    interactions = pa.table(
        {
            "user_id": ["u3", "u1", "u2", "u1", "u3"],
            "item_id": ["i0", "i9", "i0", "i0", "i9"],
            "rating": pa.array([0, 1, 2, 3, 4], pa.float32()),
        }
    )
    return make_examples(
        interactions,
        users=users,
        items=items,
        user=id_features("user", users["id"]),
        item=id_features("item", items["id"]),
        context=FeatureSet(side="context"),
    )


def read(batches: Any) -> list[dict[str, list[float]]]:
    return [{name: values.numpy().tolist() for name, values in batch.items()} for batch in batches]


def test_every_epoch_has_each_interaction_once_in_a_new_order(examples: Any) -> None:
    found = read(examples.batches(2, epochs=4, seed=1))
    assert [len(batch["rating"]) for batch in found] == [2, 2, 1] * 4
    epochs = [
        [rating for batch in found[start : start + 3] for rating in batch["rating"]]
        for start in range(0, 12, 3)
    ]
    assert [sorted(epoch) for epoch in epochs] == [[0, 1, 2, 3, 4]] * 4
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert found == read(examples.batches(2, epochs=4, seed=1))
    assert found != read(examples.batches(2, epochs=4, seed=2))


def test_interaction_comes_with_its_user_and_its_item(examples: Any) -> None:
    for batch in read(examples.batches(5, epochs=1, seed=1)):
        rows = sorted(zip(batch["rating"], batch["user_id"], batch["item_id"], strict=True))
        assert rows == [(0, 3, 2), (1, 1, 1), (2, 2, 2), (3, 1, 2), (4, 3, 1)]


def test_sampling_probability_is_the_items_share(examples: Any) -> None:
    np.testing.assert_allclose(examples.sampling_probabilities(), [0.6, 0.4, 0.6, 0.6, 0.4])
