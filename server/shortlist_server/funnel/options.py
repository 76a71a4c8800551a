"""What a caller may choose about an answer. Every value is in its range already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from shortlist_server.funnel.filter import Filter, Scalar


@dataclass(frozen=True, slots=True)
class Nearest:
    """Items nearest to the query embedding."""

    kind: ClassVar[str] = "nearest"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentHistory:
    """Items nearest to the mean of the user's last events."""

    kind: ClassVar[str] = "recent_history"
    event_count: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Popular:
    """Popular items, overall or among those with an attribute value."""

    kind: ClassVar[str] = "popularity"
    attribute: str = ""
    """Empty: overall."""
    value: Scalar | None = None
    feature: str = ""
    """Full name of the feature that holds the value, where `value` is None."""
    field: str = "sources.popularity"
    """Where it stands in the request, for errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Items that the caller names, best first."""

    kind: ClassVar[str] = "caller"
    item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Items whose texts mean what the query's text means; where there is none, what the texts of
    its example items mean.
    """

    kind: ClassVar[str] = "text"
    field: str = "sources.text"
    """Where it stands in the request, for errors."""


SourceSettings: TypeAlias = Nearest | RecentHistory | Popular | Named | Text
"""What a source is asked to find; a new kind of source adds its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """One source of candidates."""

    name: str = ""
    """Empty: the name of the kind."""
    candidate_count: int | None = None
    """Most candidates it gives; None: the request's number."""
    settings: SourceSettings | None = None
    """None: as the bundle configures the source of this name."""

    @property
    def kind(self) -> str:
        """Name of the kind; empty where the bundle is to say."""
        return "" if self.settings is None else self.settings.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """Most items of an answer that may share a value of an attribute."""

    attribute: str
    item_count_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """An item with a fixed place."""

    item_id: str
    position: int | None = None
    """None: the first free place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """A random order instead of the best one."""

    temperature: float
    """More than 0, on the scale of the scores."""
    seed: int | None = None
    """None: the funnel chooses one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionOptions:
    """How the list is made of the scored candidates."""

    score_min: float | None = None
    diversity: float = 0.0
    """Strength of maximal marginal relevance, 0..1; 0 is none."""
    caps: tuple[Cap, ...] = ()
    pins: tuple[Pin, ...] = ()
    exploration: Exploration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankOptions:
    """What a language model is asked to do with the first of the ranked candidates."""

    candidate_count: int = 20
    """How many it is shown, at most: 2..100."""
    subset: bool = False
    """Whether it may leave some out, which then stand behind the others."""
    reasons: bool = False
    """Whether it is asked why each item suits."""
    passes: int = 1
    """How many times it is asked, in different orders: 1 or 2."""
    timeout_s: float | None = None
    """Longest wait, in seconds; None: as long as its share of the budget lasts."""
    seed: int | None = None
    """Seed of the order in which candidates are shown; None: one that depends on them alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingOptions:
    """Has a language model predict ratings of the items that the caller names."""

    blend: bool = False
    """Whether the ranking score counts in the score, too."""
    timeout_s: float | None = None
    """Longest wait, in seconds; None: as long as its share of the budget lasts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What an earlier run of the same request decided by the clock, so as not to decide again."""

    source_plans: Mapping[str, str] = field(default_factory=dict)
    """The plan of each source, by name."""
    skipped_sources: frozenset[str] = frozenset()
    """Sources that were left out."""
    skipped_stages: frozenset[str] = frozenset()
    """Stages that were left out."""
    ranking_chunk: int | None = None
    """Candidates ranked at once."""
    reranked_item_ids: tuple[str, ...] = ()
    """The items that the language model was shown, in its order; empty where there is none."""
    ratings: Mapping[str, float] = field(default_factory=dict)
    """The ratings that it predicted, by item; empty where there are none."""
    rating_weights: tuple[float, float] = (1.0, 0.0)
    """What a rating, and the ranking score, count in the score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the caller may choose about an answer."""

    limit: int = 20
    """Number of items wanted: 1..500, or 1..4,096 where only candidates are. 0, there alone: all
    that the sources give.
    """
    candidate_count: int = 200
    """Number of candidates of each source that says nothing else, at least `limit`: 1..4,096."""
    ef: int | None = None
    """Search width of the graph; None leaves it, and the choice of the search, to the sources."""
    exact: bool = False
    filter: Filter | None = None
    excluded_filter: Filter | None = None
    excluded_item_ids: Sequence[str] = ()
    exclude_seen: bool = True
    sources: tuple[SourceOptions, ...] = ()
    """Empty: the bundle's own list."""
    selection: SelectionOptions = SelectionOptions()
    rerank: RerankOptions | None = None
    """None: no language model is asked."""
    rating: RatingOptions | None = None
    """None: the bundle's scores are those of `Rank`."""
    attributes: tuple[str, ...] = ()
    """Item attributes to return; `*` means all."""
    output_weights: Mapping[str, float] = field(default_factory=dict)
    """Weights of the ranker's outputs; empty means the bundle's own."""
    strict: bool = False
    explain: bool = False
    debug: bool = False
    replay: Replay | None = None
