"""Coarse scores are off by no more than they say, and an exact search on them stays exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shortlist_server.funnel.allowed import Allowed, Selection
from shortlist_server.index.coarse import Float32Scan
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.vector_index import Metric, best_first, similarity
from shortlist_server.runtime import int8_scan
from shortlist_server.runtime.int8_scan import Int8Scan, faster_scan

Vectors = NDArray[np.float32]
METRICS = st.sampled_from(["inner_product", "cosine", "l2"])


def go_on() -> None:
    """Let the work go on."""


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Vectors, Vectors, Metric]:
    """Items and a query, some of them awkward: far from the origin, of many lengths, repeated."""
    metric = draw(METRICS)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, dimension = draw(st.integers(1, 400)), draw(st.integers(1, 80))
    items = random.standard_normal((count, dimension))
    items *= draw(st.sampled_from([1e-6, 1.0, 1e4]))
    items *= random.lognormal(0, draw(st.sampled_from([0.0, 1.0, 3.0])), (count, 1))
    items += draw(st.sampled_from([0.0, 1.0, 1e3]))
    items[random.random(count) < draw(st.sampled_from([0.0, 0.5]))] = items[0]
    items[random.random(count) < draw(st.sampled_from([0.0, 0.2]))] = 0
    query = items[random.integers(count)] + random.standard_normal(dimension) * draw(
        st.sampled_from([0.0, 0.1, 10.0])
    )
    if metric == "inner_product":
        query *= draw(st.sampled_from([1.0, 1e-38, 1e-42]))
    if metric == "cosine":
        items /= np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-9)
        query /= max(float(np.linalg.norm(query)), 1e-9)
    return items.astype(np.float32), query.astype(np.float32), metric


@given(worlds(), st.sampled_from([1 << 23, 512]))
@settings(max_examples=200, deadline=None)
def test_no_score_is_off_by_more_than_the_scan_says(
    world: tuple[Vectors, Vectors, Metric], chunk: int
) -> None:
    items, query, metric = world
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_scan, "CHUNK_NUMBERS", chunk)
        scan = Int8Scan(items, metric)
    scores, error = scan.scores(query, go_on)
    true = similarity(items, query, metric).astype(np.float64) / (2 if metric == "l2" else 1)
    off = scores - true
    # All may be off by the same: half of what lies between the extremes is each one's share.
    assert (off.max() - off.min()) / 2 <= error


@given(worlds(), st.integers(1, 50), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_search_on_it_finds_what_a_search_without_it_finds(
    world: tuple[Vectors, Vectors, Metric], k: int, seed: int
) -> None:
    items, query, metric = world
    mask = np.random.default_rng(seed).random(len(items)) < 0.6
    for allowed in (Allowed(len(items)), Allowed(len(items), Selection("", lambda: mask))):
        plain = ExactIndex(items, metric).search(query, k, allowed=allowed, checkpoint=go_on)
        coarse = ExactIndex(items, metric, Int8Scan(items, metric))
        found = coarse.search(query, k, allowed=allowed, checkpoint=go_on)
        np.testing.assert_array_equal(found.rows, plain.rows)
        np.testing.assert_array_equal(found.scores, plain.scores)


def test_scores_too_small_for_all_digits_are_searched_as_exactly() -> None:
    random = np.random.default_rng(0)
    items = (random.standard_normal((3_000, 64)) * 1e-3).astype(np.float32)
    scan, allowed = Int8Scan(items, "inner_product"), Allowed(len(items))
    for scale in (1e-38, 1e-42, 1e-44):
        for query in (random.standard_normal((10, 64)) * scale).astype(np.float32):
            scores = similarity(items, query, "inner_product")
            for coarse in (scan, None):
                index = ExactIndex(items, "inner_product", coarse)
                found = index.search(query, 10, allowed=allowed, checkpoint=go_on)
                true = best_first(np.arange(len(items)), scores, 10)
                np.testing.assert_array_equal(found.rows, true.rows)


def test_few_items_are_left_to_compare_again() -> None:
    random = np.random.default_rng(3)
    items = random.standard_normal((20_000, 64)).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    scores, error = Int8Scan(items, "cosine").scores(items[0], go_on)
    assert np.count_nonzero(scores >= np.sort(scores)[-100] - 2 * error) < 200


def test_query_of_extremes_does_not_overflow() -> None:
    # Kernels without VNNI add pairs of products in 16 bits.
    items = np.ones((64, 96), np.float32)
    items[::2] = -1
    scores, error = Int8Scan(items, "inner_product").scores(np.ones(96, np.float32), go_on)
    np.testing.assert_allclose(scores[1] - scores[0], 192, atol=2 * error)


def test_zero_query_scores_all_alike() -> None:
    items = np.eye(5, dtype=np.float32)
    scores, _ = Int8Scan(items, "inner_product").scores(np.zeros(5, np.float32), go_on)
    assert set(scores.tolist()) == {0.0}


def test_checkpoint_is_asked_before_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_scan, "CHUNK_NUMBERS", 8 * 10)
    items = np.random.default_rng(0).standard_normal((35, 8)).astype(np.float32)
    asked: list[int] = []
    Int8Scan(items, "l2").scores(items[0], lambda: asked.append(1))
    assert len(asked) == 4


def test_small_catalogues_are_compared_in_float32() -> None:
    items = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    assert isinstance(faster_scan(items, "l2"), Float32Scan)


def test_the_faster_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    items = np.random.default_rng(0).standard_normal((5_000, 64)).astype(np.float32)
    for slower, faster in ((Int8Scan, Float32Scan), (Float32Scan, Int8Scan)):
        monkeypatch.setattr(
            int8_scan, "_least_s", lambda scan, queries, slower=slower: float(type(scan) is slower)
        )
        assert isinstance(faster_scan(items, "inner_product"), faster)
