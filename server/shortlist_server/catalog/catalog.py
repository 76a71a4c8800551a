"""The catalogue of a bundle: names to rows, rows to values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from shortlist_server.bundle.columns import CellValue
from shortlist_server.bundle.reader import Bundle
from shortlist_server.bundle.transforms import Lookup
from shortlist_server.catalog.columns import attribute_column
from shortlist_server.catalog.exported_rows import ExportedRows
from shortlist_server.catalog.item_rows import ItemRows
from shortlist_server.funnel.allowed import Selection
from shortlist_server.funnel.arrays import NO_ROWS, Rows
from shortlist_server.funnel.filter import (
    AllOf,
    AnyOf,
    Contains,
    Exists,
    Filter,
    IsIn,
    NoneOf,
    Scalar,
)
from shortlist_server.funnel.stages import Catalog
from shortlist_server.funnel.types import FeatureValue
from shortlist_server.index.filters import AttributeFilters, FilterOptions


class ItemTable(Catalog, Protocol):
    """A catalogue, with what an answer shows of its items."""

    @property
    def user_count(self) -> int:
        """Number of users in the bundle's table; 0 where it has none."""

    @property
    def attribute_types(self) -> Mapping[str, str]:
        """Type of each item attribute by name, in the bundle's order."""

    def attribute(self, name: str, row: int) -> CellValue | None:
        """Return an attribute of the item at a row, or None where it has no value."""

    def revision_of(self, row: int) -> int:
        """Return the revision of the change that an item is from; 0 for one of the bundle."""

    def select_value(self, name: str, value: FeatureValue, field: str) -> Selection:
        """Return the items whose attribute has, or holds, one of the values.

        Raises:
            UnknownAttribute: there is no such attribute.
            AttributeTypeMismatch: the value is of another type.
        """


class BundleCatalog:
    """The items, and the users that are known, of one bundle; implements
    `funnel.stages.Catalog`.
    """

    def __init__(self, bundle: Bundle, filters: FilterOptions) -> None:
        """Index the ids and the attributes of a bundle."""
        self._bundle = bundle
        self._filters = AttributeFilters(
            {name: attribute_column(column) for name, column in bundle.item_columns.items()},
            len(bundle.item_ids),
            filters,
        )
        self.attribute_columns = self._filters.columns
        """The attributes by name, in the bundle's order, as they are compared."""
        self._item_rows = ItemRows(bundle.item_ids)
        self.exported = ExportedRows(bundle)
        """Where the items are that the bundle was exported with."""
        self.attribute_names: Sequence[str] = tuple(bundle.item_columns)
        self.attribute_types: Mapping[str, str] = {
            column.name: column.type for column in bundle.manifest.items.columns
        }
        self.feature_types: Mapping[str, str] = {
            feature.name: feature.type
            for feature in bundle.manifest.features
            if not feature.name.startswith("item.")
        }
        users = bundle.users
        self._user_rows: Mapping[str, int] = (
            {} if users is None else {user_id: row for row, user_id in enumerate(users.ids)}
        )
        # Beside those of the table, users are known whom the query tower knows by id.
        self._tower_users = frozenset(_vocabulary_of(bundle, "user.id"))

    @property
    def size(self) -> int:
        """Number of items."""
        return len(self._bundle.item_ids)

    @property
    def row_count(self) -> int:
        """Number of rows: as many as items, for a bundle never changes."""
        return self.size

    @property
    def alive(self) -> Selection | None:
        """All rows hold an item."""
        return None

    @property
    def user_count(self) -> int:
        """Number of users in the bundle's table; 0 where it has none."""
        return len(self._user_rows)

    @property
    def user_ids(self) -> Iterator[str]:
        """Ids of the users that are known, once each, in no order."""
        yield from self._user_rows
        yield from (user_id for user_id in self._tower_users if user_id not in self._user_rows)

    def row(self, item_id: str) -> int | None:
        """Return the row of an item, or None if it is unknown."""
        return self._item_rows.row(item_id)

    def rows(self, item_ids: Sequence[str]) -> Rows:
        """Return the rows of the items that are known, in order, int64."""
        return self._item_rows.rows(item_ids)

    def select(self, wanted: Filter | None, unwanted: Filter | None = None) -> Selection | None:
        """Return the items that match one filter and not the other; see `AttributeFilters`."""
        return self._filters.select(wanted, unwanted)

    def select_value(self, name: str, value: FeatureValue, field: str) -> Selection:
        """Return the items whose attribute has, or holds, one of the values.

        Raises:
            UnknownAttribute: there is no such attribute.
            AttributeTypeMismatch: the value is of another type.
        """
        return self._filters.chosen(self.value_filter(name, value, field))

    def value_filter(self, name: str, value: FeatureValue, field: str) -> Filter:
        """Return the filter of `select_value`; raises as it does."""
        values: tuple[Scalar, ...] = (
            (value,) if isinstance(value, (str, int, float)) else tuple(value)
        )
        column = self._filters.column(name, field)
        if not values:
            exists = Exists(attribute=name, field=field)
            return AllOf((exists, NoneOf((exists,))))
        if column.is_list:
            return AnyOf(tuple(Contains(attribute=name, value=one, field=field) for one in values))
        return IsIn(attribute=name, values=values, field=field)

    def check_attribute(self, name: str, field: str) -> None:
        """Check that there is an attribute of this name.

        Raises:
            UnknownAttribute: there is none.
        """
        self._filters.column(name, field)

    def attribute_codes(self, name: str, row: int) -> Sequence[Any]:
        """Return the values of an item's attribute, as what can be compared."""
        codes: list[Any] = self._filters.columns[name].codes_of(row).tolist()
        return codes

    def revision_of(self, row: int) -> int:
        """Return the revision of the change that an item is from; 0 for one as exported."""
        return self.exported.revision_of(row)

    def attribute_code(self, name: str, value: Scalar) -> Any:
        """Return a value of an attribute as `attribute_codes` would."""
        return self._filters.columns[name].code_of(value)

    def item_id(self, row: int) -> str:
        """Return the id of the item at a row."""
        return self._bundle.item_ids[row]

    def attribute(self, name: str, row: int) -> CellValue | None:
        """Return an attribute of the item at a row, or None where it has no value."""
        return self._bundle.item_columns[name][row]

    def user_features(self, user_id: str) -> Mapping[str, FeatureValue] | None:
        """Return what is known of a user, by full name (`user.age`), or None if he is unknown."""
        row = self._user_rows.get(user_id)
        if row is None:
            return {} if user_id in self._tower_users else None
        assert self._bundle.users is not None
        cells = ((name, column[row]) for name, column in self._bundle.users.columns.items())
        return {f"user.{name}": cell for name, cell in cells if cell is not None}

    def seen(self, user_id: str) -> Rows:
        """Return the items that a user is known to have seen, oldest first, without those that are
        gone.
        """
        return self.exported.present(self.exported_seen(user_id))

    def exported_seen(self, user_id: str) -> Rows:
        """Return the rows in the export of what a user is known to have seen, oldest first."""
        row = self._user_rows.get(user_id)
        if row is None or self._bundle.users is None:
            return NO_ROWS
        return self._bundle.users.seen(row)


def _vocabulary_of(bundle: Bundle, source: str) -> list[str]:
    tower = bundle.manifest.query_tower
    for declared in tower.model.inputs if tower else []:
        for transform in declared.transforms:
            if declared.source == source and isinstance(transform, Lookup):
                return [str(token) for token in bundle.vocabularies[transform.vocabulary]]
    return []
