"""The second stage: candidates from the index, or from popularity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shortlist_server.bundle.reader import PopularityList
from shortlist_server.funnel.types import NO_ROWS, Candidates, EncodedQuery, Floats, Rows
from shortlist_server.index.vector_index import Metric, VectorIndex, similarity


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalOptions:
    """How the search is chosen where a request leaves it open."""

    exact_items_max: int
    """Catalogues up to this size are scanned: below it a scan is faster than the graph, and
    exact.
    """
    fetched_max: int
    """Most items asked of the graph at once, the excluded ones among them; beyond, the catalogue is
    scanned.
    """
    ef: int
    """Search width of the graph; raised to the number of items fetched."""


class NearestSource:
    """The items nearest to the query embedding, by exact scan or graph search."""

    def __init__(
        self,
        *,
        exact: VectorIndex,
        graph: VectorIndex,
        vectors: Floats,
        metric: Metric,
        options: RetrievalOptions,
    ) -> None:
        """Take both ways to search the same vectors."""
        self._exact = exact
        self._graph = graph
        self._vectors = vectors
        self._metric: Metric = metric
        self._options = options

    def retrieve(
        self, query: EncodedQuery, k: int, *, ef: int | None, exact: bool, excluded: Rows
    ) -> Candidates:
        """Return the k nearest items; see `funnel.stages.Source`."""
        assert query.embedding is not None
        fetched = k + len(excluded)
        small = ef is None and self._exact.size <= self._options.exact_items_max
        found, plan = None, ""
        if not (exact or small or fetched > self._options.fetched_max):
            width = max(ef or self._options.ef, min(fetched, self._graph.size))
            found = self._graph.search(query.embedding, k, ef=width, excluded=excluded)
            plan = f"hnsw ef={width}"
        if found is None or len(found.rows) < min(k, self._exact.size - len(excluded)):
            # A graph may not lead to as many items as there are; a list is not short for that.
            found = self._exact.search(query.embedding, k, ef=0, excluded=excluded)
            plan = f"exact {self._exact.size} of {self._exact.size}"
        return Candidates(
            rows=found.rows,
            retrieval_scores=found.scores,
            scores=found.scores,
            source=query.source,
            plan=plan,
        )

    def score(self, query: EncodedQuery, rows: Rows) -> Floats | None:
        """Return how near items are to the query; see `funnel.stages.Source`."""
        if query.embedding is None:
            return None
        return similarity(self._vectors[rows], query.embedding, self._metric)


class PopularSource:
    """The most popular items: the answer for users of whom nothing is known."""

    def __init__(self, popularity: PopularityList | None) -> None:
        """Take the bundle's popularity list; without one this source finds nothing."""
        self._rows = NO_ROWS if popularity is None else popularity.rows
        self._scores = np.empty(0, np.float32) if popularity is None else popularity.scores

    def retrieve(
        self, query: EncodedQuery, k: int, *, ef: int | None, exact: bool, excluded: Rows
    ) -> Candidates:
        """Return the k most popular items; see `funnel.stages.Source`."""
        # The first k + |excluded| hold k that are not excluded, if the list holds as many.
        first = self._rows[: k + len(excluded)]
        kept = np.flatnonzero(~np.isin(first, excluded))[:k]
        return Candidates(
            rows=first[kept],
            retrieval_scores=None,
            scores=self._scores[kept],
            source="popularity",
            plan="popularity",
        )

    def score(self, query: EncodedQuery, rows: Rows) -> Floats | None:
        """Return None: popularity has no query embedding to compare with."""
        return None
