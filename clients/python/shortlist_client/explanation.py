"""How an answer came about: what ran, what was left out, what was asked and what models were fed.

An enum value that a newer server sends and this version does not know is UNRECOGNIZED.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shortlist_client.options import Cap, PinnedItem, Rerank, Source
from shortlist_client.values import AttributeValue


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
    """What became of a stage or a source."""

    OK = "OK"
    SKIPPED = "SKIPPED"
    """It did not apply to this request: its plan says why."""
    OUT_OF_TIME = "OUT_OF_TIME"
    """Left out for lack of time; `info.degraded` has it too."""
    FAILED = "FAILED"
    """A source that failed while others answered; `info.degraded` has it too."""
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
    PINNED_ITEM_LEFT_OUT = "PINNED_ITEM_LEFT_OUT"
    """A filter, an exclusion or a cap leaves it out."""
    UNRECOGNIZED = "UNRECOGNIZED"


class ShortfallReason(StrEnum):
    """Why an answer has fewer items than asked for."""

    CATALOG_EXHAUSTED = "CATALOG_EXHAUSTED"
    """Without the excluded items, the catalogue has no more."""
    POPULARITY_EXHAUSTED = "POPULARITY_EXHAUSTED"
    """Nothing is known to search by, and the bundle has no popularity to answer from."""
    FILTER_EXHAUSTED = "FILTER_EXHAUSTED"
    """Without the excluded items, no more match the filters."""
    SOURCES_EXHAUSTED = "SOURCES_EXHAUSTED"
    """The sources asked for gave no more candidates."""
    SCORE_MIN = "SCORE_MIN"
    """No more candidates reach `score_min`."""
    CAPS = "CAPS"
    """No more candidates fit under the caps."""
    UNRECOGNIZED = "UNRECOGNIZED"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePosition:
    """Where a source had an item."""

    source: str
    position: int
    """0 for the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """One source of candidates, as it ran for this request."""

    name: str
    kind: str
    """`nearest`, `recent_history`, `popularity`, `caller`."""
    outcome: StageOutcome
    duration_ms: float
    """On the server."""
    item_count: int
    """How many candidates it gave, those that other sources gave too among them."""
    plan: str
    """How it did its work, or why it did not, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """Something that was left out of an answer, which is right all the same."""

    stage: str
    """`retrieval` for a source, `rerank`, `diversity`, ..."""
    source: str
    """Empty where it is not about a source."""
    reason: DegradedReason
    message: str


class DegradedReason(StrEnum):
    """Why a part of the funnel was left out."""

    OUT_OF_TIME = "OUT_OF_TIME"
    """Its share of the time budget was gone, or too little for it was left."""
    FAILED = "FAILED"
    """The server's log tells more under the request's id."""
    LLM_TIMEOUT = "LLM_TIMEOUT"
    """The language model had not answered when its time was over."""
    LLM_INVALID_OUTPUT = "LLM_INVALID_OUTPUT"
    """Its answer was not what it was asked for."""
    LLM_UNAVAILABLE = "LLM_UNAVAILABLE"
    """It cannot be reached, refuses calls or failed; or the server has none."""
    LLM_BREAKER_OPEN = "LLM_BREAKER_OPEN"
    """It has failed often of late, and is not asked for a while."""
    LLM_BUDGET_EXCEEDED = "LLM_BUDGET_EXCEEDED"
    """There was no time, no money or no place among the calls under way left for it."""
    LLM_BLOCKED = "LLM_BLOCKED"
    """The provider's safety filter held its answer back."""
    LLM_SWITCHED_OFF = "LLM_SWITCHED_OFF"
    """By the server's lift report, this model with this prompt makes lists worse."""
    LLM_NOT_ALLOWED = "LLM_NOT_ALLOWED"
    """The caller's API key lacks the scope `rerank`."""
    UNRECOGNIZED = "UNRECOGNIZED"


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankInfo:
    """What a language model was asked that put candidates in order, and what it cost."""

    prompt: str
    """Name and version of the prompt."""
    model: str
    """Provider and model."""
    item_ids: tuple[str, ...]
    """The candidates that it was shown, in its order. Empty where its order was not taken."""
    left_out_count: int
    """Candidates that it left out, the last of `item_ids`."""
    pass_count: int
    """How many of its answers count."""
    seed: int
    """Of the order in which it was shown the candidates."""
    input_token_count: int
    output_token_count: int
    price: float
    """In the currency of the server's configured prices; 0 where it has none."""
    violations: tuple[str, ...]
    """What was wrong with its answers, by name: `foreign`, `duplicate`, `missing`, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingInfo:
    """What a language model was asked that predicts ratings, and what it cost."""

    prompt: str
    """Name and version of the prompt."""
    model: str
    """Provider and model."""
    ratings: dict[str, float]
    """By item, 1..5. Empty where they were not taken."""
    clamped_count: int
    """How many of them were outside of 1..5, and are at its bounds now."""
    llm_weight: float
    """What a predicted rating counts in the score."""
    ranker_weight: float
    """What `ranking_score` counts in it."""
    input_token_count: int
    output_token_count: int
    price: float
    """In the currency of the server's configured prices; 0 where it has none."""
    violations: tuple[str, ...]
    """What was wrong with its answer, by name: `foreign`, `duplicate`, `missing`, `clamped`, ..."""


class ColdStartBasis(StrEnum):
    """What a user whom the bundle does not know was answered from."""

    FEATURES = "FEATURES"
    """Features that were sent."""
    HISTORY = "HISTORY"
    """A history that was sent."""
    NOTHING = "NOTHING"
    """Nothing that is known of the user: popularity, or what sources found without him."""
    UNRECOGNIZED = "UNRECOGNIZED"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredQuery:
    """The query that was answered: the request with all defaults, and what the bundle added."""

    embedding: tuple[float, ...]
    """Empty where there was none."""
    embedding_source: str
    """`two_tower`, `history`, `items`, `embedding`; `popularity` or `text` where there was none."""
    features: dict[str, AttributeValue]
    """By full name: `user.age`. Those sent or known to the bundle; absent ones took its default."""
    history_item_ids: tuple[str, ...]
    """Oldest first."""
    text: str
    """What was searched for, in words, as it was read. Empty where nothing was."""
    filter: str
    """Filter and exclusion filter, joined, in the server's notation. Empty where there was none."""
    excluded_item_count: int
    """Items left out by id, as seen, or as examples."""
    limit: int
    sources: tuple[Source, ...]
    output_weights: dict[str, float]
    """Empty where nothing was ranked."""
    selection: Selection
    ef: int | None
    """None: left to the server."""
    exact: bool
    budget_ms: float
    """The time that the call had when it arrived."""
    rerank: Rerank | None = None
    ranker: str = ""
    """Whose word items were to be scored by: `llm`, `blend`. Empty where it was the bundle's."""
    """What was asked of a language model. None: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How a list was made of the ranked candidates."""

    score_min: float | None
    """None: any score will do."""
    diversity: float
    """0..1; 0 is none."""
    caps: tuple[Cap, ...]
    pinned_items: tuple[PinnedItem, ...]
    temperature: float
    """Of the exploration, on the scale of the scores; 0 is none."""
    seed: int | None
    """Of the exploration. None: the server's choice, see `info.seed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInputs:
    """What was fed to a model for the query as a whole."""

    model: str
    """`query_tower`, `ranker`."""
    inputs: dict[str, AttributeValue]
    """By name of the tensor, its numbers in row-major order."""
