"""Sources that search the item embeddings: nearest to the query, and to the recent history."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from shortlist_server.funnel.allowed import Allowed
from shortlist_server.funnel.arrays import ByRow, Floats
from shortlist_server.funnel.options import RecentHistory
from shortlist_server.funnel.stages import SourceQuery
from shortlist_server.funnel.types import Found
from shortlist_server.index.layers import ItemSearch
from shortlist_server.index.plan import SearchPlan
from shortlist_server.index.vector_index import Neighbors
from shortlist_server.stages.query_tower import unit

Watch = Callable[[ItemSearch, Floats, int, Allowed, Neighbors], None]
"""Takes what was searched, a query, the number of items asked for, what was allowed, and what was
found.
"""


class _EmbeddingSource:
    """What both sources have in common: a search near a point."""

    filters = True

    def __init__(self, searcher: ItemSearch, *, waits: bool) -> None:
        """Take the searcher, and whether it asks something outside this process."""
        self._searcher = searcher
        self.waits = waits

    def _found(self, point: Floats, ask: SourceQuery) -> tuple[Neighbors, SearchPlan]:
        return self._searcher.search(
            point,
            ask.k,
            allowed=ask.allowed,
            checkpoint=ask.checkpoint,
            ef=ask.ef,
            exact=ask.exact,
            plan=SearchPlan.parse(ask.plan.rpartition(": ")[2]) if ask.plan else None,
        )


class NearestSource(_EmbeddingSource):
    """The items nearest to the query embedding."""

    def __init__(
        self,
        searcher: ItemSearch,
        *,
        waits: bool = False,
        watch: Watch | None = None,
        watched_share: float = 0.0,
    ) -> None:
        """Take the searcher.

        Args:
            searcher: Searches the item embeddings.
            waits: Whether that asks something outside this process.
            watch: Told of a share of the searches that were not exact; must return at once.
            watched_share: Which share, 0..1.
        """
        super().__init__(searcher, waits=waits)
        self._watch = watch
        self._watched_share = watched_share
        self._random = random.Random(0)

    def skip_reason(self, ask: SourceQuery) -> str:
        """Return why the source does not apply; see `funnel.stages.Source`."""
        return "there is no query embedding" if ask.encoded.embedding is None else ""

    def retrieve(self, ask: SourceQuery) -> Found:
        """Return the nearest items; see `funnel.stages.Source`."""
        assert ask.encoded.embedding is not None
        found, plan = self._found(ask.encoded.embedding, ask)
        if (
            self._watch is not None
            and plan.approximate
            and self._random.random() < self._watched_share
        ):
            self._watch(self._searcher, ask.encoded.embedding, ask.k, ask.allowed, found)
        return Found(rows=found.rows, scores=found.scores, plan=str(plan))


class HistorySource(_EmbeddingSource):
    """The items nearest to the mean of the user's last events."""

    def __init__(
        self, searcher: ItemSearch, embeddings: ByRow, *, cosine: bool, waits: bool = False
    ) -> None:
        """Take the parts.

        Args:
            searcher: Searches the item embeddings.
            embeddings: [items, dimension] float32.
            cosine: Whether the bundle compares by cosine.
            waits: Whether a search asks something outside this process.
        """
        super().__init__(searcher, waits=waits)
        self._embeddings = embeddings
        self._cosine = cosine

    def skip_reason(self, ask: SourceQuery) -> str:
        """Return why the source does not apply; see `funnel.stages.Source`."""
        return "" if len(ask.query.history_rows) else "there is no history"

    def retrieve(self, ask: SourceQuery) -> Found:
        """Return items like the recent ones; see `funnel.stages.Source`."""
        assert isinstance(ask.settings, RecentHistory)
        recent = ask.query.history_rows[-ask.settings.event_count :]
        mean: Floats = self._embeddings[recent].mean(axis=0, dtype=np.float32)
        point = unit(mean[np.newaxis])[0] if self._cosine else mean
        found, plan = self._found(point, ask)
        return Found(
            rows=found.rows, scores=found.scores, plan=f"last {len(recent)} events: {plan}"
        )
