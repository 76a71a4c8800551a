"""Item ids to rows. A few are looked up in a dict; thousands, as exclusions are, all together.

Each lookup in a dict of 100,000 texts waits for the memory four or five times, one after the other:
10,000 of them take 4 to 6 ms. Together they take 1 ms: the texts become rows of a table of whole
numbers, which numpy hashes, finds among the sorted hashes of all ids, and compares with theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.arrays import NO_ROWS, Rows

TOGETHER_MIN = 500
"""From so many ids on they are looked up together."""
WORD_BYTES = 8
ID_BYTES_MAX = 64
"""Longest ids that are looked up together: each takes the room of the longest."""
MIX = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: multiplying by it spreads what is close together."""

Words: TypeAlias = NDArray[np.uint64]


class ItemRows:
    """Where each item stands."""

    def __init__(self, item_ids: Sequence[str]) -> None:
        """Index the ids of all items, in order of their rows; none stands twice."""
        self._rows = {item_id: row for row, item_id in enumerate(item_ids)}
        longest = max(map(len, item_ids), default=0)
        # One byte more than the longest: a longer text does not look like one of them.
        self._width = (longest + 1 + WORD_BYTES - 1) // WORD_BYTES * WORD_BYTES
        few = len(item_ids) < TOGETHER_MIN
        words = None if few or longest > ID_BYTES_MAX else self._words(item_ids)
        self._together = words is not None
        if words is not None:
            hashes = _hashes(words)
            self._order = np.argsort(hashes)
            self._sorted, self._sorted_words = hashes[self._order], words[self._order]
            bits = len(item_ids).bit_length()
            self._shift = np.uint64(64 - bits)
            buckets = np.arange(1 << bits, dtype=np.uint64) << self._shift
            self._starts = np.searchsorted(self._sorted, buckets).astype(np.int32)
            # Two ids of one hash: the second would never be found.
            self._together = bool((self._sorted[1:] != self._sorted[:-1]).all())

    def row(self, item_id: str) -> int | None:
        """Return the row of an item, or None if it is unknown."""
        return self._rows.get(item_id)

    def rows(self, item_ids: Sequence[str]) -> Rows:
        """Return the rows of the items that are known, in order, int64."""
        if self._together and len(item_ids) >= TOGETHER_MIN:
            words = self._words(item_ids)
            if words is not None:
                return self._found(words)
        found = [row for row in map(self._rows.get, item_ids) if row is not None]
        return np.array(found, np.int64) if found else NO_ROWS

    def _found(self, words: Words) -> Rows:
        hashes = _hashes(words)
        places = self._starts[hashes >> self._shift]
        last = len(self._sorted) - 1
        np.minimum(places, last, out=places)
        before = np.arange(len(hashes))
        while len(before):
            here = places[before]
            before = before[(self._sorted[here] < hashes[before]) & (here < last)]
            places[before] += 1
        same = np.ones(len(hashes), np.bool_)
        for own, others in zip(self._sorted_words.T, words.T, strict=True):
            same &= own[places] == others
        rows: Rows = self._order[places[same]]
        return rows

    def _words(self, texts: Sequence[str]) -> Words | None:
        """Return ASCII texts as whole numbers, [texts, words]; None if others are among them.

        A text that is too long is cut, but stays longer than any id.
        """
        try:
            cells = np.array(texts, dtype=f"S{self._width}")
        except UnicodeEncodeError:
            return None
        if "\0" in "".join(texts):
            return None  # looks like the padding
        words: Words = cells.view(np.uint64).reshape(len(texts), -1)
        return words


def _hashes(words: Words) -> Words:
    hashes = np.zeros(len(words), np.uint64)
    for column in words.T:
        hashes = (hashes ^ column) * MIX
        hashes ^= hashes >> np.uint64(32)
    return hashes
