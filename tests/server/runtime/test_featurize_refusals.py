"""What is refused: bundles when they are loaded, values when they come."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from shortlist_server.bundle.manifest import Input
from shortlist_server.errors import (
    BundleCorrupt,
    FeatureTypeMismatch,
    InvalidValue,
    MissingExtra,
    OutOfRange,
)
from shortlist_server.runtime.featurize import Featurizer, VocabularyIndex

VOCABULARIES = {
    "texts": VocabularyIndex(["a", "b"]),
    "numbers": VocabularyIndex([1, 2]),
    "special": VocabularyIndex(["[UNK]", "a"]),
    "special numbers": VocabularyIndex([-1, 5]),
    "empty": VocabularyIndex(["", "a"]),
    "none": VocabularyIndex([]),
}
LOOKUP = {"kind": "lookup", "vocabulary": "texts"}
NUMBER_LOOKUP = {"kind": "lookup", "vocabulary": "numbers"}
HASH = {"kind": "hash", "bins": 10}
HALVES = {"kind": "bucketize", "boundaries": [0.5]}
NORMALIZE = {"kind": "normalize", "mean": 0.0, "variance": 1.0}
TOKENIZE = {"kind": "tokenize", "vocabulary": "texts"}
PAD = {"kind": "pad", "length": 3}
LENGTH = {"kind": "length", "maximum": 3}


def hot(size: int) -> dict[str, Any]:
    return {"kind": "multi_hot", "size": size}


def featurizer(
    *transforms: dict[str, Any],
    default: Any,
    dtype: str = "int64",
    shape: tuple[int | str, ...] = ("batch",),
    source: str = "item.value",
) -> Featurizer:
    declared = Input.model_validate(
        {
            "name": "x",
            "dtype": dtype,
            "shape": list(shape),
            "source": source,
            "transforms": list(transforms),
        }
    )
    return Featurizer(declared, default=default, vocabularies=VOCABULARIES)


@pytest.mark.parametrize(
    ("transforms", "default", "message"),
    [
        ([LOOKUP | {"vocabulary": "films"}], "", r"one of \[.*'texts'.*\], got 'films'"),
        ([TOKENIZE | {"vocabulary": "films"}], "", r"one of \[.*'texts'.*\], got 'films'"),
        ([LOOKUP], 0, r"transform 1 \(lookup\): expected string, got double or int64"),
        ([LOOKUP], 0.5, "expected string, got double"),
        ([LOOKUP], True, "expected string, got bool"),
        ([LOOKUP, PAD], [0.5], "expected string, got double"),
        ([NUMBER_LOOKUP], "", "expected bool or int64, got string"),
        ([NUMBER_LOOKUP], 0.5, "expected bool or int64, got double"),
        ([LOOKUP | {"mask_token": 0}], "", "expected a mask token of type string, got 0"),
        ([NUMBER_LOOKUP | {"mask_token": ""}], 0, "expected a mask token of type int64, got ''"),
        ([LOOKUP | {"mask_token": "a"}], "", "mask token that is not in the vocabulary, got 'a'"),
        ([LOOKUP | {"vocabulary": "special"}], "", r"known tokens only.*got '\[UNK\]'"),
        ([LOOKUP | {"vocabulary": "special numbers"}], 0, "known tokens only.*got -1"),
        ([TOKENIZE | {"vocabulary": "empty"}], "", "known tokens only.*got the empty text"),
        ([TOKENIZE | {"vocabulary": "numbers"}, PAD], "", "vocabulary of type string, got int64"),
        ([TOKENIZE, PAD], 5, "expected string, got double or int64"),
        ([TOKENIZE, PAD], ["a"], "expected one text, got a list"),
        ([HASH, TOKENIZE], "", r"transform 2 \(tokenize\): expected string, got int64"),
        ([HASH], 0.5, "expected int64 or string, got double"),
        ([HASH], True, "expected int64 or string, got bool"),
        ([HASH | {"mask_value": "a"}], 5, "expected string, got double or int64"),
        ([HASH | {"mask_value": 5}], "a", "expected int64, got string"),
        ([NORMALIZE, HASH], 0.5, r"transform 2 \(hash\): expected int64 or string, got double"),
        ([NORMALIZE, NUMBER_LOOKUP], 0.5, "expected bool or int64, got double"),
        ([NORMALIZE], "", "expected bool or double or int64, got string"),
        ([NORMALIZE | {"mean": 1e300}], 0.5, "within float32, got 1e\\+300 and 1.0"),
        ([NORMALIZE | {"variance": 1e300}], 0.5, "within float32, got 0.0 and 1e\\+300"),
        ([HALVES], "", "expected double or int64, got string"),
        ([HALVES], True, "expected double or int64, got bool"),
        ([HALVES | {"boundaries": [1.0, 0.0]}], 0.5, r"never fall, got \[1.0, 0.0\]"),
        ([HALVES | {"boundaries": [0.0, 1e300]}], 0.5, r"within float32.*got \[0.0, 1e\+300\]"),
        ([PAD], 5, r"transform 1 \(pad\): expected a list, got a scalar"),
        ([PAD], ["a"], "look texts up or hash them first, got string"),
        ([LOOKUP, PAD, PAD], ["a"], "not padded yet, got 3 elements always"),
        ([LOOKUP, PAD, LENGTH], ["a"], "not padded yet, got 3 elements always"),
        ([LENGTH], 5, "not padded yet, got a scalar"),
        ([LOOKUP, PAD | {"value": -1}], ["a"], "index to pad with, 0 or more, got -1"),
        ([LOOKUP, PAD | {"value": 0.5}], ["a"], "index to pad with, 0 or more, got 0.5"),
        ([PAD | {"value": 0.5}, NUMBER_LOOKUP], [1], "got double: 0.5, the padding"),
        ([PAD, LOOKUP], [], "expected string, got int64: 0, the padding"),
        ([hot(3)], "", "expected bool or int64, got string"),
        ([hot(3)], 0.5, "expected bool or int64, got double"),
        ([LOOKUP, hot(2)], "", r"transform 2 \(multi_hot\): expected indices below its size, 2, g"),
        ([HASH, hot(9)], "", "indices below its size, 9, got up to 9"),
        ([HALVES, hot(1)], 0.5, "indices below its size, 1, got up to 1"),
        ([LOOKUP | {"oov_count": 5, "mask_token": ""}, hot(7)], "", "got up to 7"),
        ([TOKENIZE, hot(3)], "", "indices below its size, 3, got up to 3"),
        ([LENGTH, hot(3)], ["a"], "indices below its size, 3, got up to 3"),
        ([LOOKUP, PAD | {"value": 8}, hot(8)], ["a"], "indices below its size, 8, got up to 8"),
        ([PAD | {"value": 8}, hot(8)], [1], "indices below its size, 8, got up to 8"),
        ([hot(3), NORMALIZE], 1, "expected multi_hot to be the last transform, got another"),
    ],
)
def test_transforms_that_cannot_work_are_refused_before_there_is_a_value(
    transforms: list[dict[str, Any]], default: Any, message: str
) -> None:
    with pytest.raises(BundleCorrupt, match=message) as refusal:
        featurizer(*transforms, default=default, shape=("batch", "length"))
    assert str(refusal.value).startswith("input 'x' from 'item.value': transform")


@pytest.mark.parametrize(
    ("transforms", "default", "dtype", "message"),
    [
        ([], "", "float32", "dtype float32: expected bool or double or int64, got string"),
        ([], "", "int64", "expected bool or int64, got string"),
        ([], 0.5, "int64", "expected bool or int64, got double"),
        ([], 0.5, "bool", "expected bool or int64, got double"),
        ([NORMALIZE], 0.5, "int64", "expected a dtype of fractions, float32 or float64, got int64"),
        ([HASH | {"bins": 2**24 + 2}], "", "float32", "up to 16777216, got up to 16777217"),
        ([HASH | {"bins": 2**31 + 1}], "", "int32", "up to 2147483647, got up to 2147483648"),
        ([HASH | {"bins": 2**53 + 2}], "", "float64", "got up to 9007199254740993"),
        ([LOOKUP], "", "bool", "up to 1, got up to 2"),
    ],
)
def test_a_dtype_that_does_not_hold_what_comes_out_is_refused(
    transforms: list[dict[str, Any]], default: Any, dtype: str, message: str
) -> None:
    with pytest.raises(BundleCorrupt, match=message):
        featurizer(*transforms, default=default, dtype=dtype)


def test_a_dtype_that_just_holds_what_comes_out_is_taken() -> None:
    for bins, dtype in ((2**24 + 1, "float32"), (2**31, "int32"), (2**53 + 1, "float64")):
        assert featurizer(HASH | {"bins": bins}, default="", dtype=dtype)(["a"]).dtype == dtype


@pytest.mark.parametrize(
    ("transforms", "default", "shape"),
    [
        ([LOOKUP], "", ("batch", 2)),
        ([LOOKUP], "", ("batch", "length")),
        ([LOOKUP], ["a"], ("batch",)),
        ([LOOKUP], ["a"], ("batch", 3)),
        ([LOOKUP], ["a"], ("batch", "length", 2)),
        ([LOOKUP], ["a"], ("batch", 1, "length")),
        ([LOOKUP], ["a"], ("batch", "length", "width")),
        ([LOOKUP, PAD], ["a"], ("batch",)),
        ([LOOKUP, PAD], ["a"], ("batch", 4)),
        ([LOOKUP, PAD], ["a"], ("batch", 3, 3)),
        ([LOOKUP, PAD], ["a"], ("batch", "length", 3)),
        ([LOOKUP, PAD], ["a"], ("batch", "length", "width")),
        ([LOOKUP, hot(4)], ["a"], ("batch", 3)),
        ([TOKENIZE], "", ("batch",)),
        ([LENGTH], ["a"], ("batch", 3)),
    ],
)
def test_a_shape_that_the_transforms_cannot_fill_is_refused(
    transforms: list[dict[str, Any]], default: Any, shape: tuple[int | str, ...]
) -> None:
    with pytest.raises(BundleCorrupt, match=r"input 'x' from 'item\.value': shape: expected"):
        featurizer(*transforms, default=default, shape=shape)


@pytest.mark.parametrize(
    ("source", "transforms", "message"),
    [
        ("user.id", [NORMALIZE], "expected bool or double or int64, got string"),
        ("item.id", [PAD], "expected a list, got a scalar"),
        ("history.item_id", [NUMBER_LOOKUP], "expected bool or int64, got string"),
        ("history.rating", [HASH], "expected int64 or string, got double"),
        ("history.time", [LOOKUP], "expected string, got int64"),
    ],
)
def test_sources_that_are_no_features_have_known_types(
    source: str, transforms: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(BundleCorrupt, match=message):
        featurizer(*transforms, default=None, source=source, dtype="float32")


def test_a_default_that_the_transforms_cannot_take_is_refused() -> None:
    with pytest.raises(BundleCorrupt, match=r"default 7: expected indices from 0 to 2, got 7 to 7"):
        featurizer(hot(3), default=7, shape=("batch", 3))
    with pytest.raises(BundleCorrupt, match="default 4294967296: expected integers from -2147"):
        featurizer(default=2**32, dtype="int32")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["a", "b", "a"], "expected distinct tokens, got 'a' as number 0 and 2"),
        ([3, 3], "expected distinct tokens, got 3 as number 0 and 1"),
        (["a", 1], "all string or all int64, got .'int64', 'string'."),
        ([True], "all string or all int64, got .'bool'."),
        ([0.5], "all string or all int64, got .'double'."),
        ([b"a"], "all string or all int64, got .'bytes'."),
    ],
)
def test_a_vocabulary_holds_distinct_tokens_of_one_type(tokens: list[Any], message: str) -> None:
    with pytest.raises(BundleCorrupt, match=message):
        VocabularyIndex(tokens)


def test_to_an_empty_vocabulary_everything_is_unknown() -> None:
    lookup = featurizer(LOOKUP | {"vocabulary": "none"}, default=None)
    assert lookup(["a", "b"]).tolist() == [0, 0]
    assert lookup([5]).tolist() == [0]
    spread = featurizer(LOOKUP | {"vocabulary": "none", "oov_count": 2}, default=None)
    assert spread([5, 6]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("transforms", "dtype", "value", "message"),
    [
        ([LOOKUP], "int64", 5, "item.value: expected string, got int64"),
        ([LOOKUP], "int64", b"a", "expected string, got bytes"),
        ([LOOKUP], "int64", ["a"], "expected string, got list"),
        ([NUMBER_LOOKUP], "int64", 1.0, "expected bool or int64, got double"),
        ([NUMBER_LOOKUP], "int64", "1", "expected bool or int64, got string"),
        ([HASH], "int64", 1.0, "expected int64 or string, got double"),
        ([HASH], "int64", True, "expected int64 or string, got bool"),
        ([HASH | {"mask_value": "a"}], "int64", 5, "expected string, got int64"),
        ([HALVES], "int64", "0.5", "expected double or int64, got string"),
        ([HALVES], "int64", True, "expected double or int64, got bool"),
        ([NORMALIZE], "float32", "0.5", "expected bool or double or int64, got string"),
        ([], "float32", "0.5", "expected bool or double or int64, got string"),
        ([], "float64", "0.5", "expected bool or double or int64, got string"),
        ([], "int64", 0.5, "expected bool or int64, got double"),
        ([], "bool", 0.5, "expected bool or int64, got double"),
        ([], "float32", object(), "expected bool or double or int64, got object"),
    ],
)
def test_a_value_of_another_type_is_refused_alone_and_in_a_batch(
    transforms: list[dict[str, Any]], dtype: str, value: Any, message: str
) -> None:
    featurize = featurizer(*transforms, default=None, dtype=dtype)
    for values in ([value], [value, value]):
        with pytest.raises(FeatureTypeMismatch, match=message):
            featurize(values)


@pytest.mark.parametrize("value", [5, "a", None])
def test_a_scalar_among_lists_is_refused(value: Any) -> None:
    featurize: Any = featurizer(LOOKUP, PAD, default=["a"], shape=("batch", 3))
    if value is None:
        with pytest.raises(FeatureTypeMismatch, match="expected string, got nothing"):
            featurize([["a", value]])
        return
    for values in ([value], [["a"], value]):
        with pytest.raises(FeatureTypeMismatch, match=r"item\.value: expected a list, got"):
            featurize(values)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int32", 2**31), ("int32", -(2**31) - 1), ("int64", 2**63), ("float32", 2**64)],
)
def test_an_integer_that_does_not_fit_is_refused_not_wrapped(dtype: str, value: int) -> None:
    featurize = featurizer(default=None, dtype=dtype)
    for values in ([value], [0, value]):
        with pytest.raises(OutOfRange, match=r"item\.value: expected integers from -"):
            featurize(values)


def test_unsigned_integers_of_64_bits_are_refused_not_wrapped() -> None:
    with pytest.raises(FeatureTypeMismatch, match="expected bool or int64, got uint64"):
        featurizer(default=None)(np.array([2**64 - 1], np.uint64))


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_beyond_multi_hot_is_refused(index: int) -> None:
    featurize = featurizer(hot(3), default=0, shape=("batch", 3))
    for values in ([index], [0, index]):
        with pytest.raises(OutOfRange, match=r"item\.value: expected indices from 0 to 2"):
            featurize(values)


def test_a_text_that_is_no_unicode_is_refused() -> None:
    for transforms in ([HASH], [LOOKUP | {"oov_count": 2}], [TOKENIZE, LENGTH]):
        for values in (["\ud800"], ["a", "\ud800"]):
            with pytest.raises(InvalidValue, match=r"item\.value: expected Unicode text"):
                featurizer(*transforms, default="")(values)


def test_hashing_without_farmhash_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "farmhash", None)
    for transform in (HASH, LOOKUP | {"oov_count": 2}):
        with pytest.raises(MissingExtra, match=r"shortlist\[server\]"):
            featurizer(transform, default="")


def test_only_hashing_needs_farmhash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "farmhash", None)
    assert featurizer(LOOKUP, default="")(["b"]).tolist() == [2]
    assert featurizer(NUMBER_LOOKUP | {"oov_count": 2}, default=0)([2, 3]).tolist() == [3, 1]
