"""Search in a catalogue that has changed since its index was built.

Rows 0..n-1 are those of the index, which is never touched. New and changed items follow, in layers
that are scanned exactly; rows whose items are gone are not allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.allowed import Allowed
from shortlist_server.index.plan import SearchPlan
from shortlist_server.index.vector_index import Checkpoint, Neighbors, best_first


class ItemSearch(Protocol):
    """Finds the items near a point: `Searcher`, alone or with layers beside it."""

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


class LayerIndex(Protocol):
    """Compares all items of a layer: `ExactIndex`, or one over those of them that have a vector."""

    @property
    def size(self) -> int:
        """Number of rows."""

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        allowed: Allowed,
        checkpoint: Checkpoint,
    ) -> Neighbors:
        """Return the k allowed items nearest to a query; see `ExactIndex.search`."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Items beside the index."""

    start: int
    """Row of its first item."""
    index: LayerIndex


class LayeredSearcher:
    """Searches the index and what has changed since it was built, as if they were one."""

    def __init__(self, base: ItemSearch, base_size: int, layers: Sequence[Layer]) -> None:
        """Take the parts.

        Args:
            base: Searches the index.
            base_size: Number of its rows.
            layers: In order of their rows, which follow those of the index without a gap.
        """
        self._base = base
        self._base_size = base_size
        self._layers = layers

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

        The layers are always compared whole: what is missed can only be in the index.
        """
        found, taken = self._base.search(
            query,
            k,
            allowed=allowed.part(0, self._base_size),
            checkpoint=checkpoint,
            ef=ef,
            exact=exact,
            plan=plan,
        )
        rows, scores, compared = [found.rows], [found.scores], 0
        for layer in self._layers:
            part = allowed.part(layer.start, layer.start + layer.index.size)
            if not part.count:
                continue
            checkpoint()
            compared += layer.index.size
            near = layer.index.search(query, k, allowed=part, checkpoint=checkpoint)
            rows.append(near.rows + layer.start)
            scores.append(near.scores)
        if compared:
            found = best_first(np.concatenate(rows), np.concatenate(scores), k)
            taken = replace(taken, changed=compared)
        return found, taken
