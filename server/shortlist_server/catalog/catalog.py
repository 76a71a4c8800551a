"""The catalogue of a bundle: names to rows, rows to values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shortlist_server.bundle.columns import CellValue
from shortlist_server.bundle.reader import Bundle
from shortlist_server.bundle.transforms import Lookup
from shortlist_server.funnel.types import NO_ROWS, FeatureValue, Rows


class BundleCatalog:
    """The items, and the users that are known, of one bundle; implements
    `funnel.stages.Catalog`.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Index the ids of a bundle."""
        self._bundle = bundle
        self._rows = {item_id: row for row, item_id in enumerate(bundle.item_ids)}
        self.attribute_names: Sequence[str] = tuple(bundle.item_columns)
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
    def user_count(self) -> int:
        """Number of users in the bundle's table; 0 where it has none."""
        return len(self._user_rows)

    def row(self, item_id: str) -> int | None:
        """Return the row of an item, or None if it is unknown."""
        return self._rows.get(item_id)

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
        """Return the items that a user is known to have seen, oldest first."""
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
