"""Searches the items of a bundle in Milvus, and makes sure of what comes back.

The filter goes to Milvus. What is allowed beside it, as items that are excluded or gone, is known
here alone: rows that are not allowed are struck out, and asked for again without them. Scores are
computed here, from the bundle's own vectors, so that they are those of every other way to search.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.allowed import Allowed
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.filters import AttributeColumn
from shortlist_server.index.milvus_expression import expression, without
from shortlist_server.index.plan import OVER_FETCH, SearchPlan
from shortlist_server.index.points import QueryPoints
from shortlist_server.index.searcher import NOTHING
from shortlist_server.index.vector_index import (
    Checkpoint,
    Metric,
    Neighbors,
    best_first,
    similarity,
)

FETCHED_MAX = 16_384
"""Most items that Milvus gives at once."""
EF_MAX = 16_384
SLACK_MIN = 16
ROUNDS_MAX = 6


class NearestRows(Protocol):
    """Finds rows near a point: `milvus.Milvus`."""

    def nearest(
        self, alias: str, point: NDArray[np.float32], count: int, *, ef: int, expression: str = ""
    ) -> NDArray[np.int64]:
        """Return the rows of the items nearest to a point; see `milvus.Milvus.nearest`."""


class MilvusSearcher:
    """Searches one bundle's items; implements `layers.ItemSearch`."""

    def __init__(
        self,
        index: NearestRows,
        *,
        alias: str,
        exact: ExactIndex,
        metric: Metric,
        columns: Mapping[str, AttributeColumn],
        ef: int,
        scan_items_max: int,
    ) -> None:
        """Take what is asked, and what its answers are checked by.

        Args:
            index: Milvus.
            alias: Under which the bundle's items are there.
            exact: Compares the bundle's own vectors.
            metric: The bundle's metric.
            columns: The attributes by name, in the bundle's order.
            ef: Search width where a request does not set one.
            scan_items_max: Where no more items are allowed, they are compared here.
        """
        self._index = index
        self._alias = alias
        self._exact = exact
        self._metric: Metric = metric
        self._points = QueryPoints(exact.vectors, metric)
        self._columns = columns
        self._ef = ef
        self._scan_items_max = scan_items_max

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        allowed: Allowed,
        checkpoint: Checkpoint,
        ef: int | None = None,
        exact: bool = False,
        plan: SearchPlan | None = None,
    ) -> tuple[Neighbors, SearchPlan]:
        """Return the k allowed items nearest to a query; see `Searcher.search`.

        Raises:
            IndexUnavailable: Milvus does not answer in time, or not at all.
        """
        k = min(k, allowed.count)
        if k <= 0:
            return NOTHING, SearchPlan(kind="none", size=allowed.size)
        by_plan = plan is not None and plan.kind in ("exact", "exact_rows")
        if exact or by_plan or allowed.count <= self._scan_items_max:
            return self._scan(query, k, allowed, checkpoint)
        point = self._points.of(query)
        rows, fetched, width = self._ask(point, k, allowed, ef or self._ef, checkpoint)
        if len(rows) < k:
            # A list is not short because a graph does not lead to all items: as `Searcher` does.
            return self._scan(query, k, allowed, checkpoint)
        scores = similarity(self._exact.vectors[rows], query, self._metric)
        taken = SearchPlan(kind="milvus", ef=width, fetched=fetched, size=allowed.size)
        return best_first(rows, scores, k), taken

    def _ask(
        self,
        point: NDArray[np.float32],
        k: int,
        allowed: Allowed,
        ef: int,
        checkpoint: Checkpoint,
    ) -> tuple[NDArray[np.int64], int, int]:
        """Return allowed rows, k or more where Milvus finds them, how many it gave in all, and the
        search width that was last used.
        """
        wanted = None if allowed.held is None else allowed.held.filter
        conditions = [] if wanted is None else [expression(wanted, self._columns)]
        struck: list[int] = []
        rows = np.empty(0, np.int64)
        fetched, count = 0, _first_count(k, allowed)
        for _ in range(ROUNDS_MAX):
            checkpoint()
            parts = [*conditions, without(struck)] if struck else conditions
            found = self._index.nearest(
                self._alias, point, count, ef=ef, expression=" and ".join(parts)
            )
            fetched += len(found)
            # Rows that the bundle does not have are no items, whatever brought them there.
            known = (found >= 0) & (found < allowed.size)
            kept = known.copy()
            kept[known] = allowed.among(found[known])
            rows = np.unique(found[kept])
            struck += found[~kept].tolist()
            if len(rows) >= k or len(struck) > FETCHED_MAX:
                break
            if len(found) == count:
                count = min(2 * count, FETCHED_MAX)
            elif (wide := _wide(count, allowed)) > ef:
                # Fewer than there are: the graph was not searched widely enough for the filter.
                ef = wide
            else:
                break
        return rows, fetched, ef

    def _scan(
        self, query: NDArray[np.float32], k: int, allowed: Allowed, checkpoint: Checkpoint
    ) -> tuple[Neighbors, SearchPlan]:
        by_rows = allowed.count < allowed.size // 2
        found = self._exact.search(
            query, k, allowed=allowed, checkpoint=checkpoint, by_rows=by_rows
        )
        return found, SearchPlan(
            kind="exact_rows" if by_rows else "exact",
            scanned=allowed.count if by_rows else allowed.size,
            size=allowed.size,
        )


def _wide(count: int, allowed: Allowed) -> int:
    """Return the search width at which as many items as wanted are likely to be allowed."""
    return min(math.ceil(OVER_FETCH * count * allowed.size / allowed.count), allowed.size, EF_MAX)


def _first_count(k: int, allowed: Allowed) -> int:
    """Return how many items to ask for at first: more than wanted where some are likely to be
    struck out, but not many times as many on the chance that they all are near.
    """
    likely = len(allowed.excluded)
    if allowed.held is not None and allowed.held.filter is None:
        # Those that are gone are anywhere.
        likely += -(-k * (allowed.size - allowed.held.count) // allowed.held.count)
    slack = min(likely, max(k, SLACK_MIN))
    return min(k + slack, FETCHED_MAX)
