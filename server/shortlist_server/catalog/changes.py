"""The changes that were made since a bundle was built, applied to it one batch after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.compaction import GONE, Misfit
from shortlist_server.bundle.reader import Bundle
from shortlist_server.catalog.catalog import BundleCatalog
from shortlist_server.catalog.item_schema import FittedItem, ItemSchema
from shortlist_server.catalog.item_state import ItemState
from shortlist_server.catalog.item_texts import ItemTexts
from shortlist_server.catalog.live_catalog import LiveCatalog
from shortlist_server.catalog.pending_texts import PendingText, PendingTexts
from shortlist_server.catalog.store import StoredChange
from shortlist_server.catalog.tail import OPEN_ROWS, Tail, TailView
from shortlist_server.errors import ShortlistError
from shortlist_server.funnel.arrays import Floats, Mask, Rows
from shortlist_server.runtime.models import LoadedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogState:
    """How far the items are from those that the bundle was built with."""

    changed_count: int = 0
    """Items that are new, or others than in the bundle as exported."""
    deleted_count: int = 0
    """Items of the bundle as exported that are gone."""
    tail_size: int = 0
    """Rows beside the index, those among them that hold nothing any more."""
    pending_count: int = 0
    """Rows that the next compaction takes: those beside the index, and those of it whose item was
    deleted.
    """
    misfits: tuple[Misfit, ...] = ()
    unembedded_text_count: int = 0
    """Items that are served and whose texts are still to be embedded."""


@dataclass(slots=True, kw_only=True)
class _Fitted:
    item: FittedItem
    revision: int
    vector: Floats | None
    """None where the item tower is to make it."""


class ChangedItems:
    """What became of a bundle's items. One thread applies changes; the views that it hands out may
    be read by any.
    """

    def __init__(
        self,
        bundle: Bundle,
        base: BundleCatalog,
        models: Mapping[str, LoadedModel],
        *,
        filter_cache_bytes: int,
        texts: ItemTexts | None = None,
    ) -> None:
        """Begin with the bundle as it is.

        Args:
            bundle: The bundle; its items are of a revision of the catalogue, 0 as exported.
            base: Its catalogue.
            models: Its models, by section name.
            filter_cache_bytes: Memory for the masks of filters, in bytes.
            texts: What the bundle makes of texts; None: nothing.
        """
        self.revision = bundle.revision
        self.misfits = {misfit.item_id: misfit for misfit in base.exported.misfits}
        self.schema = ItemSchema(bundle, models, texts)
        self.pending = PendingTexts()
        """Texts that are still to be embedded; see `place_texts`."""
        self._bundle = bundle
        self._base = base
        self._filter_cache_bytes = filter_cache_bytes
        self._types = {name: column.type for name, column in bundle.item_columns.items()}
        self._tail = self._new_tail()
        self._tail_alive = bytearray()
        self._rows: dict[str, int] = {}
        """Row of each item that has changed; GONE for one of the bundle that is not there."""
        self._base_alive = np.ones(base.size, np.bool_)
        self._exported = base.exported
        self._now: Rows = base.exported.rows
        """Row of each item of the export; GONE for one that is not there."""
        self._changed_rows = base.exported.changed_rows

    def apply(self, changes: Sequence[StoredChange], revision: int) -> None:
        """Apply changes; an item that does not fit is noted, and the others are applied.

        Args:
            changes: In order of their revisions; of those that are applied already, only the ones
                count that `asks_from` is asked for.
            revision: That of the catalogue with these changes.
        """
        again = {misfit.item_id for misfit in self.misfits.values() if misfit.text_later}
        last = {
            change.item_id: change
            for change in changes
            if change.revision > self.revision or change.item_id in again
        }
        fitted: list[_Fitted] = []
        for change in last.values():
            self.misfits.pop(change.item_id, None)
            self._remove(change.item_id)
            if not change.deleted and (found := self._fitted(change)) is not None:
                fitted.append(found)
        self._add(self._taken(fitted))
        self._sweep_if_worth()
        self.revision = revision

    def place_texts(self, texts: Sequence[PendingText], points: Floats) -> None:
        """Have items found by the points of their texts; what has changed meanwhile is left out.

        Args:
            texts: Of `pending`.
            points: [texts, dimension of texts] float32, each of length 1.
        """
        if not (places := self.pending.still(texts)):
            return
        old = self._tail.view()
        ids = [texts[place].item_id for place in places]
        rows = np.array([self._rows[item_id] - self._base.size for item_id in ids])
        for item_id in ids:
            self._remove(item_id)
        self._append_again(old, rows, points[places])
        self._sweep_if_worth()

    def take_texts(self, others: ChangedItems) -> None:
        """Take over the points that others have of the same texts."""
        if not len(self.pending):
            return
        view, size = others._tail.view(), others._base.size
        found: list[tuple[PendingText, int]] = []
        for text in self.pending:
            row = others._rows.get(text.item_id, GONE)
            if row >= size and view.revisions[row - size] == text.revision:
                found.append((text, row - size))
        points = view.texts[[row for _, row in found]]
        made = np.flatnonzero(np.any(points, axis=1))
        self.place_texts([found[place][0] for place in made.tolist()], points[made])

    @property
    def asks_from(self) -> int:
        """Revision after which changes are to be applied: an earlier one than theirs where a bundle
        holds items whose texts could not be embedded when they were folded in.
        """
        late = [misfit.revision - 1 for misfit in self.misfits.values() if misfit.text_later]
        return min([self.revision, *late])

    def catalog(self) -> tuple[LiveCatalog, TailView]:
        """Return the items as they stand, and the rows beside the bundle."""
        tail = self._tail.view()
        alive = np.concatenate([self._base_alive, _mask(self._tail_alive)])
        live = LiveCatalog(
            self._base,
            tail,
            changed=self._rows.copy(),
            alive=alive,
            now=self._now.copy(),
            filter_cache_bytes=self._filter_cache_bytes,
        )
        return live, tail

    @property
    def untouched(self) -> bool:
        """Whether the bundle's items are as they were."""
        return not self._rows and not self._tail.size

    @property
    def state(self) -> CatalogState:
        """How far the items are from the bundle's."""
        # Each that is there has a row of the tail. Counting them themselves would take milliseconds
        # of each snapshot where tens of thousands have changed.
        gone = len(self._rows) - self._tail_alive.count(1)
        folded = int(np.count_nonzero(self._base_alive[self._changed_rows]))
        return CatalogState(
            changed_count=folded + len(self._rows) - gone,
            deleted_count=int(np.count_nonzero(self._now == GONE)),
            tail_size=self._tail.size,
            pending_count=self._tail.size + gone,
            misfits=tuple(self.noted()),
            unembedded_text_count=len(self.pending),
        )

    def noted(self) -> Iterator[Misfit]:
        """Yield the items that cannot be served as they were written; those among them whose texts
        could not be embedded yet.
        """
        for misfit in self.misfits.values():
            yield replace(misfit, text_later=misfit.item_id in self.pending)
        for text in self.pending:
            if text.problem and text.item_id not in self.misfits:
                yield Misfit(
                    item_id=text.item_id,
                    revision=text.revision,
                    served=True,
                    reason=f"its text is not embedded yet: {text.problem}",
                    text_later=True,
                )

    @property
    def exported_now(self) -> Rows:
        """The row of each item of the export, int64; GONE for one that is not there."""
        return self._now

    @property
    def gone(self) -> list[str]:
        """Ids of the items of the export that are not there, in order of their rows in it."""
        ids = {row: item_id for item_id, row in self._exported.gone.items()}
        for item_id, row in self._rows.items():
            own = self._exported.of(item_id, self._base.row(item_id))
            if row == GONE and own is not None:
                ids[own] = item_id
        return [ids[row] for row in np.flatnonzero(self._now == GONE).tolist()]

    def exported_vectors(self, rows: Rows) -> Floats:
        """Return the vectors that items were exported with, by their rows in the export."""
        vectors: Floats = np.empty((len(rows), self._bundle.manifest.dimension), np.float32)
        for place, row in enumerate(rows.tolist()):
            vectors[place] = self._exported.vector(row)
        return vectors

    # One change.

    def _fitted(self, change: StoredChange) -> _Fitted | None:
        """Return an item in the bundle's terms; None where it does not fit, which is noted."""
        try:
            state = ItemState.decode(change.payload)
            item = self.schema.fit(change.item_id, state.attributes, "attributes")
            vector = None
            if state.vector is not None and state.vector_bundle == self.schema.bundle_sha256:
                vector = self.schema.vector(state.vector, "vector")
            elif not self.schema.embeds:
                vector = self._own_vector(change, "its vector is of another bundle")
            return _Fitted(item=item, revision=change.revision, vector=vector)
        except (ShortlistError, ValueError) as error:
            self._note(change.item_id, change.revision, str(error))
            return None

    def _taken(self, fitted: Sequence[_Fitted]) -> list[_Fitted]:
        """Return the items that the bundle's models take; the others are noted."""
        taken = []
        items = [one.item for one in fitted]
        for one, fault in zip(
            fitted, self.schema.model_faults(items, ["attributes"] * len(items)), strict=True
        ):
            if fault is None:
                taken.append(one)
            else:
                self._note(one.item.item_id, one.revision, str(fault))
        return taken

    def _own_vector(self, change: StoredChange, why: str) -> Floats:
        """Return the vector that the bundle has for an item, which is noted.

        Raises:
            ValueError: it has none.
        """
        exported = self._exported.of(change.item_id, self._base.row(change.item_id))
        if exported is None:
            raise ValueError(f"{why}, and this bundle neither has one nor can make one")
        self._note(change.item_id, change.revision, f"{why}; that of this bundle is used", True)
        return self._exported.vector(exported)

    def _note(self, item_id: str, revision: int, reason: str, served: bool = False) -> None:
        self.misfits[item_id] = Misfit(
            item_id=item_id, revision=revision, served=served, reason=reason
        )

    def _add(self, fitted: Sequence[_Fitted]) -> None:
        """Add items, by their vectors or those that the item tower makes; one of which it makes
        none is noted.
        """
        texts = self._text_points([one.item for one in fitted], [one.revision for one in fitted])
        self._embed(fitted, texts)
        places = [place for place, one in enumerate(fitted) if one.vector is not None]
        if not places:
            return
        items = [fitted[place].item for place in places]
        vectors = np.stack([one.vector for one in fitted if one.vector is not None])
        revisions = [fitted[place].revision for place in places]
        texts = texts[places]
        self._append(items, revisions, vectors, self.schema.ranker_feeds(items, texts), texts)

    def _embed(self, fitted: Sequence[_Fitted], texts: Floats) -> None:
        """Give items without a vector what the item tower makes of them and of their texts."""
        places = [place for place, one in enumerate(fitted) if one.vector is None]
        made = self.schema.embed_each(
            [fitted[place].item for place in places], texts[places], ["items"] * len(places)
        )
        for place, vector in zip(places, made, strict=True):
            one = fitted[place]
            if isinstance(vector, ShortlistError):
                self.pending.drop(one.item.item_id)
                self._note(one.item.item_id, one.revision, str(vector))
            else:
                one.vector = vector

    def _text_points(self, items: Sequence[FittedItem], revisions: Sequence[int]) -> Floats:
        """Return the points of items' texts, zeros where one has none. Where none can be made,
        the items are not found by text, and are to the models items without one, which is noted.
        """
        texts = self.schema.texts
        if texts is None:
            return np.zeros((len(items), 0), np.float32)
        # What the models read has to be there before they are asked.
        if texts.later and not self.schema.reads_texts:
            for item, revision in zip(items, revisions, strict=True):
                if item.text:
                    self.pending.add(
                        PendingText(item_id=item.item_id, revision=revision, text=item.text)
                    )
            return np.zeros((len(items), texts.dimension), np.float32)
        try:
            if texts.embed is not None:
                return texts.points([item.text for item in items])
            why = f"it needs {texts.missing}"
        except Exception as error:  # a text must not keep the catalogue from going on
            why = str(error)
        seen_as = "; to the models it has none" if self.schema.reads_texts else ""
        for item, revision in zip(items, revisions, strict=True):
            if item.text:
                what = f"its text is not embedded{seen_as}: {why}"
                self._note(item.item_id, revision, what, served=True)
        return np.zeros((len(items), texts.dimension), np.float32)

    def _append(
        self,
        items: Sequence[FittedItem],
        revisions: Sequence[int],
        vectors: Floats,
        feeds: Mapping[str, NDArray[Any]],
        texts: Floats,
    ) -> None:
        """Give items rows of the tail, and note that they are there now; see `Tail.append`."""
        rows = self._tail.append(items, revisions, vectors, feeds, texts)
        self._tail_alive = self._tail_alive + b"\1" * len(items)
        for item, beside in zip(items, rows, strict=True):
            row = self._base.size + beside
            self._rows[item.item_id] = row
            own = self._exported.of(item.item_id, self._base.row(item.item_id))
            if own is not None:
                self._now[own] = row

    def _remove(self, item_id: str) -> None:
        """Take an item away from where it is."""
        self.pending.drop(item_id)
        own = self._base.row(item_id)
        row = self._rows.get(item_id, own)
        if row is None:
            return
        if row >= self._base.size:
            self._tail_alive[row - self._base.size] = 0
        elif row != GONE:
            self._base_alive[row] = False
        if own is None:
            del self._rows[item_id]
        else:
            self._rows[item_id] = GONE
        if (exported := self._exported.of(item_id, own)) is not None:
            self._now[exported] = GONE

    def _sweep_if_worth(self) -> None:
        """Begin a new tail with the rows that hold an item, if most of the old one do not."""
        if self._tail.size <= OPEN_ROWS or 2 * self._tail_alive.count(1) >= self._tail.size:
            return
        old, kept = self._tail.view(), np.flatnonzero(_mask(self._tail_alive))
        self._tail, self._tail_alive = self._new_tail(), bytearray()
        if len(kept):
            self._append_again(old, kept, old.texts[kept])

    def _append_again(self, old: TailView, rows: Rows, texts: Floats) -> None:
        """Give the items of some rows new rows, with these points of their texts."""
        items = [
            FittedItem(item_id=old.item_ids[row], cells=old.cells[row], unknown=())
            for row in rows.tolist()
        ]
        self._append(
            items,
            [old.revisions[row] for row in rows.tolist()],
            old.vectors[rows],
            {name: feed[rows] for name, feed in old.feeds.items()},
            texts,
        )

    def _new_tail(self) -> Tail:
        manifest = self._bundle.manifest
        texts = self.schema.texts
        return Tail(
            self._types,
            manifest.dimension,
            manifest.metric,
            0 if texts is None else texts.dimension,
        )


def _mask(flags: bytearray) -> Mask:
    # A copy: numpy would keep the flags from growing.
    return np.array(flags, np.uint8).astype(np.bool_)
