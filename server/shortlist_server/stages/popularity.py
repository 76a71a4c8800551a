"""Sources without a search: popular items, and items that the caller names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shortlist_server.bundle.reader import PopularityList
from shortlist_server.funnel.allowed import Allowed, Selection
from shortlist_server.funnel.arrays import NO_ROWS, Rows
from shortlist_server.funnel.options import Named, Popular
from shortlist_server.funnel.stages import SourceQuery
from shortlist_server.funnel.types import FeatureValue, Found

SelectValue = Callable[[str, FeatureValue, str], Selection]
"""Returns the items whose attribute has, or holds, a value; where it cannot, raises a
RequestError.
"""


class PopularSource:
    """The most popular items, overall or of an attribute value; those that are in no list last."""

    waits = False
    filters = True

    def __init__(self, popularity: PopularityList | None, select: SelectValue) -> None:
        """Take the bundle's popularity list; without one this source never applies."""
        self._rows = NO_ROWS if popularity is None else popularity.rows
        self._scores = np.empty(0, np.float32) if popularity is None else popularity.scores
        self._known = popularity is not None
        self._select = select

    def skip_reason(self, ask: SourceQuery) -> str:
        """Return why the source does not apply; see `funnel.stages.Source`."""
        if not self._known:
            return "the bundle has no popularity"
        settings = ask.settings
        assert isinstance(settings, Popular)
        if settings.attribute and self._value(ask, settings) is None:
            return f"nothing is known of {settings.feature}"
        return ""

    def retrieve(self, ask: SourceQuery) -> Found:
        """Return the most popular items; see `funnel.stages.Source`."""
        settings = ask.settings
        assert isinstance(settings, Popular)
        held: Selection | None = None
        plan = "popularity"
        if settings.attribute:
            value = self._value(ask, settings)
            assert value is not None
            held = self._select(settings.attribute, value, f"{settings.field}.value")
            plan = f"popularity among {settings.attribute} = {value}"
        kept, places = self._listed(ask, held)
        scores = self._scores[places]
        if len(kept) < ask.k:
            ask.checkpoint()
            rest = self._unlisted(ask.allowed, held)[: ask.k - len(kept)]
            lowest = min(0.0, float(self._scores[-1])) if len(self._scores) else 0.0
            kept = np.concatenate([kept, rest])
            scores = np.concatenate([scores, np.full(len(rest), lowest, np.float32)])
        return Found(rows=kept, scores=scores, plan=plan)

    def _value(self, ask: SourceQuery, settings: Popular) -> FeatureValue | None:
        if settings.value is not None:
            return settings.value
        return ask.query.features.get(settings.feature)

    def _listed(self, ask: SourceQuery, held: Selection | None) -> tuple[Rows, Rows]:
        """Return the first k rows of the list that may be in the answer, and their places."""
        rows, places, count, start = [NO_ROWS], [NO_ROWS], 0, 0
        size = ask.k + len(ask.allowed.excluded)
        while count < ask.k and start < len(self._rows):
            ask.checkpoint()
            part = self._rows[start : start + size]
            fits = ask.allowed.among(part)
            if held is not None:
                fits &= held.mask[part]
            hits = np.flatnonzero(fits)
            rows.append(part[hits])
            places.append(hits + start)
            count, start, size = count + len(hits), start + size, 2 * size
        return np.concatenate(rows)[: ask.k], np.concatenate(places)[: ask.k]

    def _unlisted(self, allowed: Allowed, held: Selection | None) -> Rows:
        mask = allowed.mask.copy()
        mask[self._rows] = False
        if held is not None:
            mask &= held.mask
        return np.flatnonzero(mask)


class CallerSource:
    """The items that the caller names, in his order."""

    waits = False
    filters = False

    def __init__(self, rows: Callable[[tuple[str, ...]], Rows]) -> None:
        """Take the catalogue's way from ids to rows."""
        self._rows = rows

    def skip_reason(self, ask: SourceQuery) -> str:
        """Return why the source does not apply: it always does."""
        return ""

    def retrieve(self, ask: SourceQuery) -> Found:
        """Return the named items; see `funnel.stages.Source`."""
        assert isinstance(ask.settings, Named)
        rows = self._rows(tuple(dict.fromkeys(ask.settings.item_ids)))
        places = np.arange(len(rows), dtype=np.float32)
        return Found(rows=rows, scores=-places, plan=f"{len(rows)} items named by the caller")
