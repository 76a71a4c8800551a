"""What a request may say beyond its query: where candidates come from, and how the list is made."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeAlias

from shortlist_client.filters import Filter
from shortlist_client.queries import FeatureValue, Query, User


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """A source: the items nearest to the query embedding. Skipped where there is none."""

    name: str | None = None
    """In the answer, 1..64 bytes. None: how the query embedding came about (`two_tower`,
    `history`, `items`, `embedding`)."""
    candidate_count: int | None = None
    """Most items that it contributes, 1..4,096. None: the request's `candidate_count`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentHistory:
    """A source: the items nearest to the mean embedding of the user's last events.

    Those of the request, else those that the bundle knows; skipped where there are none.
    """

    event_count: int | None = None
    """How many events from the end count, 1..1,000. None: 10."""
    name: str | None = None
    """None: `recent_history`."""
    candidate_count: int | None = None
    """Most items that it contributes, 1..4,096. None: the request's `candidate_count`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Popularity:
    """A source: popular items, overall or among those with an attribute value."""

    attribute: str | None = None
    """The item attribute whose value the items must have, or hold where it is a list. None:
    overall."""
    value: str | int | float | bool | None = None
    """The value. With `attribute`, either this or `feature`."""
    feature: str | None = None
    """Name of the feature that holds the value, in full: `user.country`. The source is skipped
    where neither the request nor the bundle has it."""
    name: str | None = None
    """None: `popularity`."""
    candidate_count: int | None = None
    """Most items that it contributes, 1..4,096. None: the request's `candidate_count`."""


@dataclass(frozen=True, slots=True)
class CallerItems:
    """A source: items that the caller names."""

    item_ids: Collection[str]
    """Best first, 1..4,096. Unknown ones come back in `info.warnings`."""
    _: KW_ONLY
    name: str | None = None
    """None: `caller`."""
    candidate_count: int | None = None
    """Most items that it contributes, 1..4,096. None: the request's `candidate_count`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A source: the items whose texts mean what the text of the request means.

    Where the request has none and its query is Items, those whose texts mean what theirs mean.
    Refused where the bundle has no text embeddings.
    """

    name: str | None = None
    """None: `text`."""
    candidate_count: int | None = None
    """Most items that it contributes, 1..4,096. None: the request's `candidate_count`."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A source that the bundle configures. Its name alone, as a string, says the same."""

    name: str
    """UnknownSource if the bundle has none of this name."""
    _: KW_ONLY
    candidate_count: int | None = None
    """Most items that it contributes, 1..4,096. None: the request's `candidate_count`."""


Source: TypeAlias = Nearest | RecentHistory | Popularity | CallerItems | Text | Configured
"""Where candidates come from."""


Ranker: TypeAlias = Literal["bundle", "llm", "blend"]
"""Whose word items are scored by: the bundle's ranker; a language model, which predicts the user's
rating, 1..5; both, each times its weight in the server's configuration."""


@dataclass(frozen=True, slots=True)
class Cap:
    """Limits how many items of an answer may share a value of an attribute."""

    attribute: str
    """Of any type. An item of a list attribute counts for each of its values."""
    item_count_max: int
    """Most items with the same value, 1..500."""


@dataclass(frozen=True, slots=True)
class PinnedItem:
    """An item with a fixed place."""

    item_id: str
    position: int | None = None
    """0 for the first, less than `limit`. None: the first free place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rerank:
    """Has a language model put the first of the ranked candidates in order.

    Its order is taken only if it is one of these candidates, in time; else `info.degraded` says why
    the order of ranking stands.
    """

    candidate_count: int | None = None
    """How many it is shown, best first, 2..100. None: 20."""
    subset: bool | None = None
    """Whether it may leave some out, which then stand behind the others. None: False."""
    reasons: bool | None = None
    """Whether it says why each item suits: `rerank_reason`. None: False."""
    passes: int | None = None
    """How many times it is asked, at the same time and with the candidates in another order, 1..2;
    the mean position counts. None: 1."""
    timeout_s: float | None = None
    """Longest wait for it. None: the server's share of the deadline, which is the longest in any
    case."""
    seed: int | None = None
    """Of the order in which it is shown the candidates, 64 bits. None: one that depends on them
    alone."""


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """An item to be written."""

    id: str
    """1..256 bytes of UTF-8."""
    attributes: Mapping[str, FeatureValue]
    """By name, each of the type that the bundle declares. They replace those that the item had."""
    vector: Sequence[float] | None = None
    """Its embedding, in the space of the bundle that answers now. None: the bundle's item tower
    makes it from the attributes."""


@dataclass(frozen=True, slots=True)
class RecommendRequest:
    """One row of `recommend_batch`: the arguments of `recommend`, which says what they mean.

    Except `timeout_s` and `request_id`, which belong to the whole call.
    """

    query: Query | None = None
    _: KW_ONLY
    user: User | str | None = None
    text: str | None = None
    limit: int | None = None
    candidate_count: int | None = None
    ef: int | None = None
    exact: bool | None = None
    sources: Sequence[Source | str] | None = None
    filter: Filter | None = None
    excluded_filter: Filter | None = None
    excluded_item_ids: Collection[str] | None = None
    exclude_seen: bool | None = None
    score_min: float | None = None
    diversity: float | None = None
    caps: Mapping[str, int] | Sequence[Cap] | None = None
    pinned_items: Sequence[PinnedItem | str] | None = None
    temperature: float | None = None
    seed: int | None = None
    rerank: Rerank | None = None
    attributes: Collection[str] | None = None
    context: Mapping[str, FeatureValue] | None = None
    output_weights: Mapping[str, float] | None = None
    strict: bool | None = None
    explain: bool | None = None
    debug: bool | None = None
    min_revision: int | None = None
    bundle_label: str | None = None
