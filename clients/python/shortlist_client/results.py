"""What calls return: the responses of the service in Python's own types.

An enum value or a kind of attribute that a newer server sends and this version does not know is
UNRECOGNIZED or left out; it never makes an answer unreadable.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shortlist_client.errors import ShortlistError
from shortlist_client.explanation import (
    AnsweredQuery,
    ColdStartBasis,
    Degradation,
    ModelInputs,
    RatingInfo,
    RequestWarning,
    RerankInfo,
    ShortfallReason,
    SourcePosition,
    SourceReport,
    StageReport,
)
from shortlist_client.values import AttributeValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendations:
    """The answer of `recommend`."""

    items: tuple[ScoredItem, ...]
    """Best first, without repetition."""
    info: AnswerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedRecommendations:
    """One answer of `stream_recommend`: a list, whole in itself, in place of the one before."""

    items: tuple[ScoredItem, ...]
    """Best first, without repetition."""
    info: AnswerInfo
    refinement: str
    """What refined it since the one before: `diversity`, `rerank`. Empty for the first list, which
    is in the order of ranking."""
    last: bool
    """Whether this is the last list: what `recommend` would have returned."""


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
    """The candidate source that found it, the first where several did: `two_tower`, `history`,
    `items`, `embedding`, `recent_history`, `popularity`, or the name that the bundle or the request
    gives it; `caller` where the caller named it, `pinned` where only a pin brought it here."""
    source_position: int
    """Position in that source, 0 for the first, like every position here."""
    other_sources: tuple[SourcePosition, ...]
    """The other sources that found it."""
    candidate_position: int
    """Among the candidates of all sources, before ranking."""
    ranking_position: int
    """By score, before what follows ranking."""
    exploration_position: int | None
    """After exploration. None where there was none."""
    diversity_position: int | None
    """After diversity and caps, before pinned items come in between. None where there were
    neither."""
    model_inputs: dict[str, AttributeValue]
    """What the ranker was fed for it, by name of the tensor, in row-major order. Empty without
    `explain`."""
    attributes: dict[str, AttributeValue]
    """The attributes asked for, by name. One that the item has no value for is absent."""
    rerank_position: int | None = None
    """After the language model. None where it was not shown the item, or not listened to."""
    rerank_reason: str = ""
    """Why the item suits, as the language model says: untrusted text."""
    llm_rating: float | None = None
    """The rating that a language model predicts, 1..5. None where it was not asked (`rank`), or not
    listened to."""
    llm_rating_clamped: bool = False
    """Whether it said a number outside of 1..5."""


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
    degraded: tuple[Degradation, ...]
    """The parts of the funnel that were left out: the answer is right, but not all that was asked
    for."""
    sources: tuple[SourceReport, ...]
    """In the order of the list of sources."""
    cold_start_basis: ColdStartBasis | None
    """What an unknown user was answered from. None where `cold_start` is False."""
    seed: int | None
    """Of the exploration: sent again, it draws the same list. None where there was none."""
    match_count: int | None
    """Items of the catalogue that the filters match, exclusions by id and seen items not counted.
    None where there was no filter."""
    answered_query: AnsweredQuery | None
    """None without `debug`."""
    model_inputs: tuple[ModelInputs, ...]
    """What the models were fed for the query as a whole. Empty without `explain`."""
    catalog_revision: int = 0
    """Revision of the catalogue that was answered from; 0 where nothing was ever changed."""
    bundle_label: str = "stable"
    """Label of the bundle that answered: `stable` or `canary`."""
    rerank: RerankInfo | None = None
    """What a language model was asked. None where it was not."""
    rating: RatingInfo | None = None
    """What a language model was asked that predicts ratings. None where it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleId:
    """Identity of a bundle: two bundles with the same identity give the same answers."""

    name: str
    version: str
    sha256: str
    """Of the canonical manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleInfo:
    """What a bundle is, and what it takes."""

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
class LabeledBundle:
    """A bundle that is loaded beside the stable one."""

    label: str
    """`canary` or `shadow`."""
    bundle: BundleInfo
    share: float
    """Of the users whom it answers, 0..1. Of a shadow, of the recommendations that it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveBundle(BundleInfo):
    """The answer of `get_active_bundle`: what is being served, under the label `stable`."""

    others: tuple[LabeledBundle, ...]
    """The bundles that are loaded beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleEntry:
    """A bundle that a server can switch to."""

    folder: str
    """Its name where bundles come from."""
    id: BundleId | None
    """None where its manifest cannot be read."""
    create_time: datetime | None
    """When it was built. None where its manifest cannot be read."""
    active: bool
    """Whether it serves now, under any label."""
    problem: str
    """Why it cannot be switched to. Empty where nothing is known against it."""
    labels: tuple[str, ...] = ()
    """The labels that it has: `stable`, `canary`, `shadow`. Empty where it is not active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSwitch:
    """The answer of `activate_bundle` and `roll_back_bundle`."""

    bundle: BundleId
    """The bundle that was asked for, or gone back to."""
    previous: BundleId | None
    """The bundle that had the label before. None where nothing was switched, or none had it."""
    switched: bool
    """False where it was active already, or only validated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogStats:
    """The answer of `get_catalog_stats`: how large the catalogue is and how well it is searched."""

    item_count: int
    recall: tuple[RecallBucket, ...]
    """Of live searches since the server started. Empty where its recall monitor is off."""
    recall_dropped_count: int
    """Searches that were to be checked and were not, since the monitor was busy."""
    live: bool
    """Whether items can be changed."""
    revision: int
    """Of the catalogue, as this server sees it; 0 where nothing was ever changed."""
    store_age_ms: float | None
    """Time since the server last read the store of changes. None where it has none."""
    changed_item_count: int
    """Items that are new, or others than in the bundle."""
    deleted_item_count: int
    """Items of the bundle that were deleted."""
    tail_row_count: int
    """Rows beside the bundle's index, which every search compares."""
    misfit_count: int
    """Changed items that the bundle cannot serve as they were written."""
    misfits: tuple[Misfit, ...]
    """The first 100 of them."""
    unembedded_text_count: int
    """Items whose texts a service is still to embed: served, and not found by text until it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """An item that the bundle cannot serve as it was written."""

    item_id: str
    revision: int
    """Of its last change."""
    served: bool
    """Whether it is served all the same, by the embedding that the bundle has for it."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChanges:
    """The answer of `upsert_items` and `delete_items`."""

    revision: int
    """Of the catalogue with these changes: what `min_revision` takes."""
    replayed: bool
    """Whether this had been done before under the same idempotency key; the answer is that of then.
    """
    outcomes: tuple[ItemOutcome, ...]
    """In the order sent."""

    @property
    def failures(self) -> dict[str, ShortlistError]:
        """Why items were refused, by id."""
        return {one.item_id: one.error for one in self.outcomes if one.error is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """What became of one item."""

    item_id: str
    error: ShortlistError | None
    """Why it was refused. None where it was written, or deleted."""
    unknown_attributes: tuple[str, ...]
    """Attributes that the bundle does not declare: kept, and without effect."""
    existed: bool
    """Whether there was an item of this id before, as far as the server had seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedItem:
    """The answer of `get_item`."""

    id: str
    attributes: dict[str, AttributeValue]
    """Those that the bundle declares and the item has a value for."""
    vector: tuple[float, ...] | None
    """Its embedding. None unless asked for."""
    revision: int
    """Of its last change; 0 where it is as the bundle has it."""
    catalog_revision: int
    """Of the catalogue that this was answered from."""
    bundle: BundleId


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallBucket:
    """Recall of the searches whose filters and exclusions left a similar share of the catalogue."""

    selectivity_min: float
    """Least share in this bucket, 0..1."""
    selectivity_max: float
    """The share below which it ends; 1 belongs to the last bucket."""
    query_count: int
    """Searches that were checked."""
    recall: float | None
    """Share of the true nearest items that they found, 0..1. None where none was checked."""


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
