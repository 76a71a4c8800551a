"""Splits of interactions into a part to train on and a part to test with.

    random:SHARE[:SEED]        rows at random; SHARE of them are trained on
    leave-last-out             the last of each user who has two or more is tested with
    temporal:SHARE             what comes first is trained on: SHARE of the rows, rather fewer
    temporal:DATE              what comes before a date, or an ISO 8601 time, is trained on
    cold-items:SHARE[:SEED]    all interactions of SHARE of the items, drawn at random, are tested
                               with

Where times are equal, the later row counts as the later interaction; a temporal split never cuts
between equal times. Seeds are 42 where none is given, as those of `shortlist-export train`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from shortlist_server.errors import ConfigError

Kind = Literal["random", "leave-last-out", "temporal", "cold-items"]
Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]

SPLITS = (
    "random:SHARE[:SEED], leave-last-out, temporal:SHARE, temporal:DATE or cold-items:SHARE[:SEED]"
)
SEED_DEFAULT = 42
SHARE_DIGITS = 12
"""Digits of a share that count: 1 - 0.8 is not 0.2, and would hold out another row of some sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How interactions are split."""

    kind: Kind
    share: float = 0.0
    """Of the interactions that are trained on (`random`, `temporal`), or of the items that are held
    out (`cold-items`)."""
    seed: int = SEED_DEFAULT
    """Of `random` and `cold-items`."""
    cut_time: int | None = None
    """`temporal`: the first second, since 1970-01-01 UTC, that is tested with; None: by `share`."""

    @property
    def text(self) -> str:
        """The split as `parse_split` reads it."""
        if self.kind == "leave-last-out":
            return self.kind
        if self.cut_time is not None:
            return f"temporal:{datetime.fromtimestamp(self.cut_time, UTC):%Y-%m-%dT%H:%M:%S}"
        return f"{self.kind}:{self.share:g}" + ("" if self.kind == "temporal" else f":{self.seed}")

    def apply(self, interactions: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Return the interactions in two parts, (train, test).

        Args:
            interactions: As `Dataset.interactions`.

        Raises:
            ConfigError: a part would be empty, or the split goes by times and there are none.
        """
        try:
            if self.kind == "random":
                fraction = round(1.0 - self.share, SHARE_DIGITS)
                return random_split(interactions, test_fraction=fraction, seed=self.seed)
            mask = self._tested(interactions)
        except ValueError as error:
            raise ConfigError(f"split {self.text}: {error}") from error
        if mask.all() or not mask.any():
            part = "train on" if mask.all() else "test with"
            raise ConfigError(
                f"split {self.text}: expected something in both parts, got nothing to {part} of "
                f"{len(mask)} interactions"
            )
        return interactions.filter(pa.array(~mask)), interactions.filter(pa.array(mask))

    def _tested(self, interactions: pa.Table) -> Mask:
        if self.kind == "cold-items":
            return cold_items(_codes(interactions["item_id"]), share=self.share, seed=self.seed)
        if self.kind == "leave-last-out":
            return leave_last_out(_codes(interactions["user_id"]), _times_or_order(interactions))
        if interactions["time"].null_count:
            raise ValueError(
                f"expected a time in each interaction, got {interactions['time'].null_count} "
                "without one"
            )
        times = interactions["time"].to_numpy()
        if self.cut_time is None:
            return temporal(times, cut=time_of_share(times, share=self.share))
        return temporal(times, cut=self.cut_time)


def parse_split(text: str) -> Split:
    """Return the split that a text like "random:0.8:42" means.

    Raises:
        ConfigError: it is none, or a number in it is out of its range.
    """
    kind, _, rest = text.partition(":")
    if text == "leave-last-out":
        return Split(kind="leave-last-out")
    if kind == "temporal" and rest:
        share = _number(rest)
        if share is None:
            return Split(kind="temporal", cut_time=_moment(text, rest))
        return Split(kind="temporal", share=_share(text, share))
    if kind in ("random", "cold-items") and rest:
        first, *more = rest.split(":")
        share = _number(first)
        if share is not None and len(more) <= 1:
            seed = more[0] if more else str(SEED_DEFAULT)
            if not (seed.isascii() and seed.isdigit() and int(seed) < 2**32):
                raise ConfigError(f"split {text}: expected a seed of 0 to 2**32 - 1, got {seed!r}")
            found: Kind = "random" if kind == "random" else "cold-items"
            return Split(kind=found, share=_share(text, share), seed=int(seed))
    raise ConfigError(f"split: expected {SPLITS}, got {text!r}")


def leave_last_out(users: Integers, times: Integers) -> Mask:
    """Return which interactions are the last of their users.

    Args:
        users: [n], any numbers that tell users apart.
        times: [n]; of equal ones the later row is the later.

    Returns:
        [n], one true for each user with two interactions or more: of who did a single thing,
        nothing would be left to go by.
    """
    order = np.lexsort((np.arange(len(users)), times, users))
    by_user = users[order]
    last = np.append(by_user[1:] != by_user[:-1], True)[: len(users)]
    single = last & np.append(True, by_user[1:] != by_user[:-1])[: len(users)]
    mask = np.zeros(len(users), np.bool_)
    mask[order[last & ~single]] = True
    return mask


def temporal(times: Integers, *, cut: int) -> Mask:
    """Return which interactions are not before a moment: what is trained on is older than all of
    them.
    """
    mask: Mask = times >= cut
    return mask


def time_of_share(times: Integers, *, share: float) -> int:
    """Return the moment before which at most a share of the interactions lie, as many as can."""
    return int(np.sort(times)[min(int(len(times) * share), len(times) - 1)])


def cold_items(items: Integers, *, share: float, seed: int) -> Mask:
    """Return which interactions are with items that are held out.

    Args:
        items: [n], any numbers that tell items apart.
        share: Of the items that occur, above 0 and below 1; rounded to whole items.
        seed: Of the draw.
    """
    present = np.unique(items)
    count = round(len(present) * share)
    held_out = np.random.default_rng(seed).permutation(len(present))[:count]
    return np.isin(items, present[held_out])


def random_split(
    interactions: pa.Table, *, test_fraction: float, seed: int
) -> tuple[pa.Table, pa.Table]:
    """Return the interactions in two random parts, (train, test).

    The same table, fraction and seed give the same parts, in the same shuffled order.

    Args:
        interactions: At least two rows.
        test_fraction: Above 0 and below 1; the test part has round(rows * test_fraction) rows.
        seed: 0 or more.

    Raises:
        ValueError: an argument is out of range, or a part would be empty.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction: expected above 0 and below 1, got {test_fraction}")
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    count = len(interactions)
    test_count = round(count * test_fraction)
    if test_count in (0, count):
        raise ValueError(
            f"test_fraction: {test_fraction} of {count} interactions leaves a part empty; "
            "give more interactions or another fraction"
        )
    order = np.random.default_rng(seed).permutation(count)
    train_count = count - test_count
    return interactions.take(order[:train_count]), interactions.take(order[train_count:])


def _codes(column: pa.ChunkedArray) -> Integers:
    codes: Integers = pc.dictionary_encode(column.combine_chunks()).indices.to_numpy()
    return codes.astype(np.int64)


def _times_or_order(interactions: pa.Table) -> Integers:
    times = interactions["time"]
    if times.null_count == len(times):
        return np.arange(len(times))  # what is not dated is in order, or else there is none
    if times.null_count:
        raise ValueError(
            f"expected a time in each interaction, or in none, got {times.null_count} of "
            f"{len(times)} without one"
        )
    values: Integers = times.to_numpy()
    return values


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _share(text: str, share: Any) -> float:
    if not 0 < share < 1 or math.isnan(share):
        raise ConfigError(f"split {text}: expected a share above 0 and below 1, got {share:g}")
    return float(share)


def _moment(text: str, moment: str) -> int:
    try:
        time = datetime.fromisoformat(moment)
    except ValueError:
        raise ConfigError(
            f"split {text}: expected a share, or a date or time in ISO 8601, got {moment!r}"
        ) from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
