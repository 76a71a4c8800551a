"""A generation whose items change while it serves: follows the store, and makes a new snapshot for
each change that it sees.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence

from shortlist.v1 import types_pb2

from shortlist_server.bundle_label import BundleLabel
from shortlist_server.catalog.changes import ChangedItems
from shortlist_server.catalog.item_schema import ItemSchema
from shortlist_server.catalog.live_catalog import LiveIds
from shortlist_server.catalog.pending_texts import PendingText
from shortlist_server.catalog.store import CatalogStore
from shortlist_server.errors import CatalogError
from shortlist_server.funnel.arrays import Floats, Stacked
from shortlist_server.generation import Generation, Items
from shortlist_server.index.layers import Layer, LayeredSearcher
from shortlist_server.late_texts import REST_FACTOR, REST_S_MAX, LateTexts
from shortlist_server.live_texts import item_texts, live_texts
from shortlist_server.rpc.snapshot import Snapshot

logger = logging.getLogger(__name__)

POLL_S = 0.1
"""How often the store is asked: a change is seen by every worker within this and the time that it
takes to apply.
"""


class LiveGeneration:
    """A generation, and what its items have become."""

    def __init__(
        self,
        generation: Generation,
        identity: types_pb2.BundleId,
        store: CatalogStore,
        *,
        filter_cache_bytes: int,
        label: str = BundleLabel.STABLE,
    ) -> None:
        """Apply all changes that there are; `start` follows those to come.

        Args:
            generation: The bundle, loaded.
            identity: Its identity in answers.
            store: Where changes are kept.
            filter_cache_bytes: Memory for the masks of filters, in bytes.
            label: Label of the bundle. What keeps one beside the stable bundle from applying the
                changes is logged, not raised, and tried again: it is no fault of the stable one.

        Raises:
            CatalogUnavailable: the store cannot be read, and the bundle is the stable one.
        """
        self.generation = generation
        self._filter_cache_bytes = filter_cache_bytes
        self.items = self._changed(generation)
        self._identity = identity
        self._label = label
        self.store = store
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="catalog", daemon=True)
        self._late = LateTexts(self, label)
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._lock = threading.Lock()
        self._applying = threading.Lock()
        """Held by whoever makes the next snapshot."""
        self._followed_at = time.monotonic()
        self.state = self.items.state
        """How far the items are from the bundle's."""
        self.snapshot = self._made()
        """What a request that arrives now is answered from."""
        self.follows = False
        """See `rpc.snapshot.Serving`."""
        self._failing = False
        if label == BundleLabel.STABLE:
            self.refresh()
        else:
            self._try()

    @property
    def schema(self) -> ItemSchema:
        """What the bundle makes of items."""
        return self.items.schema

    @property
    def store_age_s(self) -> float:
        """Time since the store was last read and followed without a fault, in seconds."""
        return time.monotonic() - self._followed_at

    def start(self) -> None:
        """Follow the store from now on, in a thread, and have texts embedded in another."""
        self._thread.start()
        if (texts := self.items.schema.texts) is not None and texts.later:
            self._late.start()

    def close(self) -> None:
        """Follow it no longer."""
        self._late.close()
        self._closed.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def nudge(self) -> None:
        """Have the store read at once: it has just been written to."""
        self._wake.set()

    def refresh(self) -> None:
        """Read the store, and make a snapshot if it tells of changes."""
        with self._applying:
            self._refresh()

    def rebase(self, generation: Generation) -> None:
        """Answer from the same bundle with more of the changes folded in, from now on; requests
        that are under way keep what they have.

        Args:
            generation: That bundle, loaded.

        Raises:
            CatalogUnavailable: the store cannot be read; all is as it was.
        """
        items = self._changed(generation)
        tail = self.store.changes_since(items.asks_from)
        items.apply(tail.changes, tail.revision)
        with self._applying:
            # What has come meanwhile is little: requests must not see an earlier revision again.
            tail = self.store.changes_since(items.asks_from)
            items.apply(tail.changes, tail.revision)
            items.take_texts(self.items)
            self.generation, self.items, self.state = generation, items, items.state
            self.snapshot = self._made()
            self._followed_at, self.follows = time.monotonic(), True
        self._tell(tail.revision)
        self._late.nudge()

    # Texts that a service embeds; see `late_texts.WaitingTexts`.

    def due_texts(self, count: int) -> list[PendingText]:
        """Return texts that are to be embedded next, at most so many."""
        with self._applying:
            return self.items.pending.first(count)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """Return a point for each text; waits for the service."""
        embed = None if self.items.schema.texts is None else self.items.schema.texts.embed
        assert embed is not None
        return embed(texts)

    def place_texts(self, texts: Sequence[PendingText], points: Floats) -> None:
        """Have items found by the points of their texts."""
        with self._applying:
            self.items.place_texts(texts, points)
            self.state = self.items.state
            self.snapshot = self._made()

    def put_last(self, texts: Sequence[PendingText], problem: str) -> None:
        """Note why texts have no points, and have them embedded after the others."""
        with self._applying:
            self.items.pending.put_last(texts, problem)
            self.state = self.items.state

    def _changed(self, generation: Generation) -> ChangedItems:
        return ChangedItems(
            generation.bundle,
            generation.catalog,
            generation.models,
            filter_cache_bytes=self._filter_cache_bytes,
            texts=item_texts(generation),
        )

    def _refresh(self) -> None:
        begin = time.monotonic()
        tail = self.store.changes_since(self.items.asks_from)
        revision = tail.revision
        if revision != self.snapshot.revision or tail.changes:
            self.items.apply(tail.changes, revision)
            before, self.state = len(self.state.misfits), self.items.state
            if (count := len(self.state.misfits)) > before:
                logger.warning(
                    "%d items do not fit the %s bundle; GetCatalogStats names them",
                    count,
                    self._label,
                )
            self.snapshot = self._made()
            self._tell(revision)
            self._late.nudge()
        self._followed_at, self.follows = begin, True

    async def reached(self, revision: int) -> None:
        """Wait until the snapshot is of this revision, or a later one."""
        if self.snapshot.revision >= revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting[future] = revision
        self.nudge()
        try:
            if self.snapshot.revision < revision:
                await future
        finally:
            with self._lock:
                self._waiting.pop(future, None)

    def _tell(self, revision: int) -> None:
        with self._lock:
            reached = [future for future, wanted in self._waiting.items() if wanted <= revision]
        for future in reached:
            future.get_loop().call_soon_threadsafe(_set, future)

    def _made(self) -> Snapshot:
        generation, revision = self.generation, self.items.revision
        if self.items.untouched:
            return Snapshot(
                funnel=generation.funnel,
                catalog=generation.catalog,
                identity=self._identity,
                embeddings=generation.items.embeddings,
                revision=revision,
            )
        catalog, tail = self.items.catalog()
        base, own = generation.catalog.size, generation.items
        layers = [Layer(base + segment.start, segment.index) for segment in tail.segments]
        items = Items(
            catalog=catalog,
            item_ids=LiveIds(own.item_ids, tail),
            embeddings=Stacked(generation.bundle.item_embeddings, tail.vectors),
            feeds={
                name: Stacked(feed, tail.feeds[name])
                for name, feed in generation.builder.feeds.items()
            }
            if tail.size
            else own.feeds,
            searcher=LayeredSearcher(own.searcher, base, layers),
            popularity=catalog.popularity(generation.bundle.popularity),
            texts=live_texts(own.texts, base, tail),
        )
        return Snapshot(
            funnel=generation.builder.build(items),
            catalog=catalog,
            identity=self._identity,
            embeddings=items.embeddings,
            revision=revision,
        )

    def _follow(self) -> None:
        while not self._closed.is_set():
            self._wake.wait(POLL_S)
            self._wake.clear()
            begin = time.perf_counter()
            self._try()
            spent = time.perf_counter() - begin
            self._closed.wait(min(spent * REST_FACTOR, REST_S_MAX))

    def _try(self) -> None:
        try:
            self.refresh()
            if self._failing:
                logger.info("the %s bundle follows the catalogue again", self._label)
            self._failing = False
        except Exception as error:
            # Requests are answered from the snapshot that is there. Where the store cannot be read,
            # it is as new as any can be.
            self.follows = self.follows and isinstance(error, CatalogError)
            if not self._failing:
                logger.exception(
                    "the %s bundle cannot follow the catalogue's store; trying again", self._label
                )
            self._failing = True


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
