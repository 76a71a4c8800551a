"""What becomes of lists, and of texts that become lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist_server.bundle.manifest import Input
from shortlist_server.errors import InvalidValue
from shortlist_server.runtime.featurize import Featurizer, VocabularyIndex

GENRES = ["Comedy", "Drama", "Horror"]
WORDS = ["the", "third", "man", "3", "ö", "m"]
VOCABULARIES = {"genres": VocabularyIndex(GENRES), "words": VocabularyIndex(WORDS)}
LOOKUP = {"kind": "lookup", "vocabulary": "genres"}
NORMALIZE = {"kind": "normalize", "mean": 1.0, "variance": 2.0}


def featurizer(
    *transforms: dict[str, Any],
    shape: tuple[int | str, ...],
    default: Any = (),
    dtype: str = "int64",
    source: str = "item.genres",
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
    if default == ():
        default = []
    return Featurizer(declared, default=default, vocabularies=VOCABULARIES)


def pad(length: int, side: str = "right", keep: str = "last", value: float = 0) -> dict[str, Any]:
    return {"kind": "pad", "length": length, "side": side, "keep": keep, "value": value}


HISTORIES = [["Drama"], [], ["Horror", "Western", "Comedy", "Drama"], ["Comedy", "Drama"]]


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (pad(3), [[2, 0, 0], [0, 0, 0], [0, 1, 2], [1, 2, 0]]),
        (pad(3, keep="first"), [[2, 0, 0], [0, 0, 0], [3, 0, 1], [1, 2, 0]]),
        (pad(3, side="left"), [[0, 0, 2], [0, 0, 0], [0, 1, 2], [0, 1, 2]]),
        (pad(2, value=9), [[2, 9], [9, 9], [1, 2], [1, 2]]),
    ],
)
def test_pad_makes_lists_equally_long(padding: dict[str, Any], expected: list[list[int]]) -> None:
    padded = featurizer(LOOKUP, padding, shape=("batch", padding["length"]))
    assert padded(HISTORIES).tolist() == expected
    assert [padded([history]).tolist()[0] for history in HISTORIES] == expected


def brute_force_pad(numbers: list[int], padding: dict[str, Any]) -> list[int]:
    length = padding["length"]
    kept = numbers[-length:] if padding["keep"] == "last" else numbers[:length]
    filling = [padding["value"]] * (length - len(kept))
    return kept + filling if padding["side"] == "right" else filling + kept


@given(
    lists=st.lists(st.lists(st.integers(-100, 100), max_size=8), max_size=6),
    length=st.integers(1, 6),
    side=st.sampled_from(["left", "right"]),
    keep=st.sampled_from(["first", "last"]),
    value=st.integers(-5, 5),
)
def test_pad_equals_padding_each_list_by_hand(
    lists: list[list[int]], length: int, side: str, keep: str, value: int
) -> None:
    padding = pad(length, side, keep, value)
    padded = featurizer(padding, shape=("batch", length), default=[1])(lists)
    assert padded.tolist() == [brute_force_pad(numbers, padding) for numbers in lists]
    assert padded.shape == (len(lists), length)


def test_a_transform_after_pad_also_changes_the_padding() -> None:
    buckets = {"kind": "bucketize", "boundaries": [0.0, 10.0]}
    chain = (pad(3, value=20), buckets)
    assert featurizer(*chain, shape=("batch", 3))([[-1, 5], [11]]).tolist() == [
        [0, 1, 2],
        [2, 2, 2],
    ]


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [("float32", 0.5, [1.0, 0.5]), ("float64", 0.5, [1.0, 0.5]), ("int32", -1, [1, -1])],
)
def test_raw_lists_are_padded_in_their_own_dtype(
    dtype: str, value: float, expected: list[float]
) -> None:
    padded = featurizer(pad(2, value=value), shape=("batch", 2), dtype=dtype, default=[1])
    assert padded([[1]]).tolist() == [expected]
    assert padded([[1]]).dtype == np.dtype(dtype)


def test_padding_beyond_float32_is_its_largest() -> None:
    padded = featurizer(NORMALIZE, pad(1, value=1e300), shape=("batch", 1), dtype="float32")
    assert padded([[]]).tolist() == [[float(np.finfo(np.float32).max)]]


def test_lists_may_end_in_axes_of_one() -> None:
    padded = featurizer(pad(2), shape=("batch", 2, 1), dtype="float32", source="history.rating")
    assert padded([[4.5], [3.0, 5.0]]).tolist() == [[[4.5], [0.0]], [[3.0], [5.0]]]


def test_a_padded_list_fits_a_dynamic_axis() -> None:
    assert featurizer(LOOKUP, pad(2), shape=("batch", "length"))(HISTORIES).shape == (4, 2)


def test_equally_long_lists_fill_a_dynamic_axis_as_they_are() -> None:
    lookup = featurizer(LOOKUP, shape=("batch", "length"))
    assert lookup([["Drama", "Horror"]]).tolist() == [[2, 3]]
    assert lookup([["Drama", "Horror"], ["x", "Comedy"]]).tolist() == [[2, 3], [0, 1]]
    assert lookup([[]]).shape == (1, 0)
    assert lookup([]).shape == (0, 0)


def test_lists_of_different_lengths_need_padding() -> None:
    with pytest.raises(InvalidValue, match=r"item\.genres: expected lists of one length.*0 to 4"):
        featurizer(LOOKUP, shape=("batch", "length"))(HISTORIES)


def test_length_counts_up_to_its_maximum() -> None:
    length = featurizer({"kind": "length", "maximum": 3}, shape=("batch",), dtype="int32")
    assert length(HISTORIES).tolist() == [1, 0, 3, 2]
    assert length([["Western"] * 9]).tolist() == [3]


def test_length_is_a_number_like_any_other() -> None:
    chain = ({"kind": "length", "maximum": 9}, {"kind": "bucketize", "boundaries": [1.0, 2.0]})
    assert featurizer(*chain, shape=("batch", 1))(HISTORIES).tolist() == [[1], [0], [2], [2]]


def test_multi_hot_marks_every_index_that_occurs() -> None:
    hot = featurizer(LOOKUP, {"kind": "multi_hot", "size": 5}, shape=("batch", 5), dtype="float32")
    expected = [[0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0], [0, 1, 1, 0, 0]]
    assert hot(HISTORIES).tolist() == expected
    assert [hot([history]).tolist()[0] for history in HISTORIES] == expected
    assert hot([]).shape == (0, 5)


def test_multi_hot_after_pad_marks_the_padding_too() -> None:
    chain = (LOOKUP, pad(2, value=4), {"kind": "multi_hot", "size": 5})
    hot = featurizer(*chain, shape=("batch", 5), dtype="bool")
    assert hot([["Drama"], ["Drama", "Drama"]]).astype(int).tolist() == [
        [0, 0, 1, 0, 1],
        [0, 0, 1, 0, 0],
    ]


def test_absent_lists_take_the_default() -> None:
    padded = featurizer(LOOKUP, pad(2), shape=("batch", 2), default=["Horror"])
    assert padded([None, ["Drama"], []]).tolist() == [[3, 0], [2, 0], [0, 0]]
    assert padded([None]).tolist() == [[3, 0]]


def test_lists_may_be_tuples_and_arrays() -> None:
    padded: Any = featurizer(pad(2), shape=("batch", 2), default=[1])
    assert padded([(1, 2, 3), np.array([4]), [5]]).tolist() == [[2, 3], [4, 0], [5, 0]]
    assert padded([np.array([4, 5, 6])]).tolist() == [[5, 6]]
    assert padded([None, np.array([4, 5])]).tolist() == [[1, 0], [4, 5]]
    assert padded(np.array([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("standardize", "split", "text", "expected"),
    [
        ("lower_and_strip_punctuation", "whitespace", "The  THIRD-man, (1949)!", [2, 1, 1]),
        ("lower", "whitespace", "The third! Man", [2, 1, 4]),
        ("strip_punctuation", "whitespace", "The th_ird\tman.\n", [1, 3, 4]),
        (None, "whitespace", " third man ", [3, 4]),
        ("lower", "character", "M3 Ö", [7, 5, 1, 1]),
        (None, None, "man", [4]),
        ("lower_and_strip_punctuation", None, "!Man?", [4]),
        ("lower_and_strip_punctuation", None, "!?", [0]),
        (None, "whitespace", "third\u00a0man", [1]),
        ("lower_and_strip_punctuation", "whitespace", "", []),
    ],
)
def test_tokenize_cuts_texts_as_tensorflow_does(
    standardize: str | None, split: str | None, text: str, expected: list[int]
) -> None:
    tokenize = {
        "kind": "tokenize",
        "vocabulary": "words",
        "standardize": standardize,
        "split": split,
    }
    padded = featurizer(tokenize, pad(6, value=99), shape=("batch", 6), default="")
    row = expected + [99] * (6 - len(expected))
    assert padded([text]).tolist() == [row]
    assert padded(["", text])[1].tolist() == row
    if split is not None:
        length = featurizer(
            tokenize, {"kind": "length", "maximum": 9}, shape=("batch",), default=""
        )
        assert length([text, text]).tolist() == [len(expected)] * 2


def test_an_uncut_text_is_one_token() -> None:
    whole = {"kind": "tokenize", "vocabulary": "words", "standardize": None, "split": None}
    for shape in (("batch",), ("batch", 1), ("batch", "length")):
        tokens = featurizer(whole, shape=shape, default="")(["man", "x"])
        assert tokens.reshape(-1).tolist() == [4, 1]
        assert tokens.ndim == len(shape)


LISTS = st.lists(st.sampled_from([*GENRES, "Western", "x"]), max_size=6)
NUMBER_LISTS = st.lists(st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False), max_size=6)


@pytest.mark.parametrize(
    ("transforms", "shape", "dtype", "values"),
    [
        ([LOOKUP, pad(3)], ("batch", 3), "int64", LISTS),
        ([LOOKUP | {"oov_count": 2}, pad(3, "left", "first")], ("batch", 3), "int32", LISTS),
        ([LOOKUP, {"kind": "multi_hot", "size": 4}], ("batch", 4), "float32", LISTS),
        ([LOOKUP, pad(2), {"kind": "multi_hot", "size": 4}], ("batch", 4), "bool", LISTS),
        ([{"kind": "length", "maximum": 4}], ("batch", 1), "int32", LISTS),
        ([NORMALIZE, pad(4)], ("batch", 4), "float32", NUMBER_LISTS),
        ([pad(4)], ("batch", 4), "float32", NUMBER_LISTS),
    ],
)
@given(data=st.data())
def test_a_list_gives_the_same_alone_as_beside_any_others(
    transforms: list[dict[str, Any]],
    shape: tuple[int | str, ...],
    dtype: str,
    values: st.SearchStrategy[Any],
    data: Any,
) -> None:
    featurize = featurizer(*transforms, shape=shape, dtype=dtype)
    batch = data.draw(st.lists(values, min_size=2, max_size=6))
    together = featurize(batch)
    for place, value in enumerate(batch):
        assert featurize([value]).tobytes() == together[place : place + 1].tobytes()
