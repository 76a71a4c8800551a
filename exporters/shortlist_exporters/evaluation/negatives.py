"""Items drawn to rank a test pair among, instead of the whole catalogue: as papers' tables do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from shortlist_server.errors import ConfigError

from shortlist_exporters.evaluation.holdout import Holdout

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Negatives:
    """How they are drawn: for each pair its own, without repetition, from the items that the user
    did nothing with in either part.
    """

    kind: Literal["uniform", "popularity"]
    """`popularity`: in proportion to how many users did something with an item in training."""
    count: int
    """Of each pair; fewer where a user leaves no more."""

    @property
    def text(self) -> str:
        """The protocol as `parse_protocol` reads it."""
        return f"{self.kind}:{self.count}"


def parse_protocol(text: str) -> Negatives | None:
    """Return what a text like "uniform:99" means; None for "full", the whole catalogue.

    Raises:
        ConfigError: it is neither.
    """
    kind, _, count = text.partition(":")
    if text == "full":
        return None
    if kind in ("uniform", "popularity") and count.isascii() and count.isdigit():
        if not 1 <= int(count) <= 4_095:
            raise ConfigError(f"protocol {text}: expected 1 to 4095 negatives, got {count}")
        return Negatives(kind="uniform" if kind == "uniform" else "popularity", count=int(count))
    raise ConfigError(
        f"protocol: expected full, uniform:N or popularity:N, as uniform:99, got {text!r}"
    )


def draw_negatives(holdout: Holdout, negatives: Negatives, seed: int) -> list[Integers]:
    """Return for each user the negatives of his pairs, [pairs, count].

    Args:
        holdout: Whose catalogue they are drawn from.
        negatives: How.
        seed: The same draws the same.
    """
    count = holdout.catalog_count
    weights = holdout.train_counts[:count].astype(np.float64)
    if negatives.kind == "uniform":
        weights = np.ones(count)
    with np.errstate(divide="ignore"):
        logs = np.log(weights)
    seen = holdout.seen
    drawn = []
    for user in range(len(holdout.user_ids)):
        draw = np.random.default_rng((seed, user))
        own = holdout.test_items(user)
        allowed = logs.copy()
        allowed[own[own < count]] = -np.inf
        did = seen[[user]].indices
        allowed[did[did < count]] = -np.inf
        possible = np.flatnonzero(np.isfinite(allowed))
        # The largest of log weight + Gumbel noise: a draw in proportion, without repetition.
        keys = allowed[possible] + draw.gumbel(size=(len(own), len(possible)))
        width = min(negatives.count, len(possible))
        best = np.argsort(-keys, axis=1, kind="stable")[:, :width]
        drawn.append(possible[best])
    return drawn


def place_among(own: Floats, others: Floats) -> tuple[Integers, Integers]:
    """Return how many of its negatives score above each item, and how many the same.

    Args:
        own: [pairs]: -inf for items that have no score.
        others: [pairs, count]: those of the negatives.
    """
    mine = own[:, None]
    missing = np.isneginf(mine)  # what cannot be recommended stands behind everything
    above = (others > mine) | missing
    return above.sum(axis=1), ((others == mine) & ~missing).sum(axis=1)
