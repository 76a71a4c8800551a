"""How the items of a bundle stand in Milvus: one field for each attribute, one for the point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.errors import BundleUnsupported
from shortlist_server.index.filters import AttributeColumn
from shortlist_server.index.milvus_expression import ROW, field_names
from shortlist_server.index.points import last_components
from shortlist_server.index.vector_index import Metric

VECTOR = "vector"
FIELDS_MAX = 60
"""Attributes that a collection takes: Milvus allows 64 fields, some of which it uses itself."""
CAPACITY_MAX = 4_096
"""Most elements that a list may have in Milvus."""
BATCH_BYTES = 4 << 20
BATCH_ROWS_MAX = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MilvusField:
    """The field of one attribute."""

    name: str
    attribute: str
    kind: str
    """Type of the value, or of an element: `int64`, `double` or `bool`; of texts, that of their
    numbers.
    """
    nullable: bool
    capacity: int
    """Most elements that a list has; 0 where the attribute is no list."""


class MilvusRows:
    """The items of a bundle as entities of Milvus."""

    def __init__(
        self,
        vectors: NDArray[np.float32],
        metric: Metric,
        columns: Mapping[str, AttributeColumn],
    ) -> None:
        """Take the items.

        Args:
            vectors: [items, dimension] float32.
            metric: The bundle's metric.
            columns: The attributes by name, in the bundle's order.

        Raises:
            BundleUnsupported: there are more attributes, or longer lists, than Milvus takes.
        """
        self._vectors = vectors
        # Of all items, before the first is written: it depends on the longest vector.
        self._last = last_components(vectors) if metric == "inner_product" else None
        self._columns = list(columns.values())
        self.fields = _fields(columns)

    @property
    def count(self) -> int:
        """Number of items."""
        return len(self._vectors)

    @property
    def dimension(self) -> int:
        """Number of components of a point."""
        return int(self._vectors.shape[1]) + (self._last is not None)

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the items in order, as many at a time as fit into some MiB."""
        size = max(1, min(BATCH_ROWS_MAX, BATCH_BYTES // (4 * self.dimension + 256)))
        for start in range(0, self.count, size):
            yield self.entities(range(start, min(start + size, self.count)))

    def entities(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Return some items."""
        points: NDArray[np.float32] = self._vectors[list(rows)]
        if self._last is not None:
            points = np.hstack([points, self._last[list(rows)][:, np.newaxis]])
        return [
            {ROW: row, VECTOR: point} | self._values(row)
            for row, point in zip(rows, points, strict=True)
        ]

    def _values(self, row: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for field, column in zip(self.fields, self._columns, strict=True):
            found = column.codes_of(row)
            # Adding 0 makes 0.0 of -0.0, which Milvus may not find equal.
            codes = (found + 0.0 if field.kind == "double" else found).tolist()
            if column.valid is not None and not column.valid[row]:
                values[field.name] = None
            else:
                values[field.name] = codes if column.is_list else codes[0]
        return values


def _fields(columns: Mapping[str, AttributeColumn]) -> tuple[MilvusField, ...]:
    if len(columns) > FIELDS_MAX:
        raise BundleUnsupported(
            f"items: expected at most {FIELDS_MAX} attributes, which Milvus takes, "
            f"got {len(columns)}"
        )
    names = field_names(columns)
    fields = []
    for attribute, column in columns.items():
        longest = max(map(len, map(column.codes_of, range(column.size))), default=0)
        if longest > CAPACITY_MAX:
            raise BundleUnsupported(
                f"items: {attribute}: expected lists of at most {CAPACITY_MAX} elements, which "
                f"Milvus takes, got one of {longest}"
            )
        fields.append(
            MilvusField(
                name=names[attribute],
                attribute=attribute,
                kind="int64" if column.element_kind == "string" else column.element_kind,
                nullable=column.valid is not None,
                capacity=max(1, longest) if column.is_list else 0,
            )
        )
    return tuple(fields)
