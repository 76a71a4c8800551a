from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from shortlist_exporters.onnx.probe import REQUEST_COUNT, first_rows, random_probe
from shortlist_server.bundle.manifest import Input
from shortlist_server.bundle.transforms import (
    Bucketize,
    Hash,
    Length,
    Lookup,
    MultiHot,
    Normalize,
    Pad,
    Tokenize,
    Transform,
)


def declare(name: str, dtype: Any, shape: list[int | str], source: str, *steps: Transform) -> Input:
    return Input(name=name, dtype=dtype, shape=shape, source=source, transforms=list(steps))


@pytest.mark.parametrize(
    ("steps", "shape", "low", "high"),
    [
        ([Lookup(vocabulary="v")], ["batch"], 0, 9),
        ([Lookup(vocabulary="v", mask_token="", oov_count=2)], ["batch"], 0, 11),
        ([Lookup(vocabulary="v", mask_token=""), Pad(length=4)], ["batch", 4], 0, 10),
        ([Lookup(vocabulary="not there")], ["batch"], 0, 0),
        ([Hash(bins=6)], ["batch"], 0, 5),
        ([Bucketize(boundaries=[1.0, 2.0])], ["batch"], 0, 2),
        ([Tokenize(vocabulary="v"), Pad(length=3)], ["batch", 3], 0, 10),
        ([Length(maximum=5)], ["batch"], 1, 5),
        ([], ["batch"], 0, 0),
    ],
)
def test_indices_cover_exactly_what_the_transforms_give(
    steps: list[Transform], shape: list[int | str], low: int, high: int
) -> None:
    tensor = declare("x", "int64", shape, "user.x", *steps)
    values = random_probe([tensor], vocabulary_sizes={"v": 9}, count=500)["x"]
    assert values.dtype == np.int64
    assert values.shape == (500, *shape[1:])
    assert (values.min(), values.max()) == (low, high)


def test_numbers_vary_and_multi_hot_is_zero_or_one() -> None:
    tensors = [
        declare("age", "float32", ["batch"], "user.age", Normalize(mean=1, variance=1)),
        declare("tags", "float32", ["batch", 3], "user.tags", MultiHot(size=3)),
        declare("premium", "bool", ["batch"], "user.premium"),
    ]
    feeds = random_probe(tensors, vocabulary_sizes={}, count=50)
    assert feeds["age"].std() > 0.5
    assert set(np.unique(feeds["tags"])) == {0.0, 1.0}
    assert feeds["premium"].dtype == np.bool_


def test_request_side_of_a_joined_ranker_has_its_own_rows() -> None:
    tensors = [
        declare("user_id", "int64", ["request"], "user.id", Lookup(vocabulary="v")),
        declare("item_id", "int64", ["candidate"], "item.id", Lookup(vocabulary="v")),
        declare("text", "float32", ["candidate", 3], "text.embedding"),
        declare("score", "float32", ["candidate"], "retrieval.score"),
        declare("request_index", "int64", ["candidate"], "request.index"),
    ]
    feeds = random_probe(tensors, vocabulary_sizes={"v": 9}, count=100)
    assert feeds["user_id"].shape == (REQUEST_COUNT,)
    assert feeds["item_id"].shape == feeds["score"].shape == (100,)
    assert set(feeds["request_index"]) == set(range(REQUEST_COUNT))
    few = first_rows(feeds, tensors, 3)
    assert {name: len(values) for name, values in few.items()} == {
        "user_id": REQUEST_COUNT,
        "item_id": 3,
        "text": 3,
        "score": 3,
        "request_index": 3,
    }


def test_same_seed_gives_same_values() -> None:
    tensor = declare("x", "float32", ["batch", "length"], "history.rating")
    first, second = (random_probe([tensor], vocabulary_sizes={}, seed=3)["x"] for _ in range(2))
    assert first.ndim == 2
    np.testing.assert_array_equal(first, second)
