"""What the funnel asks of its stages and of the catalogue. Adapters live in `stages/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from shortlist_server.funnel.allowed import Allowed, Selection
from shortlist_server.funnel.arrays import Floats, Rows
from shortlist_server.funnel.filter import Filter
from shortlist_server.funnel.options import RatingOptions, RerankOptions, SourceSettings
from shortlist_server.funnel.reranking import Reranked
from shortlist_server.funnel.types import EncodedQuery, FeatureValue, Found, ResolvedQuery

if TYPE_CHECKING:
    from shortlist_server.funnel.rating import Rated

Checkpoint = Callable[[], None]
"""Called before each piece of work; raises where there is no time for more."""


class Catalog(Protocol):
    """The items, and the users that are known."""

    @property
    def size(self) -> int:
        """Number of items."""

    @property
    def row_count(self) -> int:
        """Number of rows: those whose items are gone count, too."""

    @property
    def alive(self) -> Selection | None:
        """The rows that hold an item; None where all do."""

    @property
    def attribute_names(self) -> Sequence[str]:
        """Names of the item attributes, in the bundle's order."""

    @property
    def feature_types(self) -> Mapping[str, str]:
        """Type of each feature that a request may send, by full name (`user.age`)."""

    def row(self, item_id: str) -> int | None:
        """Return the row of an item, or None if it is unknown."""

    def item_id(self, row: int) -> str:
        """Return the id of the item at a row."""

    def rows(self, item_ids: Sequence[str]) -> Rows:
        """Return the rows of the items that are known, in order, int64."""

    def select(self, wanted: Filter | None, unwanted: Filter | None) -> Selection | None:
        """Return the items that match one filter and not the other, of the rows that hold one; None
        where both are None.

        Raises:
            UnknownAttribute: a filter names an attribute that there is not.
            AttributeTypeMismatch: a value, or the condition, does not fit the attribute's type.
        """

    def check_attribute(self, name: str, field: str) -> None:
        """Check that there is an attribute of this name.

        Raises:
            UnknownAttribute: there is none.
        """

    def attribute(self, name: str, row: int) -> FeatureValue | None:
        """Return an attribute of the item at a row, or None where it has no value."""

    def attribute_codes(self, name: str, row: int) -> Sequence[Any]:
        """Return the values of an item's attribute, as what can be compared: none, one or, where
        it is multi-valued, several.
        """

    def user_features(self, user_id: str) -> Mapping[str, FeatureValue] | None:
        """Return what is known of a user, by full name, or None if he is unknown."""

    def seen(self, user_id: str) -> Rows:
        """Return the items that a user is known to have seen, oldest first; none if he is
        unknown.
        """


class QueryEncoder(Protocol):
    """Turns a query into a point in the space of the item embeddings."""

    def encode(self, query: ResolvedQuery) -> EncodedQuery:
        """Return the query's embedding, or say that there is none.

        Raises:
            DimensionMismatch: the caller's embedding has not as many components as the items'.
        """

    def score(self, query: EncodedQuery, rows: Rows) -> Floats | None:
        """Return how similar items are to the query, float32 [n], or None where it has no
        embedding.
        """

    def directions(self, rows: Rows) -> Floats:
        """Return the item embeddings at unit length, float32 [n, dimension]."""

    def inputs(self, query: ResolvedQuery, encoded: EncodedQuery) -> Mapping[str, NDArray[Any]]:
        """Return what the query tower was fed, by name; empty where it was not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceQuery:
    """What a source is asked."""

    query: ResolvedQuery
    encoded: EncodedQuery
    settings: SourceSettings
    k: int
    """Most items wanted: 1..4,096."""
    allowed: Allowed
    """Which items may come back."""
    ef: int | None
    """Search width; None leaves the choice of the search to the source."""
    exact: bool
    """Whether every item must be compared."""
    checkpoint: Checkpoint
    time_left_s: Callable[[], float]
    """Returns what is left of the request's time, in seconds: for what waits by itself."""
    plan: str
    """The plan of an earlier run that is to be followed; empty: the source chooses."""


class Source(Protocol):
    """Finds candidates. A kind of source is one object, asked by many requests at once."""

    waits: bool
    """Whether it may wait for something outside this process: it then runs in a thread of its own,
    beside the others, and is given up when its share of the budget is gone.
    """
    filters: bool
    """Whether all that it returns is allowed; the funnel strikes out the rest for a source that
    cannot.
    """

    def skip_reason(self, ask: SourceQuery) -> str:
        """Return why the source does not apply to a query, in a few words; empty where it does."""

    def retrieve(self, ask: SourceQuery) -> Found:
        """Return the best items for a query, or as many as there are, without repetition.

        It may raise what it likes: a source that fails is reported and the others answer. What
        `ask.checkpoint` raises must pass.
        """


class Ranker(Protocol):
    """Scores candidates with all that is known of query and item."""

    @property
    def output_names(self) -> Sequence[str]:
        """Names of the outputs."""

    @property
    def weights(self) -> Mapping[str, float]:
        """The bundle's own weight of each output in the ranking score."""

    @property
    def needs_user(self) -> bool:
        """Whether an input says something about the user."""

    @property
    def chunk_rows(self) -> int:
        """Most candidates that are ranked by one kernel call, so that it is short."""

    def rank(
        self,
        query: ResolvedQuery,
        rows: Rows,
        retrieval_scores: Floats | None,
        *,
        chunk_rows: int,
        checkpoint: Checkpoint,
    ) -> Mapping[str, Floats]:
        """Return the outputs for each item by name, float32 [n] each.

        Args:
            query: The query.
            rows: The candidates, 1 or more.
            retrieval_scores: float32 [n]; None where there are none.
            chunk_rows: Candidates in one kernel call.
            checkpoint: Called before each kernel call.

        Raises:
            ModelOutputInvalid: an output is not finite.
        """

    def inputs(
        self, query: ResolvedQuery, rows: Rows, retrieval_scores: Floats | None
    ) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]]:
        """Return what was fed for the query, [1, ...], and for each item, [n, ...], by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankQuery:
    """What a language model is to put in order."""

    query: ResolvedQuery
    catalog: Catalog
    rows: Rows
    """The candidates that it is shown, in the order that they have, int64 [n], without repetition:
    0 or more.
    """
    options: RerankOptions
    template: str
    """The bundle's own prompt; empty where it has none."""
    deadline_s: float
    """Time from now until its answer is no use any more, in seconds; 0 or less where it is no use
    to ask.
    """


class Reranker(Protocol):
    """Has a language model put candidates in order."""

    async def rerank(self, ask: RerankQuery) -> Reranked:
        """Return the candidates in its order, or say why the order that they have stands.

        It has ended when `ask.deadline_s` is over, and raises nothing but CancelledError, for which
        it ends the call of the model.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingQuery:
    """What a language model is to rate."""

    query: ResolvedQuery
    catalog: Catalog
    rows: Rows
    """The items, int64 [n], without repetition: 0 or more."""
    options: RatingOptions
    deadline_s: float
    """Time from now until its answer is no use any more, in seconds; 0 or less where it is no use
    to ask.
    """


class Rater(Protocol):
    """Has a language model predict ratings."""

    async def rate(self, ask: RatingQuery) -> Rated:
        """Return a rating of each item, or say why the scores that they have stand.

        It has ended when `ask.deadline_s` is over, and raises nothing but CancelledError, for which
        it ends the call of the model.
        """
