"""Which items may be in an answer: those that a filter matches, without those that are excluded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from shortlist_server.funnel.arrays import NO_ROWS, Mask, Rows


class Selection:
    """The items that a filter matches: its canonical text, and a mask that is made when asked for.

    An engine that filters by itself takes the text and never makes the mask.
    """

    def __init__(
        self,
        text: str,
        evaluate: Callable[[], Mask],
        evaluate_within: Callable[[Callable[[], None]], Mask] | None = None,
    ) -> None:
        """Take the filter.

        Args:
            text: The filter in canonical form.
            evaluate: Returns bool [items], True where an item matches. Called once, at most.
            evaluate_within: The same for a filter of many conditions: takes a checkpoint, and
                calls it before each. What it raises ends the work.
        """
        self.text = text
        self._evaluate = evaluate
        self._evaluate_within = evaluate_within

    @cached_property
    def mask(self) -> Mask:
        """Bool [items], read-only."""
        mask = self._evaluate()
        mask.flags.writeable = False
        return mask

    def make(self, checkpoint: Callable[[], None]) -> None:
        """Make the mask, unless it is there already; what the checkpoint raises ends that."""
        if self._evaluate_within is None or "mask" in vars(self):
            return
        mask = self._evaluate_within(checkpoint)
        mask.flags.writeable = False
        vars(self)["mask"] = mask

    @cached_property
    def count(self) -> int:
        """Number of items that match."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def rows(self) -> Rows:
        """The rows of the items that match, int64 [count], rising."""
        rows = np.flatnonzero(self.mask)
        rows.flags.writeable = False
        return rows


class Allowed:
    """What one request allows: a selection, or all items, without the excluded ones."""

    def __init__(
        self, size: int, selection: Selection | None = None, excluded: Rows = NO_ROWS
    ) -> None:
        """Take the parts.

        Args:
            size: Number of items in the catalogue.
            selection: What the filters match; None matches all.
            excluded: Rows that must not be in the answer, rising, without repetition.
        """
        self.size = size
        self.selection = selection
        self.excluded = excluded

    @cached_property
    def excluded_count(self) -> int:
        """Number of excluded items that the selection holds: those whose exclusion matters."""
        if self.selection is None or not len(self.excluded):
            return len(self.excluded)
        return int(np.count_nonzero(self.selection.mask[self.excluded]))

    @cached_property
    def count(self) -> int:
        """Number of items that are allowed."""
        matching = self.size if self.selection is None else self.selection.count
        return matching - self.excluded_count

    @cached_property
    def mask(self) -> Mask:
        """Bool [items]: True where an item is allowed."""
        if self.selection is None:
            mask = np.ones(self.size, np.bool_)
        elif not len(self.excluded):
            return self.selection.mask
        else:
            mask = self.selection.mask.copy()
        mask[self.excluded] = False
        return mask

    @cached_property
    def rows(self) -> Rows:
        """The rows of the allowed items, int64 [count], rising."""
        if self.selection is None:
            return np.flatnonzero(self.mask)
        if not self.excluded_count:
            return self.selection.rows
        rows = self.selection.rows
        return rows[self.mask[rows]]

    def among(self, rows: Rows) -> Mask:
        """Return for each row whether its item is allowed, bool [n]."""
        if self.selection is None and not len(self.excluded):
            return np.ones(len(rows), np.bool_)
        if self.selection is None and len(self.excluded) < self.size // 64:
            return ~np.isin(rows, self.excluded)
        return self.mask[rows]
