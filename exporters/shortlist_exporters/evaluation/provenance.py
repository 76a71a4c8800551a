"""Whether a bundle was trained on the training part of a split, as far as can be known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from shortlist_server.bundle.reader import Bundle
from shortlist_server.errors import ConfigError

SEEN_SHARE_MIN = 0.5
"""Share of the training part that the bundle's users have at least seen, if it is theirs."""


def check_trained_on(
    bundle: Bundle, train: pa.Table, test: pa.Table, *, data_name: str, split: str
) -> list[str]:
    """Refuse a bundle that has seen the test part, or has not seen the training part.

    A bundle says what its users have seen in training; what it does not say cannot be known.

    Args:
        bundle: Which is to be measured.
        train: The training part of the split.
        test: The test part.
        data_name: Name of the data set.
        split: The split as a text, for messages.

    Returns:
        What could not be known, for people.

    Raises:
        ConfigError: the bundle was trained on something else.
    """
    label = f"bundle {bundle.manifest.name} {bundle.manifest.version}"
    advice = f"train it with --split {split} on the same --data"
    if bundle.users is None or not len(bundle.users.seen_rows):
        if bundle.manifest.data.name != data_name:
            raise ConfigError(
                f"{label}: expected one that was trained on {data_name}, got one of "
                f"{bundle.manifest.data.name}; {advice}"
            )
        return [f"{label} does not say what it was trained on: it may have seen the test part"]
    seen = seen_interactions(bundle)
    places = _places(seen, train, test)
    own, trained, tested = (_pairs(table, places) for table in (seen, train, test))
    share = float(np.isin(trained, own).mean())
    if share < SEEN_SHARE_MIN:
        raise ConfigError(
            f"{label}: expected one that was trained on the training part of {data_name} ({split}),"
            f" got one whose users have seen {share:.0%} of its {len(trained)} interactions "
            f"(its data set: {bundle.manifest.data.name}); {advice}"
        )
    leaked = np.isin(tested, own) & ~np.isin(tested, trained)
    if leaked.any():
        row = int(np.flatnonzero(leaked)[0])
        raise ConfigError(
            f"{label}: expected one that has not seen the test part ({split}), got one that was "
            f"trained on {int(leaked.sum())} of its {len(tested)} interactions, such as user "
            f'"{test["user_id"][row].as_py()}" with item "{test["item_id"][row].as_py()}"; {advice}'
        )
    return []


def seen_interactions(bundle: Bundle) -> pa.Table:
    """Return what the users of a bundle have seen, as `user_id` and `item_id`; empty where it does
    not say.
    """
    users = bundle.users
    if users is None:
        return pa.table(
            {"user_id": pa.array([], pa.string()), "item_id": pa.array([], pa.string())}
        )
    counts = np.diff(users.seen_offsets)
    ids = pa.array(bundle.item_ids[: bundle.exported_count], pa.string())
    return pa.table(
        {
            "user_id": pa.array(users.ids, pa.string()).take(
                pa.array(np.repeat(np.arange(len(users.ids)), counts))
            ),
            "item_id": ids.take(pa.array(np.asarray(users.seen_rows))),
        }
    )


def _places(*tables: pa.Table) -> tuple[pa.Array, pa.Array]:
    return tuple(
        pc.unique(pa.chunked_array([chunk for table in tables for chunk in table[name].chunks]))
        for name in ("user_id", "item_id")
    )


def _pairs(table: pa.Table, places: tuple[pa.Array, pa.Array]) -> NDArray[np.int64]:
    users, items = (
        pc.index_in(table[name], value_set=values).to_numpy().astype(np.int64)
        for name, values in zip(("user_id", "item_id"), places, strict=True)
    )
    pairs: NDArray[np.int64] = users * len(places[1]) + items
    return pairs
