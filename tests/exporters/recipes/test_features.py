from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from shortlist_exporters.data.dataset import Dataset
from shortlist_exporters.recipes.features import (
    BUCKET_COUNT,
    LIST_LENGTH_MAX,
    FeatureSet,
    column_features,
    id_features,
    time_features,
)

ROWS = 100


def derive(values: Any, *, name: str = "x") -> FeatureSet:
    table = pa.table({"id": [str(row) for row in range(len(values))], name: values})
    return column_features("item", table)


def tensors(found: FeatureSet, values: Any, *, name: str = "x") -> dict[str, list[Any]]:
    given = found.tensors(pa.table({"id": ["0"] * len(values), name: values}))
    return {key: array.tolist() for key, array in given.items()}


def test_ids_are_known_in_their_order_and_others_are_index_0() -> None:
    found = id_features("user", pa.chunked_array([["b", "a", "b"]]))
    assert found.vocabularies == {"user.id": ("b", "a")}
    assert found.inputs[0].index_count == 3
    assert found.tensors(pa.table({"id": ["a", "x", "b"]}))["user_id"].tolist() == [2, 0, 1]


def test_text_becomes_an_index_by_frequency() -> None:
    values = ["rare", *["often"] * 3, *["some"] * 2, None]
    found = derive(values)
    # A text that occurs once teaches what an unknown one is like.
    assert found.vocabularies == {"item.x": ("often", "some")}
    assert found.inputs[0].index_count == 3
    assert tensors(found, ["some", "often", "rare", None]) == {"item_x": [2, 1, 0, 0]}


def test_list_of_texts_is_padded_with_an_index_that_no_text_has() -> None:
    values = [["a", "b"], ["b"], [], ["b", "a", "c"], None]
    found = derive(pa.array(values, pa.list_(pa.string())))
    assert found.inputs[0].declared.shape == ["batch", 3]
    assert found.inputs[0].index_count == 4
    assert tensors(found, [["a", "b"], ["c"], [], None]) == {
        "item_x": [[3, 2, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    }


def test_long_lists_are_cut() -> None:
    found = derive([[str(number % 7) for number in range(100)]] * 3)
    assert found.inputs[0].declared.shape == ["batch", LIST_LENGTH_MAX]


def test_number_becomes_a_normalised_number_and_a_bucket() -> None:
    values = pa.array([*range(1000), None])
    found = derive(values)
    assert [tensor.declared.name for tensor in found.inputs] == ["item_x", "item_x_bucket"]
    assert [tensor.index_count for tensor in found.inputs] == [0, BUCKET_COUNT]
    given = found.tensors(pa.table({"id": ["0"] * 1001, "x": values}))
    assert given["item_x"].mean() == pytest.approx(0, abs=0.01)
    assert given["item_x"].std() == pytest.approx(1, abs=0.01)
    counts = np.bincount(given["item_x_bucket"])
    assert len(counts) == BUCKET_COUNT
    assert counts.min() >= 49
    # An absent number is the middle one.
    assert found.features[0].default == 499


def test_few_distinct_numbers_get_a_bucket_each() -> None:
    found = derive(pa.array([1.0, 2.0, 5.0] * 10))
    assert tensors(found, [1.0, 2.0, 5.0, 99.0])["item_x_bucket"] == [0, 1, 2, 2]
    assert found.features[0].type == "double"


def test_not_a_number_counts_as_absent() -> None:
    found = derive(pa.array([1.0, np.nan, 3.0, 5.0]))
    assert found.features[0].default == 3.0
    assert np.isfinite(tensors(found, [1.0])["item_x"]).all()


def test_truth_value_becomes_0_or_1() -> None:
    found = derive(pa.array([True, False, None]))
    assert tensors(found, [True, False, None]) == {"item_x": [1.0, 0.0, 0.0]}
    assert found.features[0].default is False


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([f"Film {row}" for row in range(ROWS)], "nearly every row"),
        (["a", "b", "c"], "no text occurs twice"),
        (["same"] * ROWS, "the same value everywhere"),
        (pa.array([None] * ROWS, pa.string()), "the same value everywhere"),
        (pa.array([7] * ROWS), "the same value everywhere"),
        (pa.array([[]] * ROWS, pa.list_(pa.string())), "the same value everywhere"),
        (pa.array([[1]] * ROWS, pa.list_(pa.int64())), "no use for type list"),
    ],
)
def test_column_that_tells_nothing_is_skipped_with_the_reason(values: Any, reason: str) -> None:
    found = derive(values)
    assert not found.inputs
    assert not found.features
    assert reason in found.skipped["item.x"]


def test_columns_whose_names_differ_in_signs_alone_get_tensors_of_their_own() -> None:
    table = pa.table({"id": ["0", "1"], "a b": [1, 2], "a-b": [3, 4], "a_b_bucket": ["x", "y"]})
    found = column_features("user", table)
    names = [tensor.declared.name for tensor in found.inputs]
    assert len(set(names)) == len(names) >= 4
    assert {feature.name for feature in found.features} >= {"user.a b", "user.a-b"}


def test_time_defaults_to_the_newest() -> None:
    found = time_features(pa.chunked_array([pa.array([100, None, 300, 200])]))
    assert found.side == "context"
    assert found.features[0].name == "context.time"
    assert (found.features[0].type, found.features[0].default) == ("int64", 300)
    assert time_features(pa.chunked_array([pa.array([None, None], pa.int64())])).inputs == ()


def test_every_usable_column_of_a_data_set_is_used(small_dataset: Dataset) -> None:
    assert small_dataset.users is not None
    user = column_features("user", small_dataset.users)
    item = column_features("item", small_dataset.items)
    assert {feature.name: feature.type for feature in (user + item).features} == {
        "user.age": "int64",
        "user.height": "double",
        "user.premium": "bool",
        "user.city": "string",
        "item.year": "int64",
        "item.genres": "string_list",
    }
    assert set(user.skipped) == {"user.country"}
    assert set(item.skipped) == {"item.title", "item.frame sizes"}
