"""The first stage: a query becomes a point in the space of the item embeddings."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.errors import (
    DimensionMismatch,
    InvalidValue,
    ModelOutputInvalid,
    RequestError,
)
from shortlist_server.funnel.arrays import ByRow, Floats, Rows
from shortlist_server.funnel.types import (
    EncodedQuery,
    Examples,
    Nobody,
    ResolvedQuery,
    User,
    Vector,
)
from shortlist_server.index.vector_index import Metric, similarity
from shortlist_server.runtime.featurize import Raw
from shortlist_server.runtime.models import LoadedModel


class TowerEncoder:
    """Encodes users by the query tower, items and histories by the mean of their embeddings."""

    def __init__(
        self,
        *,
        tower: LoadedModel | None,
        item_ids: Sequence[str],
        embeddings: ByRow,
        metric: Metric,
    ) -> None:
        """Take the tower and the vectors.

        Args:
            tower: The query tower; None where the bundle has none.
            item_ids: Id of each row.
            embeddings: [items, dimension] float32.
            metric: The bundle's metric.
        """
        self._tower = tower
        self._item_ids = item_ids
        self._embeddings = embeddings
        self._metric: Metric = metric
        self._cosine = metric == "cosine"
        self._output = "" if tower is None else tower.session.declared.outputs[0].name

    def encode(self, query: ResolvedQuery) -> EncodedQuery:
        """Return the query's embedding, or say that there is none; see
        `funnel.stages.QueryEncoder`.
        """
        if isinstance(query.subject, Vector):
            return self._encoded(self._checked(query.subject.values), "embedding", "as sent")
        if isinstance(query.subject, Examples):
            mean = self._mean(query.example_rows)
            return self._encoded(mean, "items", f"mean of {len(query.example_rows)} items")
        if isinstance(query.subject, Nobody):
            return EncodedQuery(
                embedding=None, source="text", personal=False, plan="a text, and nothing else"
            )
        if self._tower is not None and self._says_something(query, query.subject):
            values = request_values(query, self._tower.inputs.request_sources, self._item_ids)
            try:
                outputs = self._tower.session.run(self._tower.inputs.request_feeds(values))
            except RequestError:
                raise
            except Exception as error:  # onnxruntime's exceptions share no base class
                # It ran on default values when the bundle was loaded: what was sent is at fault.
                raise InvalidValue(
                    "query", expected="features that the query tower takes", got=str(error)
                ) from error
            embedding = outputs[self._output][0]
            if not np.isfinite(embedding).all():
                raise ModelOutputInvalid(
                    f"query_tower.{self._output}: expected finite numbers, got {embedding}"
                )
            reads_history = any(name.startswith("history.") for name in values)
            aside = "" if reads_history or not query.history else ", which reads no history"
            return self._encoded(embedding, "two_tower", f"query tower{aside}", personal=True)
        if len(query.history_rows):
            mean = self._mean(query.history_rows)
            return self._encoded(
                mean,
                "history",
                f"mean of {len(query.history_rows)} items of the history",
                personal=_described(query),
            )
        return EncodedQuery(
            embedding=None,
            source="popularity",
            personal=_described(query),
            plan="nothing is known of the user that makes an embedding",
        )

    def score(self, query: EncodedQuery, rows: Rows) -> Floats | None:
        """Return how similar items are to the query; see `funnel.stages.QueryEncoder`."""
        if query.embedding is None:
            return None
        return similarity(self._embeddings[rows], query.embedding, self._metric)

    def directions(self, rows: Rows) -> Floats:
        """Return item embeddings at unit length; see `funnel.stages.QueryEncoder`."""
        return unit(self._embeddings[rows])

    def inputs(self, query: ResolvedQuery, encoded: EncodedQuery) -> Mapping[str, NDArray[Any]]:
        """Return what the tower was fed; see `funnel.stages.QueryEncoder`."""
        if self._tower is None or encoded.source != "two_tower":
            return {}
        values = request_values(query, self._tower.inputs.request_sources, self._item_ids)
        return self._tower.inputs.request_feeds(values)

    def _says_something(self, query: ResolvedQuery, user: User) -> bool:
        """Whether anything that the tower reads is known of the user: context alone does not
        describe him.
        """
        assert self._tower is not None
        if query.user_id is not None:
            return True
        sources = self._tower.inputs.request_sources
        sent = {name for name in query.features if name.startswith("user.")}
        return bool(sources & sent) or (
            len(query.history_rows) > 0 and any(name.startswith("history.") for name in sources)
        )

    def _encoded(
        self, embedding: Floats, source: str, plan: str, *, personal: bool = False
    ) -> EncodedQuery:
        if self._cosine:
            embedding = unit(embedding[np.newaxis])[0]
        return EncodedQuery(
            embedding=embedding.astype(np.float32, copy=False),
            source=source,
            personal=personal,
            plan=plan,
        )

    def _mean(self, rows: Rows) -> Floats:
        mean: Floats = self._embeddings[rows].mean(axis=0)
        return mean

    def _checked(self, values: Floats) -> Floats:
        dimension = self._embeddings.shape[1]
        if len(values) != dimension:
            raise DimensionMismatch(
                "query.embedding.values",
                expected=f"{dimension} numbers",
                got=f"{len(values)} numbers",
            )
        if self._cosine and not np.any(values):
            raise InvalidValue(
                "query.embedding.values",
                expected="a vector that is not zero (metric cosine)",
                got="zeros",
            )
        return values


def unit(vectors: Floats) -> Floats:
    """Return vectors at unit length, float32 [n, dimension]; a zero vector stays one."""
    # First by the largest component: the square of a very small one is 0 in float32.
    scaled = vectors / np.maximum(np.abs(vectors).max(axis=1, keepdims=True, initial=0), 1e-45)
    units: Floats = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    return units


def _described(query: ResolvedQuery) -> bool:
    """Whether a ranker knows whom it ranks for: by id, or by features that were sent."""
    return query.user_id is not None or any(name.startswith("user.") for name in query.features)


def request_values(
    query: ResolvedQuery, sources: Collection[str], item_ids: Sequence[str]
) -> dict[str, Raw]:
    """Return what a query supplies to a model, as raw values by source.

    Args:
        query: The query.
        sources: What the model reads; a history that it does not read is not spelled out.
        item_ids: Id of each row.
    """
    user_id = query.subject.id if isinstance(query.subject, User) else ""
    values: dict[str, Raw] = {**query.features, "user.id": user_id}
    count = len(query.history_rows)
    if "history.item_id" in sources:
        values["history.item_id"] = [item_ids[row] for row in query.history_rows]
    if "history.rating" in sources:
        ratings = [event.rating or 0.0 for event in query.history]
        values["history.rating"] = ratings or [0.0] * count
    if "history.time" in sources:
        values["history.time"] = [int(event.time or 0) for event in query.history] or [0] * count
    return values
