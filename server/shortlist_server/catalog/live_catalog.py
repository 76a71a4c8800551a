"""A bundle's catalogue with the changes that were made since: one consistent view of both.

Rows below the bundle's size are its own; those of the tail follow. The row of an item that has
changed or is gone stays, and holds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from shortlist_server.bundle.columns import CellValue
from shortlist_server.bundle.compaction import GONE
from shortlist_server.bundle.reader import PopularityList
from shortlist_server.catalog.catalog import BundleCatalog
from shortlist_server.catalog.exported_rows import present_popularity, without_gone
from shortlist_server.catalog.tail import TailView
from shortlist_server.funnel.allowed import Selection
from shortlist_server.funnel.arrays import Mask, Rows
from shortlist_server.funnel.filter import Filter
from shortlist_server.funnel.types import FeatureValue
from shortlist_server.index.filters import SelectionCache


class LiveCatalog:
    """The items as they stand at one revision; implements `catalog.ItemTable`."""

    def __init__(
        self,
        base: BundleCatalog,
        tail: TailView,
        *,
        changed: Mapping[str, int],
        alive: Mask,
        now: Rows,
        filter_cache_bytes: int,
    ) -> None:
        """Take the parts; none of them changes any more.

        Args:
            base: The bundle's own catalogue.
            tail: The rows beside it.
            changed: Row of each item that has changed, by id; GONE for one that is not there.
            alive: Bool [rows], True where a row holds an item.
            now: int64 [items as exported]: the row where each is now; GONE if it is not there.
            filter_cache_bytes: Memory for the masks of filters, in bytes.
        """
        self._base = base
        self._tail = tail
        self._changed = changed
        self._base_size = base.size
        self.row_count = base.size + tail.size
        self._now = now
        self.size = int(np.count_nonzero(alive))
        self.alive = Selection("", lambda: alive)
        self._cache = SelectionCache(self.row_count, filter_cache_bytes)
        self.attribute_names: Sequence[str] = base.attribute_names
        self.attribute_types: Mapping[str, str] = base.attribute_types
        self.feature_types: Mapping[str, str] = base.feature_types

    @property
    def user_count(self) -> int:
        """Number of users in the bundle's table; 0 where it has none."""
        return self._base.user_count

    @property
    def user_ids(self) -> Iterator[str]:
        """Ids of the users that are known; see `BundleCatalog`."""
        return self._base.user_ids

    def row(self, item_id: str) -> int | None:
        """Return the row of an item, or None if it is unknown."""
        row = self._changed.get(item_id)
        if row is None:
            return self._base.row(item_id)
        return None if row == GONE else row

    def rows(self, item_ids: Sequence[str]) -> Rows:
        """Return the rows of the items that are known, in order, int64."""
        if not any(item_id in self._changed for item_id in item_ids):
            return self._base.rows(item_ids)
        return np.array([row for row in map(self.row, item_ids) if row is not None], np.int64)

    def revision_of(self, row: int) -> int:
        """Return the revision of the change that an item is from; 0 for one as exported."""
        if row < self._base_size:
            return self._base.revision_of(row)
        return self._tail.revisions[row - self._base_size]

    def select(self, wanted: Filter | None, unwanted: Filter | None = None) -> Selection | None:
        """Return the items that match one filter and not the other; see `AttributeFilters`."""
        own = self._base.select(wanted, unwanted)
        if own is None:
            return None
        return self._joined(
            own,
            [
                selection
                for segment in self._tail.segments
                if (selection := segment.filters.select(wanted, unwanted)) is not None
            ],
        )

    def select_value(self, name: str, value: FeatureValue, field: str) -> Selection:
        """Return the items whose attribute has, or holds, one of the values; see
        `BundleCatalog`.
        """
        own = self._base.select_value(name, value, field)
        wanted = self._base.value_filter(name, value, field)
        return self._joined(
            own, [segment.filters.chosen(wanted) for segment in self._tail.segments]
        )

    def _joined(self, own: Selection, beside: Sequence[Selection]) -> Selection:
        alive = self.alive.mask

        # It holds nothing of this object, which else would hold itself, and stay until the
        # collector comes round.
        def mask(checkpoint: Any = lambda: None) -> Mask:
            own.make(checkpoint)
            joined = np.concatenate([own.mask, *(part.mask for part in beside)])
            joined &= alive
            return joined

        return self._cache.get(own.text, lambda: Selection(own.text, mask, mask, filter=own.filter))

    def check_attribute(self, name: str, field: str) -> None:
        """Check that there is an attribute of this name; raises as `BundleCatalog` does."""
        self._base.check_attribute(name, field)

    def attribute_codes(self, name: str, row: int) -> Sequence[Any]:
        """Return the values of an item's attribute, as what can be compared."""
        if row < self._base_size:
            return self._base.attribute_codes(name, row)
        cell = self.attribute(name, row)
        if cell is None:
            return ()
        cells = cell if isinstance(cell, tuple) else (cell,)
        return [self._base.attribute_code(name, value) for value in cells]

    def item_id(self, row: int) -> str:
        """Return the id of the item at a row."""
        if row < self._base_size:
            return self._base.item_id(row)
        return self._tail.item_ids[row - self._base_size]

    def attribute(self, name: str, row: int) -> CellValue | None:
        """Return an attribute of the item at a row, or None where it has no value."""
        if row < self._base_size:
            return self._base.attribute(name, row)
        return self._tail.cells[row - self._base_size][name]

    def user_features(self, user_id: str) -> Mapping[str, FeatureValue] | None:
        """Return what is known of a user, by full name, or None if he is unknown."""
        return self._base.user_features(user_id)

    def seen(self, user_id: str) -> Rows:
        """Return the items that a user is known to have seen, oldest first, where they are now,
        without those that are gone.
        """
        return without_gone(self._now[self._base.exported_seen(user_id)])

    def popularity(self, exported: PopularityList | None) -> PopularityList | None:
        """Return the popularity list as exported, of the rows where its items are now."""
        return present_popularity(exported, self._now)


class LiveIds(Sequence[str]):
    """Id of each row."""

    def __init__(self, base: Sequence[str], tail: TailView) -> None:
        """Take the ids of the bundle, and the rows beside it."""
        self._base = base
        self._tail = tail

    def __len__(self) -> int:
        return len(self._base) + self._tail.size

    def __getitem__(self, row: Any) -> Any:
        beyond = row - len(self._base)
        return self._base[row] if beyond < 0 else self._tail.item_ids[beyond]
