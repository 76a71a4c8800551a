"""What becomes of scalars. Parity with Keras itself is in `test_featurize_keras.py`."""

from __future__ import annotations

from typing import Any

import farmhash
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from shortlist_server.bundle.manifest import Input
from shortlist_server.errors import FieldRequired
from shortlist_server.runtime.featurize import Featurizer, VocabularyIndex

FILMS = ["Alien", "Brazil", "Çiğdem"]
YEARS = [1979, -1, 1985]
VOCABULARIES = {"films": VocabularyIndex(FILMS), "years": VocabularyIndex(YEARS)}
FLOAT32_MAX = float(np.finfo(np.float32).max)

TEXT_LOOKUP = {"kind": "lookup", "vocabulary": "films"}
YEAR_LOOKUP = {"kind": "lookup", "vocabulary": "years"}
HALVES = {"kind": "bucketize", "boundaries": [0.0, 0.5, 1.0]}
NORMALIZE = {"kind": "normalize", "mean": 3.0, "variance": 4.0}


def featurizer(
    *transforms: dict[str, Any],
    default: Any = None,
    dtype: str = "int64",
    shape: tuple[int | str, ...] = ("batch",),
    source: str = "user.value",
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


def test_lookup_counts_from_the_oov_index_in_the_order_of_the_vocabulary() -> None:
    lookup = featurizer(TEXT_LOOKUP)
    assert lookup(["Brazil", "Alien", "Çiğdem", "alien", ""]).tolist() == [2, 1, 3, 0, 0]


def test_lookup_of_integers_knows_negative_ones() -> None:
    assert featurizer(YEAR_LOOKUP)([-1, 1979, 0, 2**63 - 1]).tolist() == [2, 1, 0, 0]


def test_mask_token_has_index_0_before_the_unknown_and_the_known() -> None:
    lookup = featurizer(TEXT_LOOKUP | {"mask_token": ""})
    assert lookup(["", "nobody", "Alien"]).tolist() == [0, 1, 2]


def test_unknown_texts_share_the_oov_indices_by_their_fingerprint() -> None:
    lookup = featurizer(TEXT_LOOKUP | {"mask_token": "", "oov_count": 5})
    unknown = [f"film {number}" for number in range(50)]
    expected = [1 + farmhash.fingerprint64(text) % 5 for text in unknown]
    assert lookup([*unknown, "", "Alien"]).tolist() == [*expected, 0, 6]
    assert set(expected) == {1, 2, 3, 4, 5}


def test_unknown_integers_share_the_oov_indices_by_their_remainder() -> None:
    lookup = featurizer(YEAR_LOOKUP | {"oov_count": 3})
    assert lookup([-4, -3, -2, 0, 1, 2, 1979]).tolist() == [2, 0, 1, 0, 1, 2, 3]


def test_hash_is_the_fingerprint_of_the_text_modulo_the_bins() -> None:
    texts = ["Alien", "", "Çiğdem", "a\0b"]
    expected = [farmhash.fingerprint64(text.encode()) % 97 for text in texts]
    assert featurizer({"kind": "hash", "bins": 97})(texts).tolist() == expected


def test_hash_of_an_integer_is_that_of_its_digits() -> None:
    numbers = [0, -1, 2**63 - 1, -(2**63)]
    expected = [farmhash.fingerprint64(str(number)) % 97 for number in numbers]
    assert featurizer({"kind": "hash", "bins": 97})(numbers).tolist() == expected


def test_hash_keeps_bucket_0_for_the_mask_value() -> None:
    hashed = featurizer({"kind": "hash", "bins": 3, "mask_value": "none"})
    texts = ["none", *map(str, range(20))]
    expected = [0, *(1 + farmhash.fingerprint64(text) % 2 for text in texts[1:])]
    assert hashed(texts).tolist() == expected


def test_hash_forgets_the_mask_value_where_there_is_one_bucket() -> None:
    assert featurizer({"kind": "hash", "bins": 1, "mask_value": "a"})(["a", "b"]).tolist() == [0, 0]


def test_a_boundary_belongs_to_the_bucket_above_it() -> None:
    numbers = [-1e300, -0.001, 0.0, 0.49, 0.5, 0.99, 1.0, 1e300]
    assert featurizer(HALVES)(numbers).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_buckets_are_those_of_float32() -> None:
    # 16777217 is no float32; it rounds to 16777216.
    buckets = featurizer({"kind": "bucketize", "boundaries": [16777217.0, 16777218.0]})
    assert buckets([16777215, 16777216, 16777217.0, 16777218]).tolist() == [0, 1, 1, 2]


def test_normalize_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    assert featurizer(NORMALIZE, dtype="float32")([3, 5.0, -1]).tolist() == [0.0, 1.0, -2.0]


def test_normalize_divides_by_no_less_than_the_epsilon_of_keras() -> None:
    flat = featurizer({"kind": "normalize", "mean": 1.0, "variance": 0.0}, dtype="float32")
    assert flat([1, 2]).tolist() == [0.0, float(np.float32(1) / np.float32(1e-7))]


@pytest.mark.parametrize("transforms", [[], [NORMALIZE]])
def test_numbers_beyond_float32_become_its_largest(transforms: list[dict[str, Any]]) -> None:
    numbers = [1e300, -1e300, FLOAT32_MAX, 2**63 - 1]
    for values in (numbers, numbers[:1], numbers[1:2], numbers[3:]):
        assert np.isfinite(featurizer(*transforms, dtype="float32")(values)).all()
    assert featurizer(dtype="float32")([1e300, -1e300]).tolist() == [FLOAT32_MAX, -FLOAT32_MAX]


def test_a_difference_beyond_float32_is_its_largest_before_it_is_divided() -> None:
    far = featurizer({"kind": "normalize", "mean": -3e38, "variance": 4.0}, dtype="float32")
    assert (
        far([3e38, 3e38]).tolist() == far([3e38]).tolist() * 2 == [np.float32(FLOAT32_MAX / 2)] * 2
    )


def test_denormal_numbers_are_zero() -> None:
    tiny = [1e-39, -1e-39, 5e-324]
    assert featurizer({"kind": "bucketize", "boundaries": [1e-40]})(tiny).tolist() == [1, 1, 1]
    assert featurizer({"kind": "bucketize", "boundaries": [1e-40]})([-1e-30, 0]).tolist() == [0, 1]


def test_transforms_follow_each_other() -> None:
    chained = featurizer(YEAR_LOOKUP, NORMALIZE, HALVES)
    assert chained([1979, -1, 1985, 7]).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_indices_take_the_declared_dtype(dtype: str) -> None:
    lookup = featurizer(TEXT_LOOKUP, dtype=dtype)
    for values in ([], ["Alien"], ["Alien", "Brazil"]):
        assert lookup(values).dtype == np.dtype(dtype)
    assert lookup(["Alien", "Brazil"]).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int32", [2**31 - 1, -(2**31), 5]),
        ("int64", [2**63 - 1, -(2**63), 5]),
        ("float32", [1.5, -2.0, 5]),
        ("float64", [0.1, 1e300, 5]),
        ("bool", [True, False, True]),
        ("float32", [True, False, True]),
        ("int64", [True, False, True]),
        ("bool", [5, 0, -1]),
    ],
)
def test_numbers_without_transforms_are_cast(dtype: str, values: list[Any]) -> None:
    expected = np.array(values, dtype)
    for part in (slice(0, 3), slice(0, 1), slice(2, 3), slice(0, 0)):
        raw = featurizer(dtype=dtype)(values[part])
        assert raw.dtype == np.dtype(dtype)
        assert raw.tolist() == expected[part].tolist()


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
@pytest.mark.parametrize("tail", [(), (1,), (1, 1)])
def test_scalars_fill_the_declared_axes(tail: tuple[int, ...], count: int) -> None:
    array = featurizer(TEXT_LOOKUP, shape=("batch", *tail))(["Alien"] * count)
    assert array.shape == (count, *tail)
    assert (array == 1).all()


def test_absent_values_take_the_default_and_its_transforms() -> None:
    lookup = featurizer(TEXT_LOOKUP, default="Brazil")
    assert lookup([None]).tolist() == [2]
    assert lookup([None, "Alien", None]).tolist() == [2, 1, 2]


def test_an_oov_token_behind_a_mask_is_known() -> None:
    # As in Keras, which takes the vocabulary for one with special tokens only if all are there.
    index = VocabularyIndex(["[UNK]", "a"])
    for more in ({"mask_token": ""}, {"oov_count": 2}):
        declared = Input.model_validate(
            {"name": "x", "dtype": "int64", "shape": ["n"], "source": "item.id"}
            | {"transforms": [TEXT_LOOKUP | more]}
        )
        lookup = Featurizer(declared, default="", vocabularies={"films": index})
        assert lookup(["[UNK]", "a"]).tolist() == [2, 3]


def test_a_falsy_value_is_not_absent() -> None:
    assert featurizer(NORMALIZE, default=5.0, dtype="float32")([0, None]).tolist() == [-1.5, 1.0]
    assert featurizer(default=True, dtype="bool")([False]).tolist() == [False]
    assert featurizer(TEXT_LOOKUP | {"mask_token": ""}, default="Alien")([""]).tolist() == [0]


@pytest.mark.parametrize("values", [[None], ["Alien", None]])
def test_an_absent_value_without_a_default_is_refused(values: list[str | None]) -> None:
    with pytest.raises(FieldRequired, match=r"user\.value: expected a value"):
        featurizer(TEXT_LOOKUP)(values)


@pytest.mark.parametrize(
    "values",
    [
        np.array([1979, 7, 1985]),
        np.array([1979, 7, 1985], np.int32),
        np.array([1979, 7, 1985], object),
        np.array([True, False]),
        (1979, 7, 1985),
        [np.int64(1979), np.int16(7), 1985],
        range(1979, 1986, 3),
    ],
)
def test_values_may_come_in_any_sequence(values: Any) -> None:
    expected = [{1979: 1, -1: 2, 1985: 3}.get(int(value), 0) for value in values]
    assert featurizer(YEAR_LOOKUP)(values).tolist() == expected
    assert featurizer(YEAR_LOOKUP)(values[:1]).tolist() == expected[:1]


def test_numpy_texts_and_vocabularies_are_texts() -> None:
    index = VocabularyIndex(np.array(["Alien", "Brazil"]))
    declared = Input.model_validate(
        {"name": "x", "dtype": "int64", "shape": ["n"], "source": "item.id"}
        | {"transforms": [TEXT_LOOKUP]}
    )
    lookup = Featurizer(declared, default="", vocabularies={"films": index})
    assert lookup(np.array(["Brazil", "x", "Alien"])).tolist() == [2, 0, 1]
    assert lookup([np.str_("Brazil")]).tolist() == [2]


def test_what_comes_out_is_the_callers_own() -> None:
    numbers = np.array([1.0, 2.0], np.float32)
    featurizer(dtype="float32")(numbers)[:] = 0
    assert numbers.tolist() == [1.0, 2.0]


def test_a_vocabulary_knows_its_positions() -> None:
    index = VocabularyIndex(FILMS)
    assert len(index) == 3
    assert index.positions(["Çiğdem", "x"]).tolist() == [2, -1]
    assert (index.position("Brazil"), index.position("x")) == (1, -1)
    assert "Alien" in index
    assert "alien" not in index
    assert VocabularyIndex([]).positions(["x"]).tolist() == [-1]


TEXTS = st.sampled_from(FILMS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(YEARS)
NUMBERS = INTEGERS | st.floats(allow_nan=False, width=64) | st.booleans()
CHAINS: list[tuple[list[dict[str, Any]], str, st.SearchStrategy[Any]]] = [
    ([TEXT_LOOKUP], "int64", TEXTS),
    ([TEXT_LOOKUP | {"mask_token": "a", "oov_count": 3}], "int64", TEXTS),
    ([YEAR_LOOKUP | {"mask_token": 0, "oov_count": 3}], "int64", INTEGERS | st.booleans()),
    ([{"kind": "hash", "bins": 2**62}], "int64", TEXTS),
    ([{"kind": "hash", "bins": 10, "mask_value": 0}], "int64", INTEGERS),
    ([HALVES], "int64", INTEGERS | st.floats(allow_nan=False)),
    ([NORMALIZE], "float32", NUMBERS),
    ([{"kind": "normalize", "mean": -3e38, "variance": 1e4}], "float32", NUMBERS),
    ([], "float32", NUMBERS),
    ([], "float64", NUMBERS),
    ([], "bool", INTEGERS | st.booleans()),
    ([YEAR_LOOKUP, NORMALIZE], "float32", INTEGERS),
    ([TEXT_LOOKUP, {"kind": "multi_hot", "size": 4}], "float32", TEXTS),
]


@pytest.mark.parametrize(("transforms", "dtype", "values"), CHAINS)
@given(data=st.data())
def test_a_value_gives_the_same_alone_as_beside_any_others(
    transforms: list[dict[str, Any]], dtype: str, values: st.SearchStrategy[Any], data: Any
) -> None:
    shape = ("batch", 4) if transforms and transforms[-1]["kind"] == "multi_hot" else ("batch",)
    featurize = featurizer(*transforms, dtype=dtype, shape=shape)
    batch = data.draw(st.lists(values, min_size=2, max_size=8))
    together = featurize(batch)
    assert np.isfinite(together).all() or dtype == "float64"
    for place, value in enumerate(batch):
        assert featurize([value]).tobytes() == together[place : place + 1].tobytes()


@given(number=st.integers(-(2**63), 2**63 - 1))
@example(number=2**53 + 2**29 + 1)
@example(number=-(2**60) - 2**36 - 1)
def test_integers_are_rounded_to_float32_once(number: int) -> None:
    expected = float(np.array([number]).astype(np.float32)[0])
    raw = featurizer(dtype="float32")
    assert raw([number]).tolist() == [expected]
    assert raw([0.5, number]).tolist() == [0.5, expected]
