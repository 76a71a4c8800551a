"""The list out of the ordered candidates: pinned items, caps, diversity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from shortlist_server.funnel.arrays import Rows
from shortlist_server.funnel.budget import Stage, Trace
from shortlist_server.funnel.diversity import CapCounts, expected_ns, fill, fill_diverse, scaled
from shortlist_server.funnel.options import Cap, Options
from shortlist_server.funnel.select import Order, placed
from shortlist_server.funnel.stages import Catalog, QueryEncoder
from shortlist_server.funnel.types import Degradation, DegradedReason


class _OutOfShare(Exception):
    """Diversity's share of the budget is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """The list, as places among the candidates."""

    places: list[int]
    diversified: list[int] | None = None
    """The order after diversity and caps, without the pinned items; None where there were
    neither.
    """
    unpinned: tuple[int, ...] = ()
    """Rows of pinned items that the caps leave out."""
    degraded: tuple[Degradation, ...] = ()


class Composer:
    """Makes lists that keep their caps, are diverse, and have their pinned items in place."""

    def __init__(self, catalog: Catalog, encoder: QueryEncoder, *, share: float) -> None:
        """Take the parts.

        Args:
            catalog: Knows the attributes that caps are about.
            encoder: Knows the item embeddings that diversity is about.
            share: Share of the budget after which diversity is left out.
        """
        self._catalog = catalog
        self._encoder = encoder
        self._share = share

    def compose(
        self,
        rows: Rows,
        order: Order,
        pins: tuple[tuple[int, int | None], ...],
        options: Options,
        trace: Trace,
    ) -> Composition:
        """Return the list.

        Args:
            rows: The candidates, pinned items among them: int64 [n].
            order: Their order.
            pins: Row and position of each pinned item.
            options: What the caller chose.
            trace: Where diversity reports.
        """
        selection = options.selection
        if not (pins or selection.caps or selection.diversity):
            return Composition(places=order.places[: options.limit].tolist())
        place_of = {row: place for place, row in enumerate(rows.tolist())} if pins else {}
        caps = self._counts(rows, selection.caps)
        pinned = [(place_of[row], position) for row, position in pins]
        fitting = [(place, position) for place, position in pinned if caps.admit(place)]
        fitting = fitting[: options.limit]
        kept = {place for place, _ in fitting}
        fixed = {place for place, _ in pinned}
        free = [place for place in order.places.tolist() if place not in fixed]
        wanted = options.limit - len(fitting)
        degraded: tuple[Degradation, ...] = ()
        chosen = None
        if selection.diversity:
            chosen, degraded = self._diverse(
                rows, order, free, wanted, sorted(kept), options, trace
            )
        if chosen is None:
            chosen = fill(free, wanted, caps.admit)
        return Composition(
            places=placed(chosen, fitting, options.limit),
            diversified=chosen if selection.caps or selection.diversity else None,
            unpinned=tuple(int(rows[place]) for place in fixed - kept),
            degraded=degraded,
        )

    def _diverse(
        self,
        rows: Rows,
        order: Order,
        free: list[int],
        wanted: int,
        present: list[int],
        options: Options,
        trace: Trace,
    ) -> tuple[list[int] | None, tuple[Degradation, ...]]:
        """Return the diverse order, or None and why it was left out."""
        with trace.stage("diversity", len(free)) as stage:
            if options.replay is not None and "diversity" in options.replay.skipped_stages:
                return None, _left_out(stage, "left out, as when it was logged")
            end_ns = None if options.replay else trace.budget.share_end_ns(self._share)
            present_directions = self._encoder.directions(rows[np.array(present, np.int64)])
            dimension = present_directions.shape[1]
            needed_ns = expected_ns(len(free), dimension, wanted)
            if end_ns is not None and trace.budget.now_ns() + needed_ns > end_ns:
                return None, _left_out(stage, f"needs about {max(needed_ns / 1e6, 0.1):.1f} ms")
            places = np.array(free, np.int64)

            def checkpoint() -> None:
                trace.budget.check("diversity")
                if end_ns is not None and trace.budget.now_ns() > end_ns:
                    raise _OutOfShare

            caps = self._counts(rows, options.selection.caps)
            for place in present:
                caps.admit(place)
            try:
                chosen = fill_diverse(
                    scaled(order.keys[places]),
                    self._encoder.directions(rows[places]),
                    wanted,
                    strength=options.selection.diversity,
                    admit=lambda place: caps.admit(free[place]),
                    present=present_directions,
                    checkpoint=checkpoint,
                )
            except _OutOfShare:
                return None, _left_out(stage, "its share of the time budget was gone")
            stage.items_out = len(chosen)
            stage.plan = f"maximal marginal relevance, strength {options.selection.diversity:g}"
            return [free[place] for place in chosen], ()

    def _counts(self, rows: Rows, caps: tuple[Cap, ...]) -> CapCounts:
        return CapCounts(
            [(cap.item_count_max, partial(self._values, rows, cap.attribute)) for cap in caps]
        )

    def _values(self, rows: Rows, attribute: str, place: int) -> list[object]:
        return list(self._catalog.attribute_codes(attribute, int(rows[place])))


def _left_out(stage: Stage, why: str) -> tuple[Degradation, ...]:
    stage.leave_out(why)
    return (
        Degradation(
            stage="diversity",
            reason=DegradedReason.OUT_OF_TIME,
            message=f"diversity: {why}; the list is in the order of the scores",
        ),
    )
