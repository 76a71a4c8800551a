from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shortlist_server.errors import BundleCorrupt
from shortlist_server.funnel.allowed import Allowed, Selection
from shortlist_server.index import hnsw
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.hnsw import HnswIndex
from shortlist_server.index.vector_index import Metric, Neighbors, similarity

NOTHING = np.empty(0, np.int64)
METRICS: list[Metric] = ["inner_product", "cosine", "l2"]


def clustered(count: int, dimension: int, metric: Metric, seed: int = 3) -> np.ndarray:
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(12, dimension))
    vectors = centres[draw.integers(0, 12, count)] + 0.5 * draw.normal(size=(count, dimension))
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def built(vectors: np.ndarray, metric: Metric, path: Path) -> HnswIndex:
    hnsw.build(vectors, path, metric=metric, m=16, ef_construction=200, seed=1)
    return HnswIndex(path, vectors, metric=metric, m=16, name="index.bin")


def oracle(
    vectors: np.ndarray, query: np.ndarray, metric: Metric, k: int, excluded: np.ndarray
) -> list[int]:
    wide, point = vectors.astype(np.float64), query.astype(np.float64)
    scores = -((wide - point) ** 2).sum(axis=1) if metric == "l2" else wide @ point
    order = sorted(
        set(range(len(vectors))) - set(excluded.tolist()), key=lambda row: (-scores[row], row)
    )
    return order[:k]


def scan(
    vectors: np.ndarray,
    metric: Metric,
    query: np.ndarray,
    k: int,
    excluded: np.ndarray = NOTHING,
    by_rows: bool = False,
    selection: Selection | None = None,
) -> Neighbors:
    allowed = Allowed(len(vectors), selection, excluded)
    index = ExactIndex(vectors, metric)
    return index.search(query, k, allowed=allowed, checkpoint=lambda: None, by_rows=by_rows)


@settings(max_examples=120)
@given(
    count=st.integers(1, 80),
    k=st.integers(1, 100),
    metric=st.sampled_from(METRICS),
    seed=st.integers(0, 99),
    excluded_count=st.integers(0, 80),
    share=st.sampled_from([None, 0.0, 0.1, 0.5, 1.0]),
    by_rows=st.booleans(),
)
def test_exact_search_equals_a_plain_sort(
    count: int,
    k: int,
    metric: Metric,
    seed: int,
    excluded_count: int,
    share: float | None,
    by_rows: bool,
) -> None:
    vectors = clustered(count, 8, metric, seed)
    draw = np.random.default_rng(seed)
    query = vectors[draw.integers(0, count)]
    excluded = np.sort(draw.choice(count, min(excluded_count, count), replace=False)).astype(
        np.int64
    )
    mask = np.ones(count, np.bool_) if share is None else draw.random(count) < share
    selection = None if share is None else Selection("", lambda: mask)
    found = scan(vectors, metric, query, k, excluded, by_rows, selection)
    left_out = np.union1d(excluded, np.flatnonzero(~mask))
    assert found.rows.tolist() == oracle(vectors, query, metric, k, left_out)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("by_rows", [False, True])
def test_exact_search_of_a_large_catalogue_equals_a_plain_sort(
    metric: Metric, by_rows: bool
) -> None:
    """Large enough for several pieces of a scan, and for the bound that a sample gives."""
    vectors = clustered(50_000, 64, metric)
    mask = np.random.default_rng(3).random(50_000) < 0.5
    for selection in (None, Selection("", lambda: mask)):
        left_out = NOTHING if selection is None else np.flatnonzero(~mask)
        found = scan(vectors, metric, vectors[9], 300, NOTHING, by_rows, selection)
        expected = similarity(vectors, vectors[9], metric)
        expected[left_out] = -np.inf
        order = np.lexsort((np.arange(50_000), -expected))[:300]
        assert found.rows.tolist() == order.tolist()
        assert found.scores.tolist() == expected[order].tolist()


def test_exact_search_stops_where_its_checkpoint_says_so() -> None:
    vectors = clustered(200_000, 64, "inner_product")
    index, calls = ExactIndex(vectors, "inner_product"), 0

    def checkpoint() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise TimeoutError

    for by_rows in (False, True):
        calls = 0
        with pytest.raises(TimeoutError):
            index.search(
                vectors[0], 5, allowed=Allowed(200_000), checkpoint=checkpoint, by_rows=by_rows
            )
        assert calls == 3


def test_equal_scores_at_the_cut_go_to_the_lower_rows() -> None:
    vectors = np.ones((10, 4), np.float32)
    found = scan(vectors, "inner_product", vectors[0], 3, np.array([1]))
    assert found.rows.tolist() == [0, 2, 3]


@pytest.mark.parametrize("metric", METRICS)
def test_graph_and_scan_give_the_same_scores_and_nearly_the_same_items(
    metric: Metric, tmp_path: Path
) -> None:
    vectors = clustered(3_000, 16, metric)
    graph = built(vectors, metric, tmp_path / "i")
    shared = 0
    for query in vectors[::150]:
        found, truth = graph.nearest(query, 50, ef=200), scan(vectors, metric, query, 50)
        scores = dict(zip(truth.rows.tolist(), truth.scores.tolist(), strict=True))
        for row, score in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
            if row in scores:
                shared += 1
                assert score == scores[row]
        assert (np.diff(found.scores) <= 0).all()
    assert shared / (20 * 50) >= 0.95


def test_searches_of_different_width_side_by_side_answer_as_alone(tmp_path: Path) -> None:
    vectors = clustered(4_000, 16, "inner_product")
    graph = built(vectors, "inner_product", tmp_path / "i")
    queries = vectors[:40]
    alone = {
        ef: [graph.nearest(query, 10, ef=ef).rows.tolist() for query in queries] for ef in (10, 300)
    }
    assert alone[10] != alone[300], (
        "the widths must differ in what they find, or this test shows nothing"
    )
    wrong: list[int] = []

    def search(ef: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(5):
                for position, query in enumerate(queries):
                    if graph.nearest(query, 10, ef=ef).rows.tolist() != alone[ef][position]:
                        wrong.append(ef)

        return run

    threads = [threading.Thread(target=search(ef)) for ef in (10, 300, 10, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_score_of_an_item_does_not_depend_on_its_neighbours() -> None:
    vectors = clustered(500, 32, "inner_product")
    for metric in METRICS:
        together = similarity(vectors, vectors[3], metric)
        alone = [similarity(vectors[row : row + 1], vectors[3], metric)[0] for row in range(500)]
        assert together.tolist() == alone


def test_length_of_a_query_does_not_change_what_the_graph_finds(tmp_path: Path) -> None:
    vectors = clustered(3_000, 16, "inner_product")
    graph = built(vectors, "inner_product", tmp_path / "i")
    query = vectors[5]
    plain = graph.nearest(query, 50, ef=200).rows.tolist()
    # 1e-41 leaves a few digits of each component. Warnings, as of an overflow, are errors.
    for scale in (1e-41, 1e-38, 1e-12, 1e-4, 1e4, 1e12):
        scaled = graph.nearest(query * np.float32(scale), 50, ef=200)
        assert len(set(scaled.rows.tolist()) & set(plain)) >= 48


def test_exact_search_is_exact_far_from_the_origin() -> None:
    vectors = (1_000 + 0.01 * np.random.default_rng(2).normal(size=(300, 16))).astype(np.float32)
    found = scan(vectors, "l2", vectors[7], 10)
    assert found.rows.tolist() == oracle(vectors, vectors[7], "l2", 10, NOTHING)
    assert found.rows[0] == 7


class TestDamagedIndexFiles:
    @pytest.fixture
    def vectors(self) -> np.ndarray:
        return clustered(200, 8, "inner_product")

    @pytest.fixture
    def path(self, vectors: np.ndarray, tmp_path: Path) -> Path:
        hnsw.build(
            vectors, tmp_path / "i", metric="inner_product", m=16, ef_construction=50, seed=1
        )
        return tmp_path / "i"

    def load(self, path: Path, vectors: np.ndarray, m: int = 16) -> HnswIndex:
        return HnswIndex(path, vectors, metric="inner_product", m=m, name="index.bin")

    def test_index_of_other_vectors_is_refused(self, path: Path, vectors: np.ndarray) -> None:
        with pytest.raises(BundleCorrupt, match="vectors are not the item embeddings"):
            self.load(path, vectors[::-1].copy())

    def test_index_of_another_dimension_is_refused(self, path: Path, vectors: np.ndarray) -> None:
        with pytest.raises(BundleCorrupt, match="bytes per item: expected 168, got 176"):
            self.load(path, vectors[:, :6].copy())

    def test_index_of_another_count_is_refused(self, path: Path, vectors: np.ndarray) -> None:
        with pytest.raises(BundleCorrupt, match="item count: expected 199, got 200"):
            self.load(path, vectors[:199])

    def test_index_with_other_links_is_refused(self, path: Path, vectors: np.ndarray) -> None:
        with pytest.raises(BundleCorrupt, match=r"expected .* got"):
            self.load(path, vectors, m=8)

    @pytest.mark.parametrize("size", [0, 10, 96, 5_000, -40, -1])
    def test_cut_file_is_refused(self, path: Path, vectors: np.ndarray, size: int) -> None:
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(BundleCorrupt, match=r"index\.bin"):
            self.load(path, vectors)
