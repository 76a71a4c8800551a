"""What the funnel asks of its stages and of the catalogue. Adapters live in `stages/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from shortlist_server.funnel.types import (
    Candidates,
    EncodedQuery,
    FeatureValue,
    Floats,
    ResolvedQuery,
    Rows,
)


class Catalog(Protocol):
    """The items, and the users that are known."""

    @property
    def size(self) -> int:
        """Number of items."""

    @property
    def attribute_names(self) -> Sequence[str]:
        """Names of the item attributes, in the bundle's order."""

    @property
    def feature_types(self) -> Mapping[str, str]:
        """Type of each feature that a request may send, by full name (`user.age`)."""

    def row(self, item_id: str) -> int | None:
        """Return the row of an item, or None if it is unknown."""

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


class Source(Protocol):
    """Finds candidates."""

    def retrieve(
        self, query: EncodedQuery, k: int, *, ef: int | None, exact: bool, excluded: Rows
    ) -> Candidates:
        """Return the k best items for a query, or as many as exist, none of the excluded.

        Args:
            query: With an embedding, unless the source needs none.
            k: 1..4,096.
            ef: Search width; None leaves the choice of the search to the source.
            exact: Whether every item must be compared.
            excluded: Rows, without repetition.
        """

    def score(self, query: EncodedQuery, rows: Rows) -> Floats | None:
        """Return the retrieval scores of items, float32 [n], or None where the query has no
        embedding.
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

    def rank(
        self, query: ResolvedQuery, rows: Rows, retrieval_scores: Floats | None
    ) -> Mapping[str, Floats]:
        """Return the outputs for each item by name, float32 [n] each.

        Raises:
            ModelOutputInvalid: an output is not finite.
        """
