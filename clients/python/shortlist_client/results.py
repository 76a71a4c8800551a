"""What calls return: the responses of the service in Python's own types.

An enum value or a kind of attribute that a newer server sends and this version does not know is
UNRECOGNIZED or left out; it never makes an answer unreadable.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shortlist_client.values import AttributeValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendations:
    """The answer of `recommend`."""

    items: tuple[ScoredItem, ...]
    """Best first, without repetition."""
    info: AnswerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The answer of `retrieve`."""

    items: tuple[ScoredItem, ...]
    """Best retrieval score first, without ranking scores."""
    info: AnswerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The answer of `rank`."""

    items: tuple[ScoredItem, ...]
    """Best first."""
    unknown_item_ids: tuple[str, ...]
    """The ids asked for that the bundle does not know, in the order sent."""
    info: AnswerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarItems:
    """The answer of `find_similar_items`."""

    items: tuple[ScoredItem, ...]
    """Nearest first, without the item itself."""
    info: AnswerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredItem:
    """An item of an answer."""

    id: str
    score: float
    """What the answer is ordered by, higher is better: the ranking score, else the retrieval
    score."""
    retrieval_score: float | None
    """Similarity of query and item embedding in the bundle's metric. None: no query embedding
    exists."""
    ranking_score: float | None
    """The ranker's outputs, weighted and added. None: the item was not ranked."""
    outputs: dict[str, float]
    """The ranker's outputs by name."""
    source: str
    """The candidate source that found it: `two_tower`, `history`, `items`, `embedding`,
    `popularity`, `caller`."""
    source_position: int
    """Position in that source, 0 for the first."""
    attributes: dict[str, AttributeValue]
    """The attributes asked for, by name. One that the item has no value for is absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerInfo:
    """What identifies and explains an answer."""

    request_id: str
    bundle: BundleId
    """The bundle that answered."""
    stages: tuple[StageReport, ...]
    """In the order they ran."""
    cold_start: bool
    """Whether the user was unknown to the bundle."""
    warnings: tuple[RequestWarning, ...]
    """What was wrong with the request and did not keep it from being answered."""
    shortfall_reason: ShortfallReason | None
    """Why there are fewer items than asked for. None where there are as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One stage of the funnel, as it ran for this request."""

    name: str
    duration_ms: float
    """On the server."""
    items_in: int
    items_out: int
    outcome: StageOutcome
    plan: str
    """How the stage did its work, for people: `hnsw ef=200`."""


class StageOutcome(StrEnum):
    """What became of a stage."""

    OK = "OK"
    SKIPPED = "SKIPPED"
    """The stage did not apply to this request: its plan says why."""
    UNRECOGNIZED = "UNRECOGNIZED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestWarning:
    """Something wrong with a request that did not keep it from being answered."""

    reason: WarningReason
    field: str
    """The field of the request: `query.user.features`."""
    subjects: tuple[str, ...]
    """The names or ids that are wrong, in the order sent; the first 100."""
    subject_count: int
    """How many there are in all."""
    message: str


class WarningReason(StrEnum):
    """What is wrong with a request that was answered all the same."""

    UNKNOWN_FEATURE = "UNKNOWN_FEATURE"
    UNKNOWN_ITEM = "UNKNOWN_ITEM"
    UNKNOWN_ATTRIBUTE = "UNKNOWN_ATTRIBUTE"
    UNRECOGNIZED = "UNRECOGNIZED"


class ShortfallReason(StrEnum):
    """Why an answer has fewer items than asked for."""

    CATALOG_EXHAUSTED = "CATALOG_EXHAUSTED"
    """Without the excluded items, the catalogue has no more."""
    POPULARITY_EXHAUSTED = "POPULARITY_EXHAUSTED"
    """The popularity list, which answers for unknown users, has no more."""
    UNRECOGNIZED = "UNRECOGNIZED"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleId:
    """Identity of a bundle: two bundles with the same identity give the same answers."""

    name: str
    version: str
    sha256: str
    """Of the canonical manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """The answer of `get_active_bundle`: what is being served."""

    id: BundleId
    create_time: datetime | None
    """UTC. None where the bundle does not say."""
    data_name: str
    """Of the data set it was trained on."""
    data_simulated: bool
    item_count: int
    user_count: int
    dimension: int
    """Of every embedding."""
    metric: str
    """`inner_product`, `cosine` or `l2`."""
    item_attributes: tuple[FieldInfo, ...]
    features: tuple[FieldInfo, ...]
    """What a request may send: `user.age`, `context.hour`, ..."""
    ranker_outputs: tuple[str, ...]
    """Empty where the bundle has no ranker."""
    framework_versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldInfo:
    """A feature or an item attribute that the bundle declares."""

    name: str
    type: ValueType


class ValueType(StrEnum):
    """The type of a feature or an item attribute."""

    STRING = "STRING"
    INT64 = "INT64"
    DOUBLE = "DOUBLE"
    BOOL = "BOOL"
    STRING_LIST = "STRING_LIST"
    INT64_LIST = "INT64_LIST"
    DOUBLE_LIST = "DOUBLE_LIST"
    BOOL_LIST = "BOOL_LIST"
    UNRECOGNIZED = "UNRECOGNIZED"
