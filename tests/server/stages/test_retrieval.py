from __future__ import annotations

import numpy as np
import pytest
from shortlist_server.funnel.types import NO_ROWS, Candidates, EncodedQuery
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.vector_index import Neighbors
from shortlist_server.stages.retrieval import NearestSource, RetrievalOptions

VECTORS = np.random.default_rng(4).normal(size=(50, 4)).astype(np.float32)
QUERY = EncodedQuery(embedding=VECTORS[0], source="two_tower", personal=True, plan="")


class StrandedGraph:
    """A graph whose links lead to three items only."""

    size = 50

    def __init__(self) -> None:
        self.call_count = 0

    def search(self, query: np.ndarray, k: int, *, ef: int, excluded: np.ndarray) -> Neighbors:
        self.call_count += 1
        rows = np.arange(min(k, 3))
        return Neighbors(rows, (VECTORS[rows] @ query).astype(np.float32))


def retrieve(
    graph: StrandedGraph, k: int, excluded: np.ndarray = NO_ROWS, **asked: object
) -> Candidates:
    source = NearestSource(
        exact=ExactIndex(VECTORS, "inner_product"),
        graph=graph,
        vectors=VECTORS,
        metric="inner_product",
        options=RetrievalOptions(exact_items_max=10, fetched_max=30, ef=10),
    )
    return source.retrieve(QUERY, k, **({"ef": None, "exact": False} | asked), excluded=excluded)  # type: ignore[arg-type]


@pytest.mark.parametrize("ef", [None, 5])
def test_graph_that_finds_too_few_is_replaced_by_a_scan(ef: int | None) -> None:
    graph = StrandedGraph()
    found = retrieve(graph, 20, ef=ef)
    assert graph.call_count == 1
    assert found.plan == "exact 50 of 50"
    assert found.rows.tolist() == np.argsort(-(VECTORS @ VECTORS[0]))[:20].tolist()


def test_graph_that_finds_enough_is_believed() -> None:
    assert retrieve(StrandedGraph(), 3).plan == "hnsw ef=10"


@pytest.mark.parametrize("ef", [None, 5])
def test_graph_is_not_asked_for_more_than_its_bound(ef: int | None) -> None:
    graph = StrandedGraph()
    found = retrieve(graph, 3, excluded=np.arange(40), ef=ef)
    assert graph.call_count == 0
    assert len(found.rows) == 3
    assert found.rows.min() >= 40
