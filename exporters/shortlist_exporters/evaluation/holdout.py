"""What lists are measured against: what users did in the test part, and what they had done before.

Users and items are numbers here: positions in `user_ids` and `item_ids`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse
from shortlist_server.errors import ConfigError

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Matrix = Any
"""scipy.sparse.csr_array float32; scipy ships no types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Test interactions that are not measured, by why."""

    repeated: int = 0
    """The user did something with the item more than once in the test part: it counts once."""
    seen: int = 0
    """The item was seen in training, and seen items are excluded: no list could hold it."""
    below_relevance: int = 0
    """The rating is below what counts as relevant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """The test part as arrays, and the training part as a matrix."""

    user_ids: list[str]
    """Users of the test part, [users]."""
    item_ids: list[str]
    """Items of the data set, then those that the bundle has beside them: [items]."""
    catalog_count: int
    """How many of them, the first, are items of the data set."""
    offsets: Integers
    """[users + 1]: the test pairs of user i are `offsets[i]` to `offsets[i + 1]`, at least one."""
    items: Integers
    """[pairs]: the item of each pair."""
    ratings: Floats
    """[pairs]: NaN where there is none."""
    train: Matrix
    """[everybody, items] ones: who did something with what in the training part."""
    train_rows: Integers
    """[users]: the row of each test user in `train`."""
    train_count: int
    """Interactions of the training part."""
    dropped: Dropped

    @property
    def pair_users(self) -> Integers:
        """The user of each pair, [pairs]."""
        return np.repeat(np.arange(len(self.user_ids)), np.diff(self.offsets))

    @property
    def seen(self) -> Matrix:
        """What the test users did in the training part, [users, items]."""
        return self.train[self.train_rows]

    @property
    def train_counts(self) -> Integers:
        """How many users did something with each item in the training part, [items]."""
        counts: Integers = np.asarray(self.train.sum(axis=0)).ravel().astype(np.int64)
        return counts

    def test_items(self, user: int) -> Integers:
        """Return the items of a user's pairs."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def codes(self, lists: Iterable[Sequence[str]], width: int) -> Integers:
        """Return lists of item ids as numbers, [lists, width]: -1 behind the end of a list, and in
        place of items that are unknown here.
        """
        places = {item_id: place for place, item_id in enumerate(self.item_ids)}
        rows = [[places.get(item_id, -1) for item_id in one[:width]] for one in lists]
        found = np.full((len(rows), width), -1, np.int64)
        for row, values in enumerate(rows):
            found[row, : len(values)] = values
        return found


def make_holdout(
    train: pa.Table,
    test: pa.Table,
    *,
    item_ids: Sequence[str],
    more_item_ids: Sequence[str] = (),
    exclude_seen: bool = True,
    relevant_from: float | None = None,
) -> Holdout:
    """Return the two parts of a split as numbers.

    Args:
        train: `user_id` and `item_id`.
        test: Those, and `rating` (null where there is none).
        item_ids: The catalogue of the data set; every item of both parts is in it.
        more_item_ids: The bundle's; those that the data set does not have are added.
        exclude_seen: Whether lists leave out what their users have seen in the training part; pairs
            that are in it are then dropped.
        relevant_from: The least rating of a pair that is wanted in a list; None: every pair is.

    Raises:
        ConfigError: nothing is left to test with.
    """
    places = {item_id: place for place, item_id in enumerate(item_ids)}
    catalog_count = len(places)
    for item_id in more_item_ids:
        places.setdefault(item_id, len(places))
    user_ids = pc.unique(pa.chunked_array(test["user_id"].chunks + train["user_id"].chunks))
    train_users, train_items = _numbers(train, user_ids, places)
    test_users, test_items = _numbers(test, user_ids, places)
    ratings = pc.fill_null(test["rating"].cast(pa.float64()), float("nan")).to_numpy()
    matrix = sparse.csr_array(
        (np.ones(len(train_users), np.float32), (train_users, train_items)),
        shape=(len(user_ids), len(places)),
    )
    matrix.data[:] = 1.0  # who did something twice did it
    pairs = test_users * len(places) + test_items
    kept = np.zeros(len(pairs), np.bool_)
    kept[np.unique(pairs, return_index=True)[1]] = True
    repeated = int((~kept).sum())
    trained = train_users * len(places) + train_items
    was_seen = kept & np.isin(pairs, trained) & exclude_seen
    below = kept & ~was_seen & (False if relevant_from is None else ~(ratings >= relevant_from))
    chosen = np.flatnonzero(kept & ~was_seen & ~below)
    dropped = Dropped(
        repeated=repeated, seen=int(was_seen.sum()), below_relevance=int(np.sum(below))
    )
    if not len(chosen):
        raise ConfigError(f"test part: expected pairs of user and item, got none; {dropped}")
    chosen = chosen[np.argsort(test_users[chosen], kind="stable")]
    rows, counts = np.unique(test_users[chosen], return_counts=True)
    names = user_ids.to_pylist()
    return Holdout(
        user_ids=[names[row] for row in rows],
        item_ids=list(places),
        catalog_count=catalog_count,
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        items=test_items[chosen],
        ratings=ratings[chosen],
        train=matrix,
        train_rows=rows,
        train_count=len(train),
        dropped=dropped,
    )


def _numbers(
    table: pa.Table, user_ids: pa.Array, places: dict[str, int]
) -> tuple[Integers, Integers]:
    users = pc.index_in(table["user_id"], value_set=user_ids).to_numpy().astype(np.int64)
    names = pa.array(list(places), pa.string())
    items = pc.index_in(table["item_id"], value_set=names)
    if items.null_count:
        row = pc.index(pc.is_null(items), True).as_py()
        raise ConfigError(
            f"interactions: expected items of the catalogue, got {table['item_id'][row].as_py()!r}"
        )
    return users, items.to_numpy().astype(np.int64)
