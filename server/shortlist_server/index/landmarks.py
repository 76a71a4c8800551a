"""A second opinion on what a graph search found, from a division of the items that owes the graph
nothing.

A graph search walks from one entry point and may end far from the query: where the query lies off
the data, where thousands of items have the same vector, where the graph has few links. It cannot
tell. So items are divided among landmarks, each with the one nearest to it, and some items of the
landmarks nearest to the query, its witnesses, are compared as well. Where more than a third of
those that belong in the list are missing from it, it is not to be trusted. Decision 014 has the
measurements.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.allowed import Allowed
from shortlist_server.index.vector_index import Metric, Neighbors, similarity

LANDMARKS_MAX = 1_024
ITEMS_MIN = 32
"""Items for each landmark, at least, on average."""
NEAREST = 4
"""Landmarks asked for one query."""
WITNESSES = 32
"""Items compared of each of these landmarks."""
MISSING_MAX = 1 / 3
"""Share of the witnesses that belong in a list and may be missing from it."""
CHUNK_ROWS = 16_384


class Landmarks:
    """Divides vectors among some of them, and checks answers."""

    def __init__(self, vectors: NDArray[np.float32], metric: Metric) -> None:
        """Divide the vectors: one comparison of each with each landmark.

        Args:
            vectors: [items, dimension] float32, of unit length if the metric is cosine; at least
                one item.
            metric: The bundle's metric.
        """
        self._metric: Metric = metric
        draw = np.random.default_rng(0)
        count = min(LANDMARKS_MAX, max(1, len(vectors) // ITEMS_MIN))
        points = vectors[np.sort(draw.choice(len(vectors), count, replace=False))]
        if metric == "l2":
            halves = (np.einsum("ij,ij->i", points, points) / 2).astype(np.float32)
        else:
            # By direction: near the longest vector would be nearly all of them.
            lengths = np.linalg.norm(points, axis=1, keepdims=True)
            points = (points / np.where(lengths > 0, lengths, 1)).astype(np.float32)
            halves = np.zeros(count, np.float32)
        homes = np.empty(len(vectors), np.int64)
        for start in range(0, len(vectors), CHUNK_ROWS):
            part = vectors[start : start + CHUNK_ROWS] @ points.T - halves
            homes[start : start + CHUNK_ROWS] = part.argmax(axis=1)
        # At random within a landmark, so that its first items stand for all of them.
        order = draw.permutation(len(vectors))
        order = order[np.argsort(homes[order], kind="stable")]
        ends = np.cumsum(np.bincount(homes, minlength=count))
        starts = np.concatenate([[0], ends[:-1]])
        # Landmarks of the same vector: the first has the items.
        used = np.flatnonzero(ends > starts)
        self._points = np.ascontiguousarray(points[used])
        self._halves = halves[used]
        self._rows = [order[starts[i] : min(ends[i], starts[i] + WITNESSES)] for i in used]
        # Copied together: fetched from all over the memory they take longer than the rest of this.
        self._witnesses = [vectors[rows] for rows in self._rows]

    def doubt(self, query: NDArray[np.float32], found: Neighbors, allowed: Allowed) -> bool:
        """Return whether a list misses more than `MISSING_MAX` of the items that belong in it, as
        far as the witnesses tell.

        Args:
            query: [dimension] float32, of unit length if the metric is cosine.
            found: At least one item, best first.
            allowed: Which items may come back.
        """
        near = self._points @ query - self._halves
        nearest = min(NEAREST, len(near))
        best = np.argpartition(near, len(near) - nearest)[len(near) - nearest :]
        rows = np.concatenate([self._rows[i] for i in best])
        witnesses = np.concatenate([self._witnesses[i] for i in best])
        scores = similarity(witnesses, query, self._metric)
        # Items as good as the last one found may be left out rightly.
        better = rows[scores > found.scores[-1]]
        if allowed.held is not None or len(allowed.excluded):
            better = better[allowed.among(better)]
        # Several times as fast as np.isin for so few.
        missing = set(better.tolist()).difference(found.rows.tolist())
        return len(missing) > MISSING_MAX * len(better)
