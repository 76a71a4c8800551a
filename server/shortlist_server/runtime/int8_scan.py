"""Coarse scores of all items in 8-bit integers: a quarter of the memory to read, and an eighth of
the time on CPUs that multiply them natively. Decision 009 has the measurements.

Item i is the mean of all items plus `scale[i]` times whole numbers from -127 to 127, plus what
that leaves over, whose length is known. The query is two such vectors, a coarse and a fine one, so
that little is lost by it. Whole numbers are added without rounding, which makes the largest error
of a score known too:

    |q.w - q'.w'| <= |q| |w - w'| + |q - q'| |w'|
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from shortlist_server.index.coarse import (
    EPSILON,
    TINY,
    CoarseScan,
    Float32Scan,
    length,
    length_max,
)
from shortlist_server.index.vector_index import Checkpoint, Metric
from shortlist_server.runtime.onnx_session import open_model
from shortlist_server.runtime.onnx_writer import Node, model

CHUNK_NUMBERS = 1 << 23
"""Components compared by one kernel call: 0.2 ms of work for one core of the build machine, and
less than 3 ms for one that is ten times slower at it.
"""
ITEM_LIMIT = 127
QUERY_LIMIT = 63
"""Of the query 7 bits are used: kernels for CPUs without VNNI add two products in 16 bits, which
8 bits overflow.
"""
ZERO = QUERY_LIMIT + 1
ROUNDINGS = 16
"""More float32 operations than a coarse score sees."""
NUMBERS_MIN = 1 << 18
"""Below so many components either way takes a few microseconds."""


def faster_scan(vectors: NDArray[np.float32], metric: Metric) -> CoarseScan:
    """Return the way to compare all items that is the faster one here.

    Args:
        vectors: [items, dimension] float32, of unit length if the metric is cosine.
        metric: The bundle's metric.
    """
    plain = Float32Scan(vectors, metric)
    if vectors.size < NUMBERS_MIN:
        return plain
    int8 = Int8Scan(vectors, metric)
    queries = vectors[:: len(vectors) // 5][:5]
    return int8 if _least_s(int8, queries) < _least_s(plain, queries) else plain


def _least_s(scan: CoarseScan, queries: NDArray[np.float32]) -> float:
    """Return the shortest of several runs: other work on the machine only ever adds."""
    spent = []
    for query in queries:
        begin = time.perf_counter()
        scan.scores(query, lambda: None)
        spent.append(time.perf_counter() - begin)
    return min(spent)


class Int8Scan:
    """Compares a query with all items in 8-bit integers."""

    def __init__(self, vectors: NDArray[np.float32], metric: Metric) -> None:
        """Quantise the vectors; takes as many bytes of memory as they have components.

        Args:
            vectors: [items, dimension] float32, of unit length if the metric is cosine; at least
                one item.
            metric: The bundle's metric.
        """
        self._size, dimension = vectors.shape
        self._distance = metric == "l2"
        self._mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._length_max = length_max(vectors)
        self._around_max = self._rest_max = self._kept_max = 0.0
        rows = max(1, CHUNK_NUMBERS // dimension)
        self._parts = [
            open_model(self._part(vectors[start : start + rows]))
            for start in range(0, self._size, rows)
        ]

    def scores(
        self, query: NDArray[np.float32], checkpoint: Checkpoint
    ) -> tuple[NDArray[np.float32], float]:
        """Compare all; see `index.coarse.CoarseScan`."""
        point = query - self._mean if self._distance else query
        numbers, scales = _in_two(point)
        feeds = {"query": numbers, "scales": scales}
        found = []
        for part in self._parts:
            checkpoint()
            found.append(part.run(None, feeds)[0][0])
        scores = found[0] if len(found) == 1 else np.concatenate(found)
        rest = point - scales[0] @ (numbers.astype(np.float32) - ZERO)
        return scores, self._error(query, point, rest)

    def _error(
        self,
        query: NDArray[np.float32],
        point: NDArray[np.float32],
        rest: NDArray[np.float32],
    ) -> float:
        whole, asked = length(query), length(point)
        quantised = asked * self._rest_max + length(rest) * self._kept_max
        # What `similarity` rounds, and what is rounded here: shares of the numbers in between.
        between = whole * self._length_max + asked * self._around_max
        if self._distance:
            reach = asked + self._around_max
            between = reach * (reach + whole + self._length_max)
        # What is too small for that rounds by a fixed step, before it is scaled and after.
        steps = TINY * (1 + self._around_max)
        return quantised + (len(query) + ROUNDINGS) * (EPSILON * between + steps)

    def _part(self, vectors: NDArray[np.float32]) -> bytes:
        """Return a model that scores some of the items, and note how far off it may be."""
        around = vectors - self._mean
        scales = np.abs(around).max(axis=1) / np.float32(ITEM_LIMIT)
        divisors = np.where(scales > 0, scales, 1)[:, np.newaxis]
        numbers = np.rint(around / divisors).clip(-ITEM_LIMIT, ITEM_LIMIT).astype(np.int8)
        kept = numbers * scales[:, np.newaxis]
        self._around_max = max(self._around_max, length_max(around))
        self._kept_max = max(self._kept_max, length_max(kept))
        # In float64, so that what rounding around the mean has lost is in it.
        rest = vectors.astype(np.float64) - self._mean - kept
        self._rest_max = max(self._rest_max, float(np.linalg.norm(rest, axis=1).max()))
        count, dimension = vectors.shape
        constants: dict[str, NDArray[np.generic]] = {
            "items": np.ascontiguousarray(numbers.T),
            "zero": np.array(ZERO, np.uint8),
            "item_scales": scales,
        }
        nodes = [
            Node("MatMulInteger", ["query", "items", "zero"], "products"),
            Node("Cast", ["products"], "numbers", {"to": 1}),
            Node("MatMul", ["scales", "numbers"], "sums"),
            Node("Mul", ["sums", "item_scales"], "scaled" if self._distance else "scores"),
        ]
        if self._distance:
            # -|v - q|^2 is 2 q.v - |v|^2 - |q|^2, all from the mean; half of it, without the last.
            squares = np.einsum("ij,ij->i", around, around, dtype=np.float64)
            constants["halves"] = (squares / 2).astype(np.float32)
            nodes.append(Node("Sub", ["scaled", "halves"], "scores"))
        return model(
            nodes,
            inputs={"query": ("uint8", [2, dimension]), "scales": ("float32", [1, 2])},
            outputs={"scores": ("float32", [1, count])},
            constants=constants,
        )


def _in_two(point: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return whole numbers [2, dimension], from `ZERO`, and their scales [1, 2]: the scaled sum of
    both is nearly the point.
    """
    numbers = np.empty((2, len(point)), np.uint8)
    scales = np.zeros((1, 2), np.float32)
    rest = point
    for line in range(2):
        scale = np.abs(rest).max(initial=0) / np.float32(QUERY_LIMIT)
        if not scale > 0:
            numbers[line:] = ZERO
            break
        whole = np.rint(rest / scale).clip(-QUERY_LIMIT, QUERY_LIMIT)
        numbers[line] = whole + ZERO
        scales[0, line] = scale
        rest = rest - whole * scale
    return numbers, scales
