"""Transforms of single elements: a scalar, or each element of a list.

Each has `one` and `many`: a request brings one value and must not pay for arrays, a training set
brings millions. Both give the same for the same value.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.transforms import Bucketize, Hash, Lookup, Normalize
from shortlist_server.errors import BundleCorrupt, MissingExtra
from shortlist_server.runtime.featurize.values import (
    NUMERIC,
    REAL,
    TEXT,
    WHOLE,
    WHOLE_OR_BOOL,
    Elements,
    float32,
    float32s,
    integers,
    kinds_of,
    narrow,
    narrowed,
    require,
)

KERAS_EPSILON = np.float32(1e-7)
"""What Keras Normalization divides by at least."""


class ElementTransform(Protocol):
    """A transform of single elements."""

    def one(self, value: Any) -> Any:
        """Transform one element; raises as `many` does."""
        ...

    def many(self, elements: Elements) -> NDArray[Any]:
        """Transform n elements into an array [n].

        Raises:
            FeatureTypeMismatch: an element is not of a kind that the transform takes.
            OutOfRange: an integer is too large.
        """
        ...


class VocabularyIndex:
    """Positions of the tokens of a vocabulary; built once, shared by all inputs that use it."""

    def __init__(
        self,
        tokens: Sequence[str] | Sequence[int] | NDArray[np.int64],
        name: str = "vocabulary",
    ) -> None:
        """Index the tokens.

        Args:
            tokens: All texts or all integers, in order.
            name: What to call them in errors.

        Raises:
            BundleCorrupt: a token occurs twice, or they are of different types.
        """
        kinds = kinds_of(tokens)
        if not (kinds <= TEXT or kinds <= WHOLE):
            raise BundleCorrupt(
                f"{name}: expected tokens that are all string or all int64, got {sorted(kinds)}"
            )
        # Keras's `get_vocabulary()` gives numpy's scalars, whose comparisons are slow.
        known: list[Any] = list(map(str if kinds == TEXT else int, tokens))
        self._positions: dict[Any, int] = dict(zip(known, range(len(known)), strict=True))
        if len(self._positions) < len(known):
            first, token = next(
                (place, token)
                for place, token in enumerate(known)
                if self._positions[token] != place
            )
            raise BundleCorrupt(
                f"{name}: expected distinct tokens, got {token!r} as number {first} and "
                f"{self._positions[token]}; remove one of them"
            )
        self.type: str | None = kinds.pop() if kinds else None
        """`string` or `int64`; None if there are no tokens."""
        self.first: str | int | None = known[0] if known else None

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, token: object) -> bool:
        return token in self._positions

    def position(self, token: Any) -> int:
        """Return the position of a token, -1 if it is unknown."""
        return self._positions.get(token, -1)

    def positions(self, tokens: Sequence[Any]) -> NDArray[np.int64]:
        """Return the positions of tokens, -1 for each unknown one."""
        # By way of a list, which takes a third less time than np.fromiter.
        return np.array(list(map(self._positions.get, tokens, repeat(-1))), np.int64)


class TokenLookup:
    """Keras StringLookup or IntegerLookup."""

    def __init__(self, declared: Lookup, vocabulary: VocabularyIndex, source: str) -> None:
        self._vocabulary = vocabulary
        self._mask = declared.mask_token
        self._oov_count = declared.oov_count
        self._oov_start = 0 if declared.mask_token is None else 1
        # An unknown token has position -1: where one index is for all of them, start - 1 is it.
        self._start = self._oov_start + declared.oov_count
        self._simple = declared.mask_token is None and declared.oov_count == 1
        self._kinds = vocabulary_kinds(vocabulary)
        self._type = int if vocabulary.type == "int64" else str
        self._source = source
        self._fingerprint: Callable[[str], int] | None = None
        if declared.oov_count > 1 and vocabulary.type != "int64":
            self._fingerprint = _fingerprint64("the transform `lookup` with several OOV indices")

    @property
    def bound(self) -> int:
        """All indices are below this."""
        return self._start + len(self._vocabulary)

    def one(self, value: Any) -> int:
        """Return the index of a token."""
        if type(value) is not self._type:
            require((value,), self._kinds, self._source)
        position = self._vocabulary.position(value)
        return self._unknown(value) if position < 0 else position + self._start

    def many(self, elements: Elements) -> NDArray[np.int64]:
        """Return the indices of tokens."""
        require(elements, self._kinds, self._source)
        tokens = elements.tolist() if isinstance(elements, np.ndarray) else elements
        indices = self._vocabulary.positions(tokens)
        unknown = () if self._simple else np.flatnonzero(indices < 0).tolist()
        indices += self._start
        for place in unknown:
            indices[place] = self._unknown(tokens[place])
        return indices

    def _unknown(self, token: Any) -> int:
        if token == self._mask:
            return 0
        if self._oov_count == 1:
            return self._oov_start
        number: int = token
        if self._fingerprint is not None and isinstance(token, str):
            number = self._fingerprint(token)
        return self._oov_start + number % self._oov_count


def vocabulary_kinds(vocabulary: VocabularyIndex) -> frozenset[str]:
    """Return which kinds of elements may be looked up in a vocabulary."""
    return {"string": TEXT, "int64": WHOLE_OR_BOOL}.get(vocabulary.type or "", TEXT | WHOLE_OR_BOOL)


class TextHash:
    """Keras Hashing."""

    def __init__(self, declared: Hash, source: str) -> None:
        mask = declared.mask_value
        # Keras forgets the mask where it would leave no bucket.
        self._mask = mask if declared.bins > 1 else None
        self._reserved = 0 if self._mask is None else 1
        self._bins = declared.bins - self._reserved
        self._kinds = hash_kinds(declared)
        self._type = str if "string" in self._kinds else int
        self._source = source
        self._fingerprint = _fingerprint64("the transform `hash`")

    def one(self, value: Any) -> int:
        """Return the bucket of a value."""
        if type(value) is not self._type:
            require((value,), self._kinds, self._source)
        if self._mask is not None and value == self._mask:
            return 0
        text = value if isinstance(value, str) else str(value)
        return self._fingerprint(text) % self._bins + self._reserved

    def many(self, elements: Elements) -> NDArray[np.int64]:
        """Return the buckets of values."""
        kinds = require(elements, self._kinds, self._source)
        values = elements.tolist() if isinstance(elements, np.ndarray) else elements
        texts = values if kinds == TEXT else map(str, values)
        prints = np.fromiter(map(self._fingerprint, texts), np.uint64, len(values))
        buckets = (prints % np.uint64(self._bins)).astype(np.int64) + self._reserved
        if self._mask is not None:
            buckets[[value == self._mask for value in values]] = 0
        return buckets


def hash_kinds(declared: Hash) -> frozenset[str]:
    """Return which kinds of elements may be hashed.

    Keras refuses floats and booleans, and compares with the mask, which must be of the same kind.
    """
    if declared.mask_value is None:
        return TEXT | WHOLE
    return TEXT if isinstance(declared.mask_value, str) else WHOLE


def _fingerprint64(feature: str) -> Callable[[str], int]:
    try:
        from farmhash import fingerprint64
    except ImportError as error:
        raise MissingExtra(feature=feature, extra="server") from error
    return fingerprint64  # type: ignore[no-any-return]  # farmhash ships no types


class Buckets:
    """Keras Discretization, on float32 numbers as a Keras model's inputs are.

    Given float64, the Keras layer alone compares them unrounded with boundaries that are rounded to
    float32, and so puts 0.1 below a boundary of 0.1. A model's inputs are cast to float32 before.
    """

    def __init__(self, declared: Bucketize, source: str) -> None:
        self._boundary_list = [narrow(boundary) for boundary in declared.boundaries]
        self._boundaries = np.array(self._boundary_list, np.float32)
        self._source = source

    def one(self, value: Any) -> int:
        """Return the bucket of a number."""
        return bisect_right(self._boundary_list, float32(value, self._source, REAL))

    def many(self, elements: Elements) -> NDArray[np.int64]:
        """Return the buckets of numbers."""
        numbers = float32s(elements, self._source, REAL)
        return self._boundaries.searchsorted(numbers, side="right").astype(np.int64, copy=False)


class Normalization:
    """Keras Normalization with one mean and one variance."""

    def __init__(self, declared: Normalize, source: str) -> None:
        self._mean = np.float32(declared.mean)
        self._scale = np.maximum(np.sqrt(np.float32(declared.variance)), KERAS_EPSILON)
        self._mean_wide, self._scale_wide = float(self._mean), float(self._scale)
        self._source = source

    def one(self, value: Any) -> float:
        """Normalize a number."""
        # float64 has so many bits that its differences and quotients, rounded to float32, are
        # those that float32 arithmetic gives.
        return narrow(narrow(float32(value, self._source) - self._mean_wide) / self._scale_wide)

    def many(self, elements: Elements) -> NDArray[np.float32]:
        """Normalize numbers."""
        numbers = float32s(elements, self._source)
        with np.errstate(over="ignore"):
            return narrowed(narrowed(numbers - self._mean) / self._scale)


class Cast:
    """Numbers without a transform."""

    def __init__(self, dtype: np.dtype[Any], source: str) -> None:
        self._dtype = dtype
        self._kind = dtype.kind if dtype != np.float32 else "float32"
        self._limits = np.iinfo(np.int32 if dtype == np.int32 else np.int64)
        self._source = source

    def one(self, value: Any) -> Any:
        """Return a number that the dtype holds."""
        if self._kind == "float32":
            return float32(value, self._source)
        if type(value) is int and self._limits.min <= value <= self._limits.max:
            return value
        return self.many((value,))[0]

    def many(self, elements: Elements) -> NDArray[Any]:
        """Return numbers as the dtype."""
        if self._kind == "float32":
            return float32s(elements, self._source)
        if self._kind == "i":
            return integers(elements, self._source, self._dtype)
        if self._kind == "b":
            return integers(elements, self._source).astype(np.bool_)
        require(elements, NUMERIC, self._source)
        return np.array(elements, np.float64)
