"""Training examples: one for each interaction, with the features of its user and its item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shortlist_exporters.recipes.features import FeatureSet
from shortlist_exporters.recipes.keras import tf


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Interactions, ready to be trained on. Features are kept once a user and once an item."""

    user_rows: NDArray[np.int64]
    item_rows: NDArray[np.int64]
    extra: dict[str, NDArray[Any]]
    """What an interaction has of its own: context inputs, and `rating` where there are ratings."""
    user_tensors: dict[str, NDArray[Any]]
    item_tensors: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.user_rows)

    def batches(self, batch_size: int, *, epochs: int, seed: int) -> Any:
        """Return a `tf.data.Dataset` of name -> tensor: every epoch's batches, in a new order each.

        The last batch of an epoch has what is left.
        """
        users, items, extra = (
            {name: tf.constant(values) for name, values in tensors.items()}
            for tensors in (self.user_tensors, self.item_tensors, self.extra)
        )
        user_rows, item_rows = tf.constant(self.user_rows), tf.constant(self.item_rows)
        count = len(self)

        def batch(epoch: Any, start: Any) -> dict[str, Any]:
            # `Dataset.shuffle`, as in the tutorials, holds every example as a tensor of its own:
            # at 25 million, that is more memory than most machines have.
            places = tf.random.experimental.index_shuffle(
                tf.range(start, tf.minimum(start + batch_size, count)),
                seed=tf.stack([tf.constant(seed, tf.int64), epoch]),
                max_index=count - 1,
            )
            asked, chosen = tf.gather(user_rows, places), tf.gather(item_rows, places)
            return {
                **{name: tf.gather(values, asked) for name, values in users.items()},
                **{name: tf.gather(values, chosen) for name, values in items.items()},
                **{name: tf.gather(values, places) for name, values in extra.items()},
            }

        starts = tf.data.Dataset.range(0, count, batch_size)
        order = tf.data.Dataset.range(epochs).flat_map(
            lambda epoch: starts.map(lambda start: batch(epoch, start))
        )
        return order.prefetch(2)

    def sampling_probabilities(self) -> NDArray[np.float32]:
        """Return, for each interaction, how probable it is that a random one has the same item."""
        counts = np.bincount(self.item_rows)
        return (counts[self.item_rows] / len(self)).astype(np.float32)


def make_examples(
    interactions: pa.Table,
    *,
    users: pa.Table,
    items: pa.Table,
    user: FeatureSet,
    item: FeatureSet,
    context: FeatureSet,
) -> Examples:
    """Join interactions with the inputs of their users and items.

    Args:
        interactions: As in a `Dataset`; every user and item of them is in the tables.
        users: A column `id`, and those that the features need.
        items: The same.
        user: What the models see of a user.
        item: What the models see of an item.
        context: What the models see of the time of an interaction; may be empty.
    """
    extra = context.tensors(interactions)
    if interactions["rating"].null_count == 0:
        extra["rating"] = np.asarray(interactions["rating"], np.float32)
    return Examples(
        user_rows=_rows(interactions["user_id"], users["id"]),
        item_rows=_rows(interactions["item_id"], items["id"]),
        extra=extra,
        user_tensors=user.tensors(users),
        item_tensors=item.tensors(items),
    )


def _rows(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(pc.index_in(ids, value_set=known.combine_chunks()), np.int64)
