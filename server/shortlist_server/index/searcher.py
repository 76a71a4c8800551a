"""Nearest-neighbour search with filters: picks the cheapest way that gives a right answer.

Three ways: an exact scan; a graph search that fetches more than wanted and strikes out what is not
allowed; a graph search that asks the filter at each step. The last two depend on how many of the
items *near the query* are allowed, which a filter's share of the catalogue does not tell: a small
search finds out. A scan that is short enough is taken in any case, since it misses nothing
(decision 014). Whatever way was taken, a list shorter than the allowed items would fill, or one
that `Landmarks` doubts, is replaced by an exact scan. Decision 006 has the measurements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.allowed import Allowed
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.hnsw import HnswIndex
from shortlist_server.index.landmarks import Landmarks
from shortlist_server.index.plan import (
    KERNEL_NS_MAX,
    OVER_FETCH,
    PROBE_COUNT,
    SearchCosts,
    SearchPlan,
)
from shortlist_server.index.vector_index import Checkpoint, Neighbors

NOTHING = Neighbors(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True, kw_only=True)
class SearcherOptions:
    """How the search is chosen where a request leaves it open."""

    exact_items_max: int
    """Catalogues up to this size are scanned."""
    exact_ms_max: float
    """A scan that is expected to take no more milliseconds is preferred to the graph."""
    fetched_max: int
    """Most items asked of the graph at once, those that will be struck out among them."""
    ef: int
    """Search width of the graph; raised to the number of items fetched."""


class Searcher:
    """Searches one set of vectors, exactly or by graph."""

    def __init__(
        self,
        *,
        exact: ExactIndex,
        graph: HnswIndex,
        costs: SearchCosts,
        options: SearcherOptions,
        landmarks: Landmarks | None = None,
    ) -> None:
        """Take both ways to search the same vectors, what they cost, and what checks the answers of
        the graph; None checks nothing.
        """
        self._exact = exact
        self._graph = graph
        self._costs = costs
        self._options = options
        self._landmarks = landmarks

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
        """Return the k allowed items nearest to a query, or all where they are fewer.

        Args:
            query: [dimension] float32, of unit length if the metric is cosine.
            k: 1..4,096.
            allowed: Which items may come back.
            checkpoint: Called before each piece of work; what it raises ends the search.
            ef: Search width of the graph; None leaves it, and the choice of the way, open.
            exact: Whether every allowed item must be compared.
            plan: The way to take, from an earlier search; None chooses.

        Returns:
            The neighbours, and the way that was taken.
        """
        k = min(k, allowed.count)
        if k <= 0:
            return NOTHING, SearchPlan(kind="none", size=allowed.size)
        small = ef is None and allowed.size <= self._options.exact_items_max
        width = ef or self._options.ef
        if plan is None or plan.kind == "none":
            if exact or small:
                plan = self._exact_plan(allowed)
            else:
                plan = self._choose(query, k, allowed, width, ef is not None, checkpoint)
        checkpoint()
        found = self._by_graph(query, k, allowed, plan)
        if found is None or len(found.rows) < k or self._doubted(query, found, allowed):
            # A graph may not lead to as many items as there are, or to others than the nearest, and
            # a filter may strike out more than expected; a list is not short or wrong for that.
            if plan.kind not in ("exact", "exact_rows"):
                plan = self._exact_plan(allowed)
            found = self._exact.search(
                query, k, allowed=allowed, checkpoint=checkpoint, by_rows=plan.kind == "exact_rows"
            )
        return found, plan

    def _doubted(self, query: NDArray[np.float32], found: Neighbors, allowed: Allowed) -> bool:
        return self._landmarks is not None and self._landmarks.doubt(query, found, allowed)

    def _exact_plan(self, allowed: Allowed) -> SearchPlan:
        # An exclusion by id alone leaves nearly everything: it is not worth making the list of
        # the other rows.
        by_rows = (
            allowed.held is not None or allowed.count < allowed.size // 2
        ) and self._costs.exact(allowed)[1]
        return SearchPlan(
            kind="exact_rows" if by_rows else "exact",
            scanned=allowed.count if by_rows else allowed.size,
            size=allowed.size,
        )

    def _choose(
        self,
        query: NDArray[np.float32],
        k: int,
        allowed: Allowed,
        ef: int,
        asked: bool,
        checkpoint: Checkpoint,
    ) -> SearchPlan:
        """Choose the scan where it takes no longer than `exact_ms_max`, else the cheapest way; a
        width that was asked for rules out the scan, unless no search of the graph would be short
        enough.
        """
        scan_ns = math.inf if asked else self._costs.exact(allowed)[0]
        if scan_ns <= 1e6 * self._options.exact_ms_max:
            return self._exact_plan(allowed)
        fetched = k + len(allowed.excluded)
        if allowed.held is None and fetched <= self._options.fetched_max:
            width = max(ef, min(fetched, allowed.size))
            if self._costs.graph(width) <= min(scan_ns, KERNEL_NS_MAX):
                return SearchPlan(kind="hnsw", ef=width)
        share = allowed.count / allowed.size
        probe_ns = self._costs.graph(PROBE_COUNT)
        cost, _ = self._graph_plan(k, ef, share)
        if cost + probe_ns >= min(scan_ns, KERNEL_NS_MAX):
            return self._exact_plan(allowed)
        checkpoint()
        near = self._graph.nearest(query, min(PROBE_COUNT, allowed.size), ef=PROBE_COUNT).rows
        near_share = (float(np.count_nonzero(allowed.among(near))) + 0.5) / (len(near) + 1)
        cost, plan = self._graph_plan(k, ef, min(share, near_share))
        return self._exact_plan(allowed) if plan is None or cost >= scan_ns else plan

    def _graph_plan(self, k: int, ef: int, share: float) -> tuple[float, SearchPlan | None]:
        """Return the cheaper way through the graph where a share of what it finds is allowed, and
        its cost; infinite where each would be one kernel call that takes too long.
        """
        size = self._graph.size
        best: tuple[float, SearchPlan | None] = (math.inf, None)
        fetched = math.ceil(OVER_FETCH * k / share) + 16
        if fetched <= min(self._options.fetched_max, size):
            width = max(ef, fetched)
            plan = SearchPlan(kind="over_fetch", ef=width, fetched=fetched)
            best = self._costs.graph(width), plan
        width = min(max(ef, k), size)
        cost = self._costs.filtered(width, share)
        if cost < best[0]:
            best = cost, SearchPlan(kind="filtered", ef=width)
        return best if best[0] <= KERNEL_NS_MAX else (math.inf, None)

    def _by_graph(
        self, query: NDArray[np.float32], k: int, allowed: Allowed, plan: SearchPlan
    ) -> Neighbors | None:
        """Search the graph as planned; None where the plan is a scan."""
        size = self._graph.size
        match plan.kind:
            case "hnsw":
                fetched = min(k + len(allowed.excluded), size)
            case "over_fetch":
                fetched = min(plan.fetched, size)
            case "filtered":
                accepted = allowed.mask.tobytes()
                return self._graph.nearest(query, k, ef=plan.ef, accepted=accepted)
            case _:
                return None
        found = self._graph.nearest(query, fetched, ef=min(plan.ef, size))
        if allowed.held is not None or len(allowed.excluded):
            kept = allowed.among(found.rows)
            return Neighbors(found.rows[kept][:k], found.scores[kept][:k])
        return found
