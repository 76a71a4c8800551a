"""Featurization against the Keras layers that it claims to equal, on values that tell them apart.

A model trained behind a Keras layer is served behind `runtime/featurize`: where they differ, it
gets other inputs than it was trained on, and nothing else would notice.
"""

from __future__ import annotations

import os
import random
import unicodedata
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from shortlist_server.bundle.manifest import Input
from shortlist_server.runtime.featurize import Featurizer, VocabularyIndex

pytestmark = pytest.mark.export

COUNT = 10_000
INT64 = np.iinfo(np.int64)
FLOAT32 = np.finfo(np.float32)

PIECES = [
    *("a", "b", "Z", "The", "film", "1995", "naïve", "É", "é", "e\u0301", "E\u0301", "ﬁ", "Å", "Å"),
    *(
        "İ",
        "ı",
        "I",
        "i\u0307",
        "ß",
        "ẞ",
        "Σ",
        "ς",
        "Ǆ",
        "ǅ",
        "Ⅷ",
        "𝔘",
        "ａ",
        "Ａ",
        "日本語",
        "カ\u3099",
    ),
    *(
        "العربية",
        "עברית",
        "\u202eabc\u202c",
        "हिन्दी",
        "👩\u200d👩\u200d👧",
        "🏳️\u200d🌈",
        "🇩🇪",
        "👍🏽",
    ),
    *(
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\v",
        "\f",
        "\x1c",
        "\x1d",
        "\x1e",
        "\x1f",
        "\x85",
        "\0",
        "\x7f",
    ),
    *("\u00a0", "\u1680", "\u2003", "\u2007", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"),
    *("\u200b", "\u200c", "\u2060", "\ufeff", "\u00ad", "\ufffd", "\uffff", "\U0010ffff", "\ue000"),
    *"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    *("«", "»", "“", "”", "…", "—", "¿", "。", "、", "٪", "·", "`´", "§", "€"),
]


@pytest.fixture(scope="module")
def tensorflow() -> Any:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow

        assert tensorflow.keras.layers.StringLookup is not None  # the layers load when first named
    return tensorflow


@pytest.fixture(scope="module")
def layers(tensorflow: Any) -> Any:
    return tensorflow.keras.layers


def odd_texts(seed: int) -> list[str]:
    """Return distinct texts of everything that cuts, folds, hides, joins or turns around."""
    draw = random.Random(seed)
    texts = {"", " ", "\0", "[UNK]", "a", "A", "é" * 100_000, "x y " * 25_000, "!" * 999, *PIECES}
    while len(texts) < COUNT:
        text = "".join(draw.choices(PIECES, k=draw.randint(1, 9)))
        if draw.random() < 0.2:
            text = unicodedata.normalize(draw.choice(["NFC", "NFD", "NFKC", "NFKD"]), text)
        texts.add(text)
    return draw.sample(sorted(texts), len(texts))


def vocabulary_of(texts: list[str], *reserved: str) -> list[str]:
    """Return every other text that Keras can take.

    It packs them into a numpy array, which is as wide as the longest and drops NULs at the end.
    """
    known = [text for text in texts[::2] if len(text) < 1000 and not text.endswith("\0")]
    return [text for text in known if text not in reserved]


def odd_integers(seed: int) -> list[int]:
    """Return distinct integers near zero, near powers of two and at the ends of int64."""
    draw = random.Random(seed)
    numbers = {0, INT64.min, INT64.min + 1, INT64.max, INT64.max - 1, *range(-2000, 2000)}
    while len(numbers) < COUNT:
        near = draw.choice([-1, 1]) * 2 ** draw.randint(0, 63) + draw.randint(-3, 3)
        number = draw.choice([near, draw.randint(INT64.min, INT64.max)])
        if INT64.min <= number <= INT64.max:
            numbers.add(number)
    return draw.sample(sorted(numbers), len(numbers))


def odd_floats(seed: int, near: list[float]) -> list[float]:
    """Return numbers of all magnitudes, and `near` with their float32 and float64 neighbours."""
    draw = np.random.default_rng(seed)
    exact = np.array(
        [*near, 0.0, -0.0, FLOAT32.max, FLOAT32.tiny, FLOAT32.smallest_subnormal, 5e-41]
    )
    narrow = exact.astype(np.float32)
    beside = [
        *(exact, -exact, np.nextafter(exact, np.inf), np.nextafter(exact, -np.inf)),
        *(narrow, np.nextafter(narrow, np.float32(1e38)), np.nextafter(narrow, -np.float32(1e38))),
    ]
    spread = draw.normal(size=COUNT) * 10.0 ** draw.uniform(-44, 38, COUNT)
    usual = draw.normal(size=COUNT) * 100
    numbers = np.concatenate([*beside, spread, usual]).astype(np.float64)
    within: list[float] = numbers[np.abs(numbers) <= float(FLOAT32.max)].tolist()
    return random.Random(seed).sample(within, len(within))


def featurize(
    values: list[Any],
    transforms: list[dict[str, Any]],
    *,
    vocabulary: list[Any] | None = None,
    dtype: str = "int64",
    shape: list[Any] | None = None,
    default: Any = None,
) -> NDArray[Any]:
    if default is None:
        default = values[0] if values else ""
    declared = Input.model_validate(
        {
            "name": "x",
            "dtype": dtype,
            "shape": ["batch"] if shape is None else shape,
            "source": "item.x",
            "transforms": transforms,
        }
    )
    vocabularies = {} if vocabulary is None else {"known": VocabularyIndex(vocabulary)}
    featurizer = Featurizer(declared, default=default, vocabularies=vocabularies)
    together = featurizer(values)
    for place in range(0, len(values), max(1, len(values) // 300)):
        assert featurizer(values[place : place + 1]).tobytes() == together[place].tobytes()
    return together


def assert_same(values: list[Any], keras: Any, ours: NDArray[Any]) -> None:
    expected = np.asarray(keras)
    assert ours.shape == expected.shape
    differs = (ours != expected).reshape(len(values), -1).any(axis=1)
    first = int(differs.argmax())
    assert not differs.any(), (
        f"{int(differs.sum())} of {len(values)} differ, first {values[first]!r:.200}: "
        f"Keras {expected[first]}, ours {ours[first]}"
    )


@pytest.mark.parametrize("oov_count", [1, 2, 7])
@pytest.mark.parametrize("mask", [None, "", "a"])
def test_lookup_of_texts_equals_string_lookup(
    layers: Any, mask: str | None, oov_count: int
) -> None:
    texts = odd_texts(seed=1)
    vocabulary = vocabulary_of(texts, "" if mask is None else mask)
    keras = layers.StringLookup(vocabulary=vocabulary, mask_token=mask, num_oov_indices=oov_count)
    lookup = {"kind": "lookup", "vocabulary": "known", "mask_token": mask, "oov_count": oov_count}
    ours = featurize(texts, [lookup], vocabulary=vocabulary)
    assert_same(texts, keras(texts), ours)
    assert 0.3 < (ours >= oov_count + (mask is not None)).mean() < 0.7  # known and unknown ones


@pytest.mark.parametrize("oov_count", [1, 2, 7])
@pytest.mark.parametrize("mask", [None, 0, -1, INT64.min])
def test_lookup_of_integers_equals_integer_lookup(
    layers: Any, mask: int | None, oov_count: int
) -> None:
    numbers = odd_integers(seed=2)
    vocabulary = [number for number in numbers[::2] if number not in (-1, mask)]
    keras = layers.IntegerLookup(vocabulary=vocabulary, mask_token=mask, num_oov_indices=oov_count)
    lookup = {"kind": "lookup", "vocabulary": "known", "mask_token": mask, "oov_count": oov_count}
    ours = featurize(numbers, [lookup], vocabulary=vocabulary)
    assert_same(numbers, keras(np.array(numbers)), ours)


@pytest.mark.parametrize("bins", [1, 2, 3, 1000, 2**31 - 1, 2**53])
@pytest.mark.parametrize("mask", [None, "", "a"])
def test_hash_of_texts_equals_hashing(layers: Any, mask: str | None, bins: int) -> None:
    texts = odd_texts(seed=3)
    keras = layers.Hashing(bins, mask_value=mask)(texts)
    assert_same(
        texts, keras, featurize(texts, [{"kind": "hash", "bins": bins, "mask_value": mask}])
    )


@pytest.mark.parametrize("bins", [1, 2, 1000, 2**53])
@pytest.mark.parametrize("mask", [None, 0, INT64.max])
def test_hash_of_integers_equals_hashing(layers: Any, mask: int | None, bins: int) -> None:
    numbers = odd_integers(seed=4)
    keras = layers.Hashing(bins, mask_value=mask)(np.array(numbers))
    ours = featurize(numbers, [{"kind": "hash", "bins": bins, "mask_value": mask}])
    assert_same(numbers, keras, ours)


BOUNDARIES = [
    [0.0],
    [-1.5, 0.1, 0.2, 0.30000000000000004, 0.7, 1e10],
    [0.1, 0.1, 0.3],
    [-3.4e38, -1e-38, -1e-40, 0.0, 1e-45, 1e-40, 1e-38, 16777217.0, 3.4e38],
]


@pytest.mark.parametrize("boundaries", BOUNDARIES)
def test_bucketize_of_fractions_equals_discretization(
    tensorflow: Any, layers: Any, boundaries: list[float]
) -> None:
    numbers = odd_floats(seed=5, near=boundaries)
    keras = layers.Discretization(boundaries)(tensorflow.constant(numbers, tensorflow.float32))
    ours = featurize(numbers, [{"kind": "bucketize", "boundaries": boundaries}])
    assert_same(numbers, keras, ours)
    assert {0, len(boundaries)} <= set(np.unique(ours))


@pytest.mark.parametrize("boundaries", [*BOUNDARIES, [float(2**40), float(2**62)]])
def test_bucketize_of_integers_equals_discretization(layers: Any, boundaries: list[float]) -> None:
    numbers = odd_integers(seed=6)
    keras = layers.Discretization(boundaries)(np.array(numbers))
    assert_same(
        numbers, keras, featurize(numbers, [{"kind": "bucketize", "boundaries": boundaries}])
    )


def test_bucketize_equals_discretization_inside_a_model_that_is_fed_float64(
    tensorflow: Any, layers: Any
) -> None:
    numbers = odd_floats(seed=7, near=BOUNDARIES[1])
    model = tensorflow.keras.Sequential(
        [tensorflow.keras.Input((1,)), layers.Discretization(BOUNDARIES[1])]
    )
    keras = model(np.array(numbers)[:, None])
    ours = featurize(
        numbers, [{"kind": "bucketize", "boundaries": BOUNDARIES[1]}], shape=["batch", 1]
    )
    assert_same(numbers, keras, ours)


STATISTICS = [(0.0, 1.0), (0.1, 0.3), (5.0, 0.0), (-1e10, 1e-20), (3.7e5, 123.456), (1e-42, 1e30)]


@pytest.mark.parametrize(("mean", "variance"), STATISTICS)
@pytest.mark.parametrize("kind", ["double", "int64", "bool"])
def test_normalize_equals_normalization_to_the_bit(
    layers: Any, kind: str, mean: float, variance: float
) -> None:
    of_kind: dict[str, list[Any]] = {
        "double": odd_floats(seed=8, near=[mean]),
        "int64": odd_integers(seed=9),
        "bool": [True, False],
    }
    values = of_kind[kind]
    keras = layers.Normalization(axis=None, mean=mean, variance=variance)(np.array(values)).numpy()
    ours = featurize(
        values, [{"kind": "normalize", "mean": mean, "variance": variance}], dtype="float32"
    )
    finite = np.isfinite(keras)  # ours are the largest number of float32 where Keras overflows
    assert_same(values, np.where(finite, keras, np.sign(keras) * FLOAT32.max), ours)


@pytest.mark.parametrize("split", ["whitespace", "character", None])
@pytest.mark.parametrize(
    "standardize", ["lower_and_strip_punctuation", "lower", "strip_punctuation", None]
)
def test_tokenize_equals_text_vectorization(
    layers: Any, standardize: str | None, split: str | None
) -> None:
    texts = [text for text in odd_texts(seed=10) if len(text) < 1000] + ["x y " * 250]
    settings: dict[str, Any] = {"standardize": standardize, "split": split}
    cut = layers.TextVectorization(output_mode=None, **settings)(texts)
    tokens = sorted({token.decode() for token in np.unique(_flat(cut))})
    vocabulary = vocabulary_of(random.Random(11).sample(tokens, len(tokens)), "")
    keras = np.asarray(_padded(layers.TextVectorization(vocabulary=vocabulary, **settings)(texts)))
    ours = featurize(
        texts,
        [
            {"kind": "tokenize", "vocabulary": "known", **settings},
            {"kind": "pad", "length": keras.shape[1], "keep": "first"},
        ],
        vocabulary=vocabulary,
        shape=["batch", keras.shape[1]],
    )
    assert_same(texts, keras, ours)
    assert {0, 1, 2, len(vocabulary) + 1} <= set(np.unique(ours))


def _flat(cut: Any) -> Any:
    return getattr(cut, "flat_values", cut).numpy()


def _padded(indices: Any) -> Any:
    return indices if len(indices.shape) == 2 else indices[:, None]


def test_tokenize_equals_an_adapted_text_vectorization_with_a_sequence_length(layers: Any) -> None:
    texts = [text for text in odd_texts(seed=12) if len(text) < 1000]
    layer = layers.TextVectorization(output_sequence_length=4)
    layer.adapt([text for text in texts[::2] if "\0" not in text])
    ours = featurize(
        texts,
        [
            {"kind": "tokenize", "vocabulary": "known"},
            {"kind": "pad", "length": 4, "keep": "first"},
        ],
        vocabulary=layer.get_vocabulary(include_special_tokens=False),
        shape=["batch", 4],
    )
    assert_same(texts, layer(texts), ours)


def test_tokenize_keeps_every_code_point_that_tensorflow_keeps(layers: Any) -> None:
    points = [chr(point) for point in range(1, 0x110000) if not 0xD800 <= point < 0xE000]
    texts = [f"a{point}b" for point in points]
    keras = layers.TextVectorization(vocabulary=["a", "b", "ab"])(texts)
    ours = featurize(
        texts,
        [{"kind": "tokenize", "vocabulary": "known"}, {"kind": "pad", "length": 2}],
        vocabulary=["a", "b", "ab"],
        shape=["batch", 2],
    )
    assert_same(points, keras, ours)
    assert (ours == [2, 3]).all(axis=1).sum() == 6


def test_multi_hot_of_lists_equals_category_encoding(tensorflow: Any, layers: Any) -> None:
    draw = random.Random(13)
    lists = [draw.choices(range(17), k=draw.randint(0, 6)) for _ in range(COUNT)]
    keras = layers.CategoryEncoding(17, output_mode="multi_hot")(
        tensorflow.ragged.constant(lists, tensorflow.int64)
    )
    ours = featurize(
        lists,
        [{"kind": "multi_hot", "size": 17}],
        dtype="float32",
        shape=["batch", 17],
        default=[],
    )
    assert_same(lists, keras, ours)


def test_multi_hot_of_a_scalar_equals_category_encoding_one_hot(layers: Any) -> None:
    numbers = random.Random(14).choices(range(17), k=COUNT)
    keras = layers.CategoryEncoding(17, output_mode="one_hot")(np.array(numbers))
    ours = featurize(
        numbers, [{"kind": "multi_hot", "size": 17}], dtype="float32", shape=["batch", 17]
    )
    assert_same(numbers, keras, ours)
