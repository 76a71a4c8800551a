"""The values that travel down the funnel. Frozen; rows are positions in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.allowed import Allowed
from shortlist_server.funnel.arrays import NO_ROWS, Floats, Rows
from shortlist_server.funnel.options import SourceOptions

if TYPE_CHECKING:
    from shortlist_server.funnel.rating import Rated
    from shortlist_server.funnel.reranking import Ranked, Reranked

FeatureValue = (
    str | int | float | bool | Sequence[str] | Sequence[int] | Sequence[float] | Sequence[bool]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a user did with one item."""

    item_id: str
    time: float | None = None
    """Seconds since 1970-01-01 UTC."""
    rating: float | None = None
    action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user as the caller describes him."""

    id: str = ""
    """Empty: no id."""
    features: Mapping[str, FeatureValue] = field(default_factory=dict)
    history: tuple[Event, ...] = ()
    """Oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Items like which others are wanted."""

    item_ids: tuple[str, ...]
    field: str = "query.items.item_ids"
    """Where they stand in the request, for errors and warnings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A query embedding that the caller computed."""

    values: Floats
    """[n] float32, finite."""


@dataclass(frozen=True, slots=True)
class Nobody:
    """Nothing is said but a text."""


Subject: TypeAlias = User | Examples | Vector | Nobody
"""Whom or what items should suit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a recommendation is asked for."""

    subject: Subject
    text: str = ""
    """What is searched for, in words, without control characters; empty: nothing."""
    context: Mapping[str, FeatureValue] = field(default_factory=dict)


class WarningReason(Enum):
    """What was wrong with a request that was answered all the same."""

    UNKNOWN_FEATURE = "UNKNOWN_FEATURE"
    UNKNOWN_ITEM = "UNKNOWN_ITEM"
    UNKNOWN_ATTRIBUTE = "UNKNOWN_ATTRIBUTE"
    PINNED_ITEM_LEFT_OUT = "PINNED_ITEM_LEFT_OUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestWarning:
    """Something wrong with a request that did not keep it from being answered."""

    reason: WarningReason
    field: str
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedQuery:
    """A query in the bundle's own terms: names checked, ids turned into rows, absent values filled
    in.
    """

    subject: Subject
    user_id: str | None
    """The id if it is known to the bundle, else None."""
    features: Mapping[str, FeatureValue]
    """Values by full name (`user.age`): what the request sent, else what the bundle knows of the
    user.
    """
    history_rows: Rows
    """The user's history, oldest first: the request's, else what the bundle knows he has seen."""
    history: tuple[Event, ...]
    """The request's events with known items, in the order of `history_rows`; empty where the
    bundle's are used.
    """
    example_rows: Rows
    allowed: Allowed
    """Which items may be in the answer."""
    sources: tuple[SourceOptions, ...]
    """Where candidates come from; every one with its settings."""
    pins: tuple[tuple[int, int | None], ...]
    """Row and place of each pinned item that may be in the answer."""
    attributes: tuple[str, ...]
    """Item attributes to return, all known."""
    warnings: tuple[RequestWarning, ...]
    text: str = ""
    """What is searched for, in words; empty: nothing."""

    @classmethod
    def nobody(cls, size: int) -> ResolvedQuery:
        """Return a query for a user of whom nothing is known, over a catalogue of this size."""
        return cls(
            subject=User(),
            user_id=None,
            features={},
            history_rows=NO_ROWS,
            history=(),
            example_rows=NO_ROWS,
            allowed=Allowed(size),
            sources=(),
            pins=(),
            attributes=(),
            warnings=(),
        )

    @property
    def is_user(self) -> bool:
        """Whether the query asks for a user."""
        return isinstance(self.subject, User)

    @property
    def cold_start(self) -> bool:
        """Whether it asks for a user whom the bundle does not know."""
        return self.is_user and self.user_id is None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedQuery:
    """A query as a point in the space of the item embeddings."""

    embedding: Floats | None
    """[dimension] float32; None where nothing is known to compute one from."""
    source: str
    """Name of the candidate source that this embedding makes: `two_tower`, `history`, `items`,
    `embedding`; `popularity` or `text` where there is none.
    """
    personal: bool
    """Whether the ranker's user inputs mean something for this query."""
    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one source found, best first."""

    rows: Rows
    """int64 [n], without repetition."""
    scores: Floats
    """float32 [n]: what the source ordered them by."""
    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Items that the sources found, each once: those of the first source in its order, then what
    the next adds.
    """

    rows: Rows
    """int64 [n], without repetition."""
    retrieval_scores: Floats | None
    """float32 [n], higher is better; None where there is no query embedding."""
    scores: Floats
    """float32 [n]: what orders them where they are not ranked; the retrieval scores where there
    are any.
    """
    source_names: tuple[str, ...]
    """Names of the sources."""
    found: tuple[Rows, ...]
    """The rows that each source gave, best first, in the order of `source_names`."""
    reports: tuple[SourceReport, ...] = ()
    degraded: tuple[Degradation, ...] = ()


class Outcome(Enum):
    """What became of a stage."""

    OK = "OK"
    SKIPPED = "SKIPPED"
    OUT_OF_TIME = "OUT_OF_TIME"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One stage as it ran for one request."""

    name: str
    begin_ns: int
    """On the clock of the request's budget."""
    end_ns: int
    duration_ns: int
    """Without the stages inside it: all durations together are the time that has passed."""
    items_in: int
    items_out: int
    outcome: Outcome
    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """One source as it ran for one request."""

    name: str
    kind: str
    outcome: Outcome
    begin_ns: int = 0
    """On the clock of the request's budget; 0 where it was not asked, or never came to an end."""
    duration_ns: int
    item_count: int
    plan: str


class DegradedReason(Enum):
    """Why a part of the funnel was left out."""

    OUT_OF_TIME = "OUT_OF_TIME"
    FAILED = "FAILED"
    LLM_TIMEOUT = "LLM_TIMEOUT"
    LLM_INVALID_OUTPUT = "LLM_INVALID_OUTPUT"
    LLM_UNAVAILABLE = "LLM_UNAVAILABLE"
    LLM_BREAKER_OPEN = "LLM_BREAKER_OPEN"
    LLM_BUDGET_EXCEEDED = "LLM_BUDGET_EXCEEDED"
    LLM_BLOCKED = "LLM_BLOCKED"
    LLM_SWITCHED_OFF = "LLM_SWITCHED_OFF"
    LLM_NOT_ALLOWED = "LLM_NOT_ALLOWED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """A part of the funnel that was left out of an answer which is right without it."""

    stage: str
    source: str = ""
    """Empty where it is not about a source."""
    reason: DegradedReason
    message: str
    cause: Exception | None = None
    """What failed, for the log."""


class Shortfall(Enum):
    """Why an answer has fewer items than asked for."""

    CATALOG_EXHAUSTED = "CATALOG_EXHAUSTED"
    POPULARITY_EXHAUSTED = "POPULARITY_EXHAUSTED"
    FILTER_EXHAUSTED = "FILTER_EXHAUSTED"
    SOURCES_EXHAUSTED = "SOURCES_EXHAUSTED"
    SCORE_MIN = "SCORE_MIN"
    CAPS = "CAPS"


class ColdStartBasis(Enum):
    """What a user whom the bundle does not know was answered from."""

    FEATURES = "FEATURES"
    HISTORY = "HISTORY"
    NOTHING = "NOTHING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What the ranking stage made of the candidates. Empty where it was skipped."""

    scores: NDArray[np.float64] | None = None
    """float64 [candidates]."""
    outputs: Mapping[str, Floats] = field(default_factory=dict)
    """The ranker's outputs by name, float32 [candidates]."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """The weight of each in the score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortList:
    """The items of the answer, best first. All arrays are parallel, [n]."""

    rows: Rows
    """int64, without repetition."""
    scores: NDArray[np.float64]
    """The ranking scores where the items were ranked, else the source's. Never rising unless the
    selection changed the order.
    """
    retrieval_scores: Floats | None
    ranking_scores: NDArray[np.float64] | None
    outputs: Mapping[str, Floats]
    """The ranker's outputs by name, float32."""
    sources: tuple[tuple[tuple[str, int], ...], ...]
    """For each item the sources that found it, first the one that counts, with its position
    there.
    """
    candidate_positions: Rows
    """Position among the candidates, before ranking."""
    ranking_positions: Rows
    """Position by score."""
    exploration_positions: Rows | None
    """Position after exploration; None where there was none."""
    rerank_positions: Rows | None
    """Position after the language model, -1 for items that it was not shown; None where its order
    was not taken, or not asked for.
    """
    diversity_positions: Rows | None
    """Position after diversity and caps, -1 for pinned items; None where there were neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What was fed to the models, by name of the input tensor."""

    requests: Mapping[str, Mapping[str, NDArray[Any]]]
    """By model: `query_tower`, `ranker`."""
    items: Mapping[str, NDArray[Any]]
    """The ranker's inputs for each item of the answer, [n, ...]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The short list, with what explains it."""

    items: ShortList
    query: ResolvedQuery
    encoded: EncodedQuery
    limit: int
    """Number of items wanted."""
    attributes: tuple[str, ...]
    """Names of the item attributes to return."""
    stages: tuple[StageReport, ...]
    sources: tuple[SourceReport, ...]
    degraded: tuple[Degradation, ...]
    warnings: tuple[RequestWarning, ...]
    shortfall: Shortfall | None
    cold_start: ColdStartBasis | None
    """None where the user is known, or the query is none for a user."""
    weights: Mapping[str, float]
    """Weights of the ranker's outputs; empty where nothing was ranked."""
    seed: int | None
    """Of the exploration; None where there was none."""
    reranked: Reranked | None = None
    """What the language model made of the candidates; None where none was to be asked."""
    rated: Rated | None = None
    """What a language model that predicts ratings said; None where none was to be asked."""
    explanation: Explanation | None = None
    unknown_item_ids: tuple[str, ...] = ()
    """Ids that were asked for (`rank`) and are not in the catalogue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One list of a stream: whole in itself, in place of the one before."""

    answer: Answer
    refinement: str
    """What it has been refined by since the one before; empty for the first."""
    last: bool
    ranked: Ranked | None = None
    """Set where a language model is to be asked, and the last list made of this; see
    `Funnel.selected`.
    """
