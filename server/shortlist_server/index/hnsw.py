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
    points = _points(vectors, metric)
    index = hnswlib.Index(space="l2", dim=points.shape[1])
    index.init_index(
        max_elements=len(points), M=m, ef_construction=ef_construction, random_seed=seed
    )
    # Threads that add the first points side by side do not see each other's, and now and then leave
    # one of a few items without a link that leads to it. One thread also gives the same graph each
    # time.
    threads = 1 if len(points) <= BUILD_BATCH else os.cpu_count() or 1
    for start in range(0, len(points), BUILD_BATCH):
        batch = points[start : start + BUILD_BATCH]
        index.add_items(batch, np.arange(start, start + len(batch)), num_threads=threads)
        progress(start + len(batch))
    index.save_index(str(path))


def _points(vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Return the points to index, such that the nearest in Euclidean distance are the most similar.

    For l2 and for unit vectors (cosine) these are the vectors. For the inner product each gets one
    more component, sqrt(M^2 - |v|^2) with M the largest length, and a query gets 0 there: |q - v|^2
    = |q|^2 + M^2 - 2 q.v (Bachrach et al., "Speeding Up the Xbox Recommender System Using a
    Euclidean Transformation for Inner-Product Spaces", RecSys 2014). A graph over the inner product
    itself, which is no metric, finds far fewer of the true neighbours:
    `docs/decisions/005-inner-product-as-distance.md`.
    """
    if metric != "inner_product":
        return vectors
    return np.hstack([vectors, _last_components(vectors)[:, np.newaxis]])


def _last_components(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the component that `_points` adds for the inner product."""
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    last: NDArray[np.float32] = np.sqrt(np.maximum(squares.max(initial=0) - squares, 0)).astype(
        np.float32
    )
    return last


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
        last = _last_components(vectors) if metric == "inner_product" else None
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
        squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
        self._length_max = float(np.sqrt(squares.max(initial=0)))

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
        point = self._point(query)
        accept = None if accepted is None else accepted.__getitem__
        with self._gate.holding(max(ef, count)):
            try:
                labels, _ = self._index.knn_query(point, k=count, num_threads=1, filter=accept)
            except RuntimeError:  # "Cannot return the results in a contiguous 2D array"
                return Neighbors(np.empty(0, np.int64), np.empty(0, np.float32))
        rows = labels[0].astype(np.int64)
        # The scores of an exact search, not distances in the space of the graph.
        return best_first(rows, similarity(self._vectors[rows], query, self._metric), count)

    def _point(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the point to search near; see `_points`.

        For the inner product, as long as the longest vector: the order does not depend on a query's
        length, but far from the points, or too near to 0, their distances from it drown in float32.
        """
        if self._metric != "inner_product":
            return query
        # In float64: what makes a query of length 1e-38 longer is more than float32 holds.
        whole = query.astype(np.float64)
        length = float(np.linalg.norm(whole))
        scale = self._length_max / length if length else 0.0
        return np.append(whole * scale, 0).astype(np.float32)


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
