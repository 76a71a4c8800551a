"""Graph search over the item embeddings. The only importer of hnswlib."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition
from typing import Any

import hnswlib
import numpy as np
from numpy.typing import NDArray

from shortlist_server.errors import BundleCorrupt
from shortlist_server.index.hnsw_file import check_file
from shortlist_server.index.points import QueryPoints, last_components, points
from shortlist_server.index.vector_index import Metric, Neighbors, best_first, similarity

BUILD_BATCH = 10_000


def build(
    vectors: NDArray[np.float32],
    path: Path,
    *,
    metric: Metric,
    m: int,
    ef_construction: int,
    seed: int,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Build an index and save it; label i is row i.

    Args:
        vectors: [items, dimension] float32, of unit length if the metric is cosine.
        path: The file to write.
        metric: The bundle's metric.
        m: Links per item.
        ef_construction: Search width while building.
        seed: Seed of the levels that items are drawn to.
        progress: Called with the number of items added so far.
    """
    indexed = points(vectors, metric)
    index = hnswlib.Index(space="l2", dim=indexed.shape[1])
    index.init_index(
        max_elements=len(indexed), M=m, ef_construction=ef_construction, random_seed=seed
    )
    # Threads that add the first points side by side do not see each other's, and now and then leave
    # one of a few items without a link that leads to it. One thread also gives the same graph each
    # time.
    threads = 1 if len(indexed) <= BUILD_BATCH else os.cpu_count() or 1
    for start in range(0, len(indexed), BUILD_BATCH):
        batch = indexed[start : start + BUILD_BATCH]
        index.add_items(batch, np.arange(start, start + len(batch)), num_threads=threads)
        progress(start + len(batch))
    index.save_index(str(path))


class HnswIndex:
    """A loaded index. Searches from several threads run side by side as long as they agree on
    `ef`.
    """

    def __init__(
        self, path: Path, vectors: NDArray[np.float32], *, metric: Metric, m: int, name: str
    ) -> None:
        """Load an index file and check that it is the index of these vectors.

        Args:
            path: The file that `build` wrote.
            vectors: [items, dimension] float32: what was indexed; scores are computed from these.
            metric: The bundle's metric, which the file does not tell.
            m: Links per item, as the manifest says.
            name: What to call the file in errors.

        Raises:
            BundleCorrupt: the file is not an hnswlib index, or of other vectors.
        """
        last = last_components(vectors) if metric == "inner_product" else None
        check_file(path, vectors, last, m=m, name=name)
        dimension = vectors.shape[1] + (last is not None)
        self._index: Any = hnswlib.Index(space="l2", dim=dimension)
        try:
            self._index.load_index(str(path), max_elements=len(vectors))
        except RuntimeError as error:
            raise BundleCorrupt(f"{name}: hnswlib cannot load this index: {error}") from error
        self._index.set_num_threads(1)
        self._vectors = vectors
        self._metric = metric
        self._gate = _EfGate(self._index.set_ef)
        self._points = QueryPoints(vectors, metric)

    @property
    def size(self) -> int:
        """Number of items."""
        return len(self._vectors)

    def nearest(
        self,
        query: NDArray[np.float32],
        count: int,
        *,
        ef: int,
        accepted: bytes | None = None,
    ) -> Neighbors:
        """Return the items nearest to a query, as far as a search of width `ef` finds them.

        Fewer than asked for come back where the graph's links do not lead to as many.

        Args:
            query: [dimension] float32, of unit length if the metric is cosine.
            count: Number of items wanted, 1 to the number of items.
            ef: Search width; raised to `count`.
            accepted: One byte an item, not 0 where it may come back; None accepts all. The search
                asks it for every item that it passes, at about a microsecond each.
        """
        point = self._points.of(query)
        accept = None if accepted is None else accepted.__getitem__
        with self._gate.holding(max(ef, count)):
            try:
                labels, _ = self._index.knn_query(point, k=count, num_threads=1, filter=accept)
            except RuntimeError:  # "Cannot return the results in a contiguous 2D array"
                return Neighbors(np.empty(0, np.int64), np.empty(0, np.float32))
        rows = labels[0].astype(np.int64)
        # The scores of an exact search, not distances in the space of the graph.
        return best_first(rows, similarity(self._vectors[rows], query, self._metric), count)


class _EfGate:
    """Lets searches in that want the same `ef`, which is state of the whole index.

    Setting it while another thread searches would change that thread's answer.
    """

    def __init__(self, set_ef: Callable[[int], None]) -> None:
        self._set_ef = set_ef
        self._free = Condition()
        self._ef = 0
        self._inside = 0

    @contextmanager
    def holding(self, ef: int) -> Iterator[None]:
        with self._free:
            while self._inside and self._ef != ef:
                self._free.wait()
            if self._ef != ef:
                self._set_ef(ef)
                self._ef = ef
            self._inside += 1
        try:
            yield
        finally:
            with self._free:
                self._inside -= 1
                if not self._inside:
                    self._free.notify_all()
