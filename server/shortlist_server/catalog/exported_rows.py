"""Where the items of a bundle as exported are, in the bundle as it was loaded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from shortlist_server.bundle.compaction import GONE, FoldedChanges, Misfit, replaced
from shortlist_server.bundle.reader import Bundle, PopularityList
from shortlist_server.funnel.arrays import Floats, Rows


class ExportedRows:
    """Rows of the export, of which those of users and of the popularity are, and which a
    compaction leaves behind.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Take the bundle."""
        self._folded: FoldedChanges | None = bundle.folded
        self._embeddings = bundle.item_embeddings
        self.count = bundle.exported_count
        self._exported: Rows | None = None
        """Row in the export of each item; GONE for one that was not there."""
        self._gone: dict[str, int] = {}
        if self._folded is not None:
            rows = self._folded.rows
            self._exported = np.full(len(bundle.item_ids), GONE)
            self._exported[rows[rows != GONE]] = np.flatnonzero(rows != GONE)
            where = np.flatnonzero(rows == GONE).tolist()
            self._gone = dict(zip(self._folded.gone, where, strict=True))

    @property
    def rows(self) -> Rows:
        """The row where each item of the export is; GONE for one that is not there. A copy."""
        return np.arange(self.count) if self._folded is None else self._folded.rows.copy()

    @property
    def gone(self) -> dict[str, int]:
        """Row in the export of each item that is not there, by id."""
        return self._gone

    @property
    def changed_rows(self) -> Rows:
        """Rows of items that are new, or others than in the export, int64, rising."""
        if self._folded is None:
            return np.empty(0, np.int64)
        return np.flatnonzero(self._folded.revisions)

    @property
    def misfits(self) -> Sequence[Misfit]:
        """Items that could not be served as they were written."""
        return () if self._folded is None else self._folded.misfits

    def of(self, item_id: str, row: int | None) -> int | None:
        """Return the row in the export of an item; None where it was not there.

        Args:
            item_id: Its id.
            row: Its row; None where there is no such item.
        """
        if row is None:
            return self._gone.get(item_id)
        if self._exported is None:
            return row
        exported = int(self._exported[row])
        return None if exported == GONE else exported

    def revision_of(self, row: int) -> int:
        """Return the revision of the change that an item is from; 0 where it is as exported."""
        return 0 if self._folded is None else int(self._folded.revisions[row])

    def present(self, exported: Rows) -> Rows:
        """Return where items are, by their rows in the export; without those that are gone."""
        if self._folded is None:
            return exported
        return without_gone(self._folded.rows[exported])

    def vector(self, exported: int) -> Floats:
        """Return the vector that an item was exported with, [dimension]."""
        if self._folded is not None:
            place = int(np.searchsorted(self._replaced, exported))
            if place < len(self._replaced) and self._replaced[place] == exported:
                was: Floats = self._folded.vectors[place]
                return was
            exported = int(self._folded.rows[exported])
        vector: Floats = self._embeddings[exported]
        return vector

    @cached_property
    def _replaced(self) -> Rows:
        assert self._folded is not None
        return replaced(self._folded.rows, self._folded.revisions)


def without_gone(rows: Rows) -> Rows:
    """Return the rows without those of items that are gone."""
    there: Rows = rows[rows != GONE]
    return there


def present_popularity(exported: PopularityList | None, now: Rows) -> PopularityList | None:
    """Return a popularity list of the rows where its items are, without those that are gone.

    Args:
        exported: The list, of rows in the export.
        now: The row of each item of the export; GONE for one that is not there.
    """
    if exported is None:
        return None
    rows = now[exported.rows]
    there = rows != GONE
    return PopularityList(rows=rows[there], scores=exported.scores[there])
