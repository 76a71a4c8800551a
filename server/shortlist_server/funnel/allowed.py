"""Which items may be in an answer: those that a filter matches, without those that are excluded.

A catalogue may hold rows whose items are gone, or have moved to a row of their own as they changed:
these are in no answer, and no request says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from shortlist_server.funnel.arrays import NO_ROWS, Mask, Rows
from shortlist_server.funnel.filter import Filter


class Selection:
    """The items that a filter matches: its canonical text, and a mask that is made when asked
    for.
    """

    def __init__(
        self,
        text: str,
        evaluate: Callable[[], Mask],
        evaluate_within: Callable[[Callable[[], None]], Mask] | None = None,
        *,
        filter: Filter | None = None,  # noqa: A002  # what it is
    ) -> None:
        """Take the filter.

        Args:
            text: The filter in canonical form.
            evaluate: Returns bool [items], True where an item matches. Called once, at most.
            evaluate_within: The same for a filter of many conditions: takes a checkpoint, and
                calls it before each. What it raises ends the work.
            filter: The filter itself, for an engine that evaluates it by itself, over rows whose
                items may be gone; None where there is none.
        """
        self.text = text
        self.filter = filter
        self._evaluate = evaluate
        self._evaluate_within = evaluate_within
        self._parts: dict[tuple[int, int], Selection] = {}

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

    def part(self, start: int, end: int) -> Selection:
        """Return what it matches among some rows, counted from the first of them."""
        if start == 0 and end == len(self.mask):
            return self
        if (made := self._parts.get((start, end))) is None:
            # Made twice by two threads at once, one of them is dropped.
            made = Selection(self.text, lambda: self.mask[start:end], filter=self.filter)
            self._parts[start, end] = made
        return made

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
        self,
        size: int,
        selection: Selection | None = None,
        excluded: Rows = NO_ROWS,
        alive: Selection | None = None,
    ) -> None:
        """Take the parts.

        Args:
            size: Number of rows in the catalogue.
            selection: What the filters match, of the rows that are alive; None matches all.
            excluded: Rows that must not be in the answer, rising, without repetition.
            alive: The rows that hold an item; None where all do.
        """
        self.size = size
        self.selection = selection
        self.excluded = excluded
        self.alive = alive
        self.held = alive if selection is None else selection
        """What matches whether or not it is excluded; None where all rows do."""

    def part(self, start: int, end: int) -> Allowed:
        """Return what is allowed among some rows, counted from the first of them."""
        if start == 0 and end == self.size:
            return self
        first, last = np.searchsorted(self.excluded, (start, end))
        excluded = self.excluded[first:last] - start
        held = None if self.held is None else self.held.part(start, end)
        if self.selection is None and held is not None and held.count == end - start:
            held = None
        return Allowed(end - start, held, excluded)

    @cached_property
    def excluded_count(self) -> int:
        """Number of excluded items that match: those whose exclusion matters."""
        if self.held is None or not len(self.excluded):
            return len(self.excluded)
        return int(np.count_nonzero(self.held.mask[self.excluded]))

    @cached_property
    def count(self) -> int:
        """Number of items that are allowed."""
        matching = self.size if self.held is None else self.held.count
        return matching - self.excluded_count

    @cached_property
    def mask(self) -> Mask:
        """Bool [items]: True where an item is allowed."""
        if self.held is None:
            mask = np.ones(self.size, np.bool_)
        elif not len(self.excluded):
            return self.held.mask
        else:
            mask = self.held.mask.copy()
        mask[self.excluded] = False
        return mask

    @cached_property
    def rows(self) -> Rows:
        """The rows of the allowed items, int64 [count], rising."""
        if self.held is None:
            return np.flatnonzero(self.mask)
        if not self.excluded_count:
            return self.held.rows
        rows = self.held.rows
        return rows[self.mask[rows]]

    def among(self, rows: Rows) -> Mask:
        """Return for each row whether its item is allowed, bool [n]."""
        if self.held is None and not len(self.excluded):
            return np.ones(len(rows), np.bool_)
        if self.held is None and len(self.excluded) < self.size // 64:
            return ~np.isin(rows, self.excluded)
        return self.mask[rows]
