"""Search in the vectors that only some rows have, as if all were there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.allowed import Allowed, Selection
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.plan import SearchPlan
from shortlist_server.index.searcher import Searcher
from shortlist_server.index.vector_index import Checkpoint, Neighbors


class Subset:
    """Some rows among more of them."""

    def __init__(self, rows: NDArray[np.int64], size: int) -> None:
        """Take the rows, rising, and how many there are in all."""
        self._rows = rows
        self.size = size
        self._whole = len(rows) == size

    def allowed(self, allowed: Allowed) -> Allowed:
        """Return what is allowed, counted among these rows alone."""
        if self._whole:
            return allowed
        held = allowed.held
        part = None if held is None else Selection(held.text, lambda: held.mask[self._rows])
        places = np.searchsorted(self._rows, allowed.excluded)
        places = places[places < len(self._rows)]
        excluded = places[np.isin(self._rows[places], allowed.excluded)]
        return Allowed(len(self._rows), part, np.unique(excluded))

    def found(self, neighbors: Neighbors) -> Neighbors:
        """Return neighbours by their rows among all."""
        if self._whole:
            return neighbors
        return Neighbors(self._rows[neighbors.rows], neighbors.scores)


class SubsetSearch:
    """A searcher over the vectors of some rows; implements `layers.ItemSearch`."""

    def __init__(self, searcher: Searcher, subset: Subset) -> None:
        """Take what searches the vectors, and of which rows they are."""
        self._searcher = searcher
        self._subset = subset

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
        """Return the k allowed items nearest to a query; see `Searcher.search`."""
        found, taken = self._searcher.search(
            query,
            k,
            allowed=self._subset.allowed(allowed),
            checkpoint=checkpoint,
            ef=ef,
            exact=exact,
            plan=plan,
        )
        return self._subset.found(found), taken


@dataclass(frozen=True, slots=True)
class SubsetIndex:
    """An exact index over the vectors of some rows; implements `layers.LayerIndex`."""

    index: ExactIndex
    subset: Subset

    @property
    def size(self) -> int:
        """Number of rows, those without a vector among them."""
        return self.subset.size

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        allowed: Allowed,
        checkpoint: Checkpoint,
    ) -> Neighbors:
        """Return the k allowed items nearest to a query; see `ExactIndex.search`."""
        part = self.subset.allowed(allowed)
        found = self.index.search(query, k, allowed=part, checkpoint=checkpoint)
        return self.subset.found(found)
