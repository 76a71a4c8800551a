"""The rows beside a bundle: items that are new or have changed since it was built.

Rows are only ever added, so that whoever holds an earlier length may go on reading. What a search
and a filter need stands in segments that never change; few of them, for each new one is joined with
those before it that are no larger (the logarithmic method: Bentley and Saxe, "Decomposable
Searching Problems I", Journal of Algorithms 1980).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.columns import ColumnArray
from shortlist_server.catalog.columns import attribute_column
from shortlist_server.catalog.item_schema import Cells, FittedItem
from shortlist_server.funnel.arrays import Floats
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.filters import AttributeColumn, AttributeFilters, FilterOptions
from shortlist_server.index.subset import Subset, SubsetIndex
from shortlist_server.index.vector_index import Metric
from shortlist_server.runtime.int8_scan import faster_scan

OPEN_ROWS = 1_024
"""Rows of the last segment, which is made anew with each change, before it is closed."""
SCANNED_ROWS = 4_096
"""From so many rows on a segment is scanned in 8-bit integers; below, making that costs more than
it saves.
"""
SEGMENT_CACHE_BYTES = 1 << 20


class Growing:
    """An array of rows that are added, never changed."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        """Begin with none; `shape` and `dtype` are those of a row."""
        self._rows: NDArray[Any] = np.empty((16, *shape), dtype)
        self._count = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows, [n, ...]."""
        end = self._count + len(rows)
        if end > len(self._rows):
            # What was handed out keeps the array that it looks at.
            grown = np.empty((max(end, 2 * len(self._rows)), *self._rows.shape[1:]), rows.dtype)
            grown[: self._count] = self._rows[: self._count]
            self._rows = grown
        self._rows[self._count : end] = rows
        self._count = end

    def view(self, start: int = 0) -> NDArray[Any]:
        """Return the rows from one on, read-only."""
        rows = self._rows[start : self._count]
        rows.flags.writeable = False
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Some rows of the tail, ready to be searched and filtered."""

    start: int
    """Its first row, counted from that of the tail."""
    end: int
    index: ExactIndex
    filters: AttributeFilters
    texts: SubsetIndex | None = None
    """Over the texts of its items; None where none has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TailView:
    """The tail as it stood at one time. Lists are shared: only rows below `size` are its own."""

    size: int
    item_ids: Sequence[str]
    cells: Sequence[Cells]
    revisions: Sequence[int]
    vectors: Floats
    """[size, dimension]."""
    feeds: Mapping[str, NDArray[Any]]
    """The ranker's item-side inputs by name, [size, ...] each."""
    segments: tuple[Segment, ...]
    texts: Floats
    """[size, dimension of texts]: zeros where an item has no text."""


class Tail:
    """The rows beside one bundle. One thread adds; views may be read by any."""

    def __init__(
        self,
        column_types: Mapping[str, str],
        dimension: int,
        metric: Metric,
        text_dimension: int = 0,
    ) -> None:
        """Begin with none.

        Args:
            column_types: Type of each item column of the bundle, by name.
            dimension: Components of a vector.
            metric: The bundle's metric.
            text_dimension: Components of the point of a text; 0 where the bundle has no texts.
        """
        self._types = column_types
        self._metric: Metric = metric
        self._ids: list[str] = []
        self._cells: list[Cells] = []
        self._revisions: list[int] = []
        self._vectors = Growing((dimension,), np.float32)
        self._texts = Growing((text_dimension,), np.float32)
        self._feeds: dict[str, Growing] = {}
        self._closed: list[Segment] = []
        self._open: Segment | None = None

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self._ids)

    def append(
        self,
        items: Sequence[FittedItem],
        revisions: Sequence[int],
        vectors: Floats,
        feeds: Mapping[str, NDArray[Any]],
        texts: Floats,
    ) -> range:
        """Add items; returns their rows.

        Args:
            items: One or more.
            revisions: Revision of the change that each is from.
            vectors: [items, dimension] float32, of unit length if the metric is cosine.
            feeds: The ranker's item-side inputs, [items, ...] each.
            texts: [items, dimension of texts] float32: zeros where an item has no text.
        """
        first = self.size
        self._vectors.append(vectors)
        self._texts.append(texts)
        for name, values in feeds.items():
            if name not in self._feeds:
                self._feeds[name] = Growing(values.shape[1:], values.dtype)
            self._feeds[name].append(values)
        self._cells += [item.cells for item in items]
        self._revisions += revisions
        self._ids += [item.item_id for item in items]
        self._segment(first)
        return range(first, self.size)

    def view(self) -> TailView:
        """Return the tail as it stands."""
        return TailView(
            size=self.size,
            item_ids=self._ids,
            cells=self._cells,
            revisions=self._revisions,
            vectors=self._vectors.view(),
            feeds={name: rows.view() for name, rows in self._feeds.items()},
            texts=self._texts.view(),
            segments=(*self._closed, *([] if self._open is None else [self._open])),
        )

    def _segment(self, first: int) -> None:
        """Make the segment anew that rows from `first` on belong to."""
        start = first
        parts: list[Mapping[str, AttributeColumn]] = [self._columns(first)]
        if self._open is not None:
            start = self._open.start
            parts.insert(0, self._open.filters.columns)
            self._open = None
        if self.size - start < OPEN_ROWS:
            self._open = self._made(start, parts)
            return
        while self._closed and self._closed[-1].end - self._closed[-1].start <= self.size - start:
            before = self._closed.pop()
            start = before.start
            parts.insert(0, before.filters.columns)
        self._closed.append(self._made(start, parts))

    def _columns(self, first: int) -> dict[str, AttributeColumn]:
        """Return the attributes of the rows from one on, ready to be compared."""
        cells = self._cells[first:]
        return {
            name: attribute_column(ColumnArray.of(name, kind, [item[name] for item in cells]))
            for name, kind in self._types.items()
        }

    def _made(self, start: int, parts: Sequence[Mapping[str, AttributeColumn]]) -> Segment:
        vectors: Floats = self._vectors.view(start)
        count = len(vectors)
        scan = faster_scan(vectors, self._metric) if count >= SCANNED_ROWS else None
        columns = {
            name: AttributeColumn.joined([part[name] for part in parts]) for name in self._types
        }
        return Segment(
            start=start,
            end=start + count,
            index=ExactIndex(vectors, self._metric, scan),
            filters=AttributeFilters(
                columns, count, FilterOptions(cache_bytes_max=SEGMENT_CACHE_BYTES)
            ),
            texts=_text_index(self._texts.view(start)),
        )


def _text_index(texts: Floats) -> SubsetIndex | None:
    rows = np.flatnonzero(np.any(texts, axis=1))
    if not len(rows):
        return None
    return SubsetIndex(ExactIndex(texts[rows], "cosine"), Subset(rows, len(texts)))
