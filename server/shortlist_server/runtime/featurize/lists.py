"""Lists of different lengths, as all their elements and how many each has; what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.transforms import Pad
from shortlist_server.errors import FeatureTypeMismatch, OutOfRange
from shortlist_server.runtime.featurize.values import Elements

Lengths = NDArray[np.int64] | int
"""How many elements each row has: [n], or one number if all have as many."""


def flatten(lists: Sequence[Any], source: str) -> tuple[Elements, NDArray[np.int64]]:
    """Return all elements of n lists, list after list, and the length of each, [n].

    Raises:
        FeatureTypeMismatch: something is not a list.
    """
    for each in set(map(type, lists)):
        if not issubclass(each, list | tuple | np.ndarray):
            raise FeatureTypeMismatch(source, expected="a list", got=each.__name__)
    if len(lists) == 1:
        return lists[0], np.array((len(lists[0]),), np.int64)
    return list(chain.from_iterable(lists)), np.fromiter(map(len, lists), np.int64, len(lists))


class Padding:
    """Makes lists equally long."""

    def __init__(self, declared: Pad, value: float) -> None:
        self._length = declared.length
        self._right = declared.side == "right"
        self._keep_last = declared.keep == "last"
        self._value = value

    def __call__(self, flat: NDArray[Any], lengths: NDArray[np.int64]) -> tuple[NDArray[Any], int]:
        """Return the padded rows, one after the other, and their common length."""
        padded = np.full((len(lengths), self._length), self._value, flat.dtype)
        if len(lengths) == 1:
            kept = flat[-self._length :] if self._keep_last else flat[: self._length]
            start = 0 if self._right else self._length - len(kept)
            padded[0, start : start + len(kept)] = kept
        else:
            kept_counts = np.minimum(lengths, self._length)
            columns = np.arange(self._length)
            first = 0 if self._right else (self._length - kept_counts)[:, None]
            filled = (columns >= first) & (columns < first + kept_counts[:, None])
            padded[filled] = flat[self._kept(lengths, kept_counts)]
        return padded.reshape(-1), self._length

    def _kept(
        self, lengths: NDArray[np.int64], kept_counts: NDArray[np.int64]
    ) -> NDArray[np.int64] | slice:
        """Return which of all elements stay, in order."""
        if lengths.sum() == kept_counts.sum():
            return slice(None)
        ends = np.cumsum(lengths)
        starts = ends - (kept_counts if self._keep_last else lengths)
        kept_starts = np.cumsum(kept_counts) - kept_counts
        return np.repeat(starts - kept_starts, kept_counts) + np.arange(kept_counts.sum())


class HotVectors:
    """Keras CategoryEncoding, `multi_hot`; `one_hot` for scalars."""

    def __init__(self, size: int, source: str, *, checked: bool) -> None:
        """Make vectors of a size; where `checked`, the indices are known to be below it."""
        self._size = size
        self._checked = checked
        self._source = source

    def __call__(
        self, indices: NDArray[np.int64], lengths: Lengths | None
    ) -> tuple[NDArray[np.float32], int]:
        """Return the vectors, one after the other, and their size.

        Raises:
            OutOfRange: an index is not in 0..size - 1.
        """
        if not self._checked and indices.size:
            self._check(int(indices.min()), int(indices.max()))
        each: Lengths = 1 if lengths is None else lengths
        count = len(indices) // each if isinstance(each, int) else len(each)
        vectors = np.zeros((count, self._size), np.float32)
        rows = 0 if count == 1 else np.repeat(np.arange(count), each)
        vectors[rows, indices] = 1
        return vectors.reshape(-1), self._size

    def _check(self, lowest: int, highest: int) -> None:
        if lowest < 0 or highest >= self._size:
            raise OutOfRange(
                self._source,
                expected=f"indices from 0 to {self._size - 1}",
                got=f"{lowest} to {highest}",
            )
