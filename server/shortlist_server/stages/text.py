"""The source that searches the texts of the items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shortlist_server.errors import NotConfigured
from shortlist_server.funnel.arrays import ByRow, Floats, Rows
from shortlist_server.funnel.stages import SourceQuery
from shortlist_server.funnel.types import Found
from shortlist_server.index.layers import ItemSearch
from shortlist_server.index.plan import SearchPlan
from shortlist_server.llm.text_points import TextPoints
from shortlist_server.stages.query_tower import unit


@dataclass(frozen=True, slots=True, kw_only=True)
class TextItems:
    """The items as points by their texts."""

    searcher: ItemSearch
    embeddings: ByRow
    """[rows, dimension] float32, of length 1; zeros where an item has no text."""
    points: TextPoints | None
    """What embeds the query's text; None where it cannot be had."""
    missing: str = ""
    """What would have to be there for it, in words."""


class TextSource:
    """The items whose texts are nearest to the query's text, or to those of its example items."""

    filters = True

    def __init__(self, items: TextItems | None) -> None:
        """Take the items; None where the bundle has no texts."""
        self._items = items
        points = None if items is None else items.points
        self.waits = points is not None and points.waits

    def skip_reason(self, ask: SourceQuery) -> str:
        """Return why the source does not apply to a query; see `funnel.stages.Source`."""
        if self._items is None:
            return "the bundle has no texts"
        if ask.query.text:
            return ""
        if not len(ask.query.example_rows):
            return "there is no query text"
        examples = self._of_examples(self._items, ask.query.example_rows)
        return "" if len(examples) else "the example items have no text"

    def retrieve(self, ask: SourceQuery) -> Found:
        """Return the nearest items; see `funnel.stages.Source`.

        Raises:
            NotConfigured: the server has nothing that embeds the text.
        """
        items = self._items
        assert items is not None
        if not ask.query.text:
            examples = self._of_examples(items, ask.query.example_rows)
            point = unit(examples.mean(axis=0, dtype=np.float32)[np.newaxis])[0]
            what = f"mean of {len(examples)} texts"
        elif items.points is None:
            raise NotConfigured(setting="text embedder", expected=items.missing)
        else:
            point = items.points.of_query(ask.query.text, ask.time_left_s())
            what = "text"
        found, plan = items.searcher.search(
            point,
            ask.k,
            allowed=ask.allowed,
            checkpoint=ask.checkpoint,
            ef=ask.ef,
            exact=ask.exact,
            plan=SearchPlan.parse(ask.plan.rpartition(": ")[2]) if ask.plan else None,
        )
        return Found(rows=found.rows, scores=found.scores, plan=f"{what}: {plan}")

    def _of_examples(self, items: TextItems, rows: Rows) -> Floats:
        points: Floats = items.embeddings[rows]
        kept: Floats = points[np.any(points, axis=1)]
        return kept
