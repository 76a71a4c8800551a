"""The values that travel down the funnel. Frozen; rows are positions in the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
FeatureValue = (
    str | int | float | bool | Sequence[str] | Sequence[int] | Sequence[float] | Sequence[bool]
)

NO_ROWS: Rows = np.empty(0, np.int64)
NO_ROWS.flags.writeable = False


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a recommendation is asked for."""

    subject: User | Examples | Vector
    context: Mapping[str, FeatureValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller may choose about an answer. Every field is in its range already."""

    limit: int = 20
    """Number of items wanted: 1..500, or 1..4,096 where only candidates are."""
    candidate_count: int = 200
    """Number of candidates to retrieve, at least `limit`: 1..4,096."""
    ef: int | None = None
    """Search width of the graph; None leaves it, and the choice of the search, to the retrieval
    stage.
    """
    exact: bool = False
    excluded_item_ids: Sequence[str] = ()
    exclude_seen: bool = True
    attributes: tuple[str, ...] = ()
    """Item attributes to return; `*` means all."""
    output_weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of the ranker's outputs; empty means the bundle's own."""
    strict: bool = False


class WarningReason(Enum):
    """What was wrong with a request that was answered all the same."""

    UNKNOWN_FEATURE = "UNKNOWN_FEATURE"
    UNKNOWN_ITEM = "UNKNOWN_ITEM"
    UNKNOWN_ATTRIBUTE = "UNKNOWN_ATTRIBUTE"


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

    subject: User | Examples | Vector
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
    excluded_rows: Rows
    """Rows that must not be in the answer, without repetition."""
    attributes: tuple[str, ...]
    """Item attributes to return, all known."""
    warnings: tuple[RequestWarning, ...]

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
    `embedding`.
    """
    personal: bool
    """Whether the ranker's user inputs mean something for this query."""
    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Items that a source found, best first."""

    rows: Rows
    """int64 [n], without repetition."""
    retrieval_scores: Floats | None
    """float32 [n], higher is better; None where there is no query embedding."""
    scores: Floats
    """float32 [n]: what the source ordered them by; the retrieval scores where there are any."""
    source: str
    plan: str


class Outcome(Enum):
    """What became of a stage."""

    OK = "OK"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """One stage as it ran for one request."""

    name: str
    duration_ns: int
    items_in: int
    items_out: int
    outcome: Outcome
    plan: str


class Shortfall(Enum):
    """Why an answer has fewer items than asked for."""

    CATALOG_EXHAUSTED = "CATALOG_EXHAUSTED"
    POPULARITY_EXHAUSTED = "POPULARITY_EXHAUSTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What the ranking stage made of the candidates. Empty where it was skipped."""

    scores: NDArray[np.float64] | None = None
    """float64 [candidates]."""
    outputs: Mapping[str, Floats] = field(default_factory=dict)
    """The ranker's outputs by name, float32 [candidates]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The items of the short list. All arrays are parallel, best first."""

    rows: Rows
    """int64 [n], without repetition."""
    scores: NDArray[np.float64]
    """float64 [n], never rising: the ranking scores where the items were ranked, else the
    source's.
    """
    retrieval_scores: Floats | None
    ranking_scores: NDArray[np.float64] | None
    outputs: Mapping[str, Floats]
    """The ranker's outputs by name, float32 [n]."""
    source_positions: Rows
    """int64 [n]: position of each item in its source, 0 for the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The short list, with what explains it."""

    items: Selection
    source: str
    """Name of the source that the items came from."""
    attributes: tuple[str, ...]
    """Names of the item attributes to return."""
    stages: tuple[StageReport, ...]
    cold_start: bool
    warnings: tuple[RequestWarning, ...]
    shortfall: Shortfall | None
    unknown_item_ids: tuple[str, ...] = ()
    """Ids that were asked for (`rank`) and are not in the catalogue."""
