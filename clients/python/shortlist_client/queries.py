"""What a recommendation is asked for: a user, items, or an embedding."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import TypeAlias

FeatureValue: TypeAlias = (
    str | int | float | bool | Sequence[str] | Sequence[int] | Sequence[float] | Sequence[bool]
)
"""A typed value of a feature. Lists hold one type; whole numbers beside others count as
floating-point ones."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a user did with one item."""

    item_id: str
    _: KW_ONLY
    time: datetime | float | None = None
    """When: a datetime with a time zone, or seconds since 1970-01-01 UTC. None: unknown."""
    rating: float | None = None
    """On the scale of the training data."""
    action: str = ""
    """`view`, `like`, ...; empty: unnamed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user: an id, features, a history, or any of them together.

    What is sent here wins over what the bundle knows.
    """

    id: str = ""
    """Empty: no id."""
    features: Mapping[str, FeatureValue] = field(default_factory=dict)
    """By the name that the bundle declares under `user.`: `age` for `user.age`."""
    history: Collection[Event] = ()
    """Oldest first, at most 1,000."""


@dataclass(frozen=True, slots=True)
class Items:
    """Items taken together as an example of what is wanted."""

    item_ids: Collection[str]
    """1..1,000."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """A vector in the space of the bundle's item embeddings."""

    values: Collection[float]
    """As many as the bundle's dimension. A one-dimensional numpy array will do."""


Query: TypeAlias = User | Items | Embedding
