"""Columns as filters compare them."""

from __future__ import annotations

from shortlist_server.bundle.columns import ColumnArray, StringArray
from shortlist_server.index.filters import AttributeColumn


def attribute_column(column: ColumnArray) -> AttributeColumn:
    """Return a column of a bundle, ready to be compared."""
    values = column.values
    return AttributeColumn(
        column.type,
        values.tolist() if isinstance(values, StringArray) else values,
        column.list_offsets,
        column.valid,
    )
