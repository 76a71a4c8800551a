"""A data set as the recipes read it: three typed tables, whatever format they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Interactions, items and users of one data set, as Arrow tables.

    Rows keep the order of the files they came from. Identifiers are strings, as they are everywhere
    in Shortlist; what the files call them (integers, UUIDs) makes no difference.
    """

    name: str
    """Short name that ends up in bundle names, for example ``movielens-100k``."""

    simulated: bool
    """Whether the interactions were generated, not observed. Shown wherever the set is named."""

    interactions: pa.Table
    """``user_id`` string, ``item_id`` string (neither null), ``rating`` float32 (null where there
    is none), ``time`` int64 seconds since 1970-01-01 UTC (null where there is none)."""

    items: pa.Table
    """``id`` string (unique, not null) and one column per attribute: string, int64, double, bool or
    a list of one of these. Every ``item_id`` of the interactions is here."""

    users: pa.Table | None
    """``id`` string (unique, not null) and one column per feature, like ``items``; None where the
    data set says nothing about its users but what they did."""

    def item_texts(self) -> dict[str, list[Any]]:
        """Return the item columns of texts and of lists of texts, by name."""
        return {
            field.name: self.items[field.name].to_pylist()
            for field in self.items.schema
            if pa.types.is_string(
                field.type.value_type if pa.types.is_list(field.type) else field.type
            )
            and field.name != "id"
        }
