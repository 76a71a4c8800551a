"""Lists that a graph search got wrong are found out, and searched again by scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from shortlist_server.funnel.allowed import Allowed, Selection
from shortlist_server.index import hnsw
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.hnsw import HnswIndex
from shortlist_server.index.landmarks import Landmarks
from shortlist_server.index.plan import SearchCosts
from shortlist_server.index.searcher import Searcher, SearcherOptions
from shortlist_server.index.vector_index import Metric, Neighbors

METRICS: tuple[Metric, ...] = ("inner_product", "cosine", "l2")
K = 100


def go_on() -> None:
    """There is time."""


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def repeated(metric: Metric) -> np.ndarray:
    """Return 20,000 vectors, 400 of them distinct."""
    draw = np.random.default_rng(3)
    vectors = draw.normal(size=(400, 32))[draw.integers(0, 400, 20_000)].astype(np.float32)
    return unit(vectors) if metric == "cosine" else vectors


def share_found(found: Neighbors, true: Neighbors) -> float:
    """Return the share of a list that is as good as the true one; equal vectors replace each
    other.
    """
    kth = true.scores[-1]
    return float(np.mean(found.scores >= kth - 1e-5 * abs(kth)))


@pytest.mark.parametrize("metric", METRICS)
def test_repeated_vectors_and_a_weak_graph_give_no_wrong_list(
    metric: Metric, tmp_path: Path
) -> None:
    vectors = repeated(metric)
    path = tmp_path / "index.bin"
    hnsw.build(vectors, path, metric=metric, m=8, ef_construction=50, seed=1)
    exact = ExactIndex(vectors, metric)
    searcher = Searcher(
        exact=exact,
        graph=HnswIndex(path, vectors, metric=metric, m=8, name="index.bin"),
        costs=SearchCosts(
            scan_ns=1e3, gather_ns=1e3, scan_base_ns=0, graph_ns=1, graph_base_ns=0, visit_ns=1e3
        ),
        options=SearcherOptions(exact_items_max=0, exact_ms_max=0.0, fetched_max=4_096, ef=50),
        landmarks=Landmarks(vectors, metric),
    )
    everything = Allowed(len(vectors))
    queries = vectors[np.random.default_rng(9).integers(0, len(vectors), 100)]
    kinds, shares = set(), []
    for query in queries:
        found, plan = searcher.search(query, K, allowed=everything, checkpoint=go_on)
        kinds.add(plan.kind)
        true = exact.search(query, K, allowed=everything, checkpoint=go_on)
        shares.append(share_found(found, true))
    assert "exact" in kinds
    assert min(shares) >= 0.2
    assert np.mean(shares) >= 0.9


@pytest.mark.parametrize("metric", METRICS)
def test_a_list_from_elsewhere_is_doubted_and_the_true_one_is_not(metric: Metric) -> None:
    draw = np.random.default_rng(4)
    vectors = (draw.normal(size=(50, 16))[draw.integers(0, 50, 8_000)]).astype(np.float32)
    vectors += (0.3 * draw.normal(size=vectors.shape)).astype(np.float32)
    queries = (vectors[::400] + 0.3 * draw.normal(size=(20, 16))).astype(np.float32)
    if metric == "cosine":
        vectors, queries = unit(vectors), unit(queries)
    exact, landmarks = ExactIndex(vectors, metric), Landmarks(vectors, metric)
    mask = draw.random(len(vectors)) < 0.5
    excluded = np.arange(0, len(vectors), 7)
    for allowed in (
        Allowed(len(vectors)),
        Allowed(len(vectors), Selection("half", lambda: mask), excluded),
    ):
        for query in queries:
            deep = exact.search(query, 3_000, allowed=allowed, checkpoint=go_on)
            assert not landmarks.doubt(query, Neighbors(deep.rows[:K], deep.scores[:K]), allowed)
            assert landmarks.doubt(query, Neighbors(deep.rows[-K:], deep.scores[-K:]), allowed)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_small_and_equal_catalogues_have_landmarks(count: int) -> None:
    vectors = np.zeros((count, 4), np.float32)
    for metric in METRICS:
        landmarks = Landmarks(vectors, metric)
        found = Neighbors(np.array([0]), np.zeros(1, np.float32))
        assert not landmarks.doubt(vectors[0], found, Allowed(count))
