"""The choice between scan and graph by what they are said to cost, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist_server.funnel.allowed import Allowed, Selection
from shortlist_server.funnel.arrays import NO_ROWS
from shortlist_server.index import hnsw
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.hnsw import HnswIndex
from shortlist_server.index.plan import KERNEL_NS_MAX, SearchCosts, SearchPlan, measure
from shortlist_server.index.searcher import Searcher, SearcherOptions
from shortlist_server.index.vector_index import Neighbors, similarity

COUNT = 3_000
DIMENSION = 16
MS = 1e6


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    draw = np.random.default_rng(5)
    centres = draw.normal(size=(20, DIMENSION))
    noise = 0.4 * draw.normal(size=(COUNT, DIMENSION))
    return (centres[draw.integers(0, 20, COUNT)] + noise).astype(np.float32)


class NotingGraph:
    """The real graph; notes what it is asked, and may give less than it found."""

    def __init__(self, own: HnswIndex) -> None:
        self._own = own
        self.asked: list[tuple[int, int, bool]] = []
        """Count, width and whether a filter was asked, of each search."""
        self.given_max: int | None = None

    @property
    def size(self) -> int:
        return self._own.size

    def nearest(
        self, query: Any, count: int, *, ef: int, accepted: bytes | None = None
    ) -> Neighbors:
        self.asked.append((count, ef, accepted is not None))
        found = self._own.nearest(query, count, ef=ef, accepted=accepted)
        most = self.given_max
        return found if most is None else Neighbors(found.rows[:most], found.scores[:most])


@pytest.fixture(scope="module")
def index(vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> HnswIndex:
    path: Path = tmp_path_factory.mktemp("graph") / "index.bin"
    hnsw.build(vectors, path, metric="inner_product", m=16, ef_construction=100, seed=1)
    return HnswIndex(path, vectors, metric="inner_product", m=16, name="index.bin")


@pytest.fixture
def graph(index: HnswIndex) -> NotingGraph:
    return NotingGraph(index)


Make = Callable[..., Searcher]


@pytest.fixture
def make(vectors: np.ndarray, graph: NotingGraph) -> Make:
    def searcher(
        *,
        exact_items_max: int = 0,
        exact_ms_max: float = 0.0,
        fetched_max: int = 4_096,
        ef: int = 50,
        **costs: float,
    ) -> Searcher:
        known = {
            "scan_ns": 1_000.0,
            "gather_ns": 3_000.0,
            "scan_base_ns": 0.0,
            "graph_ns": 100.0,
            "graph_base_ns": 0.0,
            "visit_ns": 1_000.0,
        }
        return Searcher(
            exact=ExactIndex(vectors, "inner_product"),
            graph=graph,  # type: ignore[arg-type]
            costs=SearchCosts(**(known | costs)),
            options=SearcherOptions(
                exact_items_max=exact_items_max,
                exact_ms_max=exact_ms_max,
                fetched_max=fetched_max,
                ef=ef,
            ),
        )

    return searcher


def go_on() -> None:
    """There is time."""


def allowed(share: float = 1.0, excluded: np.ndarray = NO_ROWS, seed: int = 1) -> Allowed:
    if share == 1.0:
        return Allowed(COUNT, None, excluded)
    mask = np.random.default_rng(seed).random(COUNT) < share
    return Allowed(COUNT, Selection("some", lambda: mask), excluded)


def true_rows(vectors: np.ndarray, query: np.ndarray, k: int, of: Allowed) -> list[int]:
    scores = similarity(vectors, query, "inner_product")
    order = np.lexsort((np.arange(COUNT), -scores))
    return [int(row) for row in order if of.mask[row]][:k]


def search(searcher: Searcher, query: np.ndarray, k: int, of: Allowed, **options: Any) -> Any:
    return searcher.search(query, k, allowed=of, checkpoint=go_on, **options)


def test_nothing_allowed_is_found_without_a_search(
    make: Make, vectors: np.ndarray, graph: NotingGraph
) -> None:
    for of in (allowed(0.0), allowed(excluded=np.arange(COUNT))):
        found, plan = search(make(), vectors[0], 5, of)
        assert (len(found.rows), plan.kind, str(plan)) == (0, "none", f"none of {COUNT} allowed")
        assert not plan.approximate
    assert graph.asked == []


@pytest.mark.parametrize(
    ("costs", "share", "kind"),
    [
        ({}, 1.0, "hnsw"),
        ({"scan_ns": 0.001}, 1.0, "exact"),
        ({}, 0.5, "over_fetch"),
        ({"visit_ns": 1.0}, 0.5, "filtered"),
        ({"fetched_max": 40}, 0.5, "filtered"),
        ({"scan_ns": 0.1, "gather_ns": 9.0}, 0.5, "exact"),
        ({"scan_ns": 0.3, "gather_ns": 0.4}, 0.1, "exact_rows"),
        ({"exact_ms_max": 3.1}, 1.0, "exact"),
        ({"exact_ms_max": 2.9}, 1.0, "hnsw"),
        ({"exact_items_max": COUNT}, 1.0, "exact"),
        ({"exact_items_max": COUNT - 1}, 1.0, "hnsw"),
        ({"exact_items_max": COUNT, "gather_ns": 100.0}, 0.5, "exact_rows"),
    ],
)
def test_the_cheapest_way_is_taken(
    make: Make, vectors: np.ndarray, costs: dict[str, Any], share: float, kind: str
) -> None:
    of = allowed(share)
    found, plan = search(make(**costs), vectors[7], 20, of)
    assert plan.kind == kind
    assert len(found.rows) == 20
    assert of.mask[found.rows].all()
    if not plan.approximate:
        assert found.rows.tolist() == true_rows(vectors, vectors[7], 20, of)
    else:
        truth = set(true_rows(vectors, vectors[7], 20, of))
        assert len(truth & set(found.rows.tolist())) >= 17


def test_a_width_that_was_asked_for_goes_to_the_graph_also_in_a_small_catalogue(
    make: Make, vectors: np.ndarray, graph: NotingGraph
) -> None:
    searcher = make(exact_items_max=10**6, scan_ns=0.001)
    _, plan = search(searcher, vectors[3], 10, allowed(), ef=77)
    assert (plan.kind, plan.ef, str(plan)) == ("hnsw", 77, "hnsw ef=77")
    assert graph.asked == [(10, 77, False)]
    _, plan = search(searcher, vectors[3], 90, allowed(), ef=77)
    assert plan.ef == 90  # raised to what is wanted
    _, plan = search(searcher, vectors[3], 10, allowed(0.5), ef=77)
    assert plan.approximate


def test_exact_is_exact_whatever_it_costs(
    make: Make, vectors: np.ndarray, graph: NotingGraph
) -> None:
    searcher = make(scan_ns=1e9, gather_ns=1e9)
    for of in (allowed(), allowed(0.3), allowed(excluded=np.arange(0, COUNT, 2))):
        found, plan = search(searcher, vectors[3], 50, of, exact=True)
        assert not plan.approximate
        assert found.rows.tolist() == true_rows(vectors, vectors[3], 50, of)
    assert graph.asked == []


@pytest.mark.parametrize("share", [1.0, 0.5, 0.02])
@pytest.mark.parametrize("ef", [None, 400])
@pytest.mark.parametrize("given", [0, 3])
def test_a_graph_that_gives_too_little_is_followed_by_a_scan(
    make: Make,
    vectors: np.ndarray,
    graph: NotingGraph,
    share: float,
    ef: int | None,
    given: int,
) -> None:
    graph.given_max = given
    of = allowed(share, np.array([1, 2, 3]))
    searcher = make(scan_ns=1e6, gather_ns=1e6, visit_ns=0.1)
    found, plan = search(searcher, vectors[11], 20, of, ef=ef)
    assert graph.asked
    assert plan.kind in ("exact", "exact_rows")
    assert found.rows.tolist() == true_rows(vectors, vectors[11], 20, of)


def test_all_that_is_allowed_is_found_where_less_is_than_wanted(
    make: Make, vectors: np.ndarray
) -> None:
    for share in (0.001, 0.01, 0.4):
        of = allowed(share)
        for searcher in (make(), make(visit_ns=0.1), make(scan_ns=1e6, gather_ns=1e6)):
            found, _ = search(searcher, vectors[0], COUNT, of)
            assert sorted(found.rows.tolist()) == of.rows.tolist()


def test_excluded_items_are_fetched_on_top_of_those_wanted(
    make: Make, vectors: np.ndarray, graph: NotingGraph
) -> None:
    near = np.array(true_rows(vectors, vectors[0], 30, allowed()))
    of = allowed(excluded=np.sort(near))
    found, plan = search(make(), vectors[0], 20, of)
    assert str(plan) == "hnsw ef=50"
    assert graph.asked == [(50, 50, False)]
    assert not set(near.tolist()) & set(found.rows.tolist())
    assert len(found.rows) == 20
    many = allowed(excluded=np.arange(0, COUNT, 3))
    found, plan = search(make(fetched_max=100), vectors[0], 20, many)
    assert plan.kind != "hnsw"
    assert not (found.rows % 3 == 0).any()


def test_more_is_fetched_where_fewer_of_those_near_the_query_are_allowed(
    make: Make, vectors: np.ndarray, graph: NotingGraph
) -> None:
    """A filter that lets half of all through, and hardly any near this query."""
    query = vectors[0]
    near = true_rows(vectors, query, COUNT, allowed())
    mask = np.ones(COUNT, np.bool_)
    mask[near[: COUNT // 2]] = False
    against = Allowed(COUNT, Selection("against", lambda: mask), NO_ROWS)
    searcher = make(scan_ns=1e6, gather_ns=1e6, visit_ns=1e5)
    usual = search(searcher, query, 20, allowed(0.5))[1]
    graph.asked.clear()
    found, plan = search(searcher, query, 20, against)
    assert (usual.kind, plan.kind) == ("over_fetch", "over_fetch")
    assert plan.fetched > 10 * usual.fetched
    assert len(graph.asked) == 2
    truth = set(true_rows(vectors, query, 20, against))
    assert len(truth & set(found.rows.tolist())) >= 15
    # Asking the filter in the graph would take longer than 3 ms where so few are allowed.
    slow = make(scan_ns=1e6, gather_ns=2e6, fetched_max=0, visit_ns=KERNEL_NS_MAX / 150)
    assert search(slow, query, 20, allowed(0.5))[1].kind == "filtered"
    found, plan = search(slow, query, 20, against)
    assert plan.kind == "exact"
    assert found.rows.tolist() == true_rows(vectors, query, 20, against)


# No kernel call longer than 3 ms is planned: a scan is done in pieces instead.


@pytest.mark.parametrize(
    ("costs", "share", "ef"),
    [
        # One graph search would take longer than 3 ms: by its width, ...
        ({"graph_ns": KERNEL_NS_MAX / 49, "visit_ns": MS}, 1.0, None),
        ({"graph_ns": KERNEL_NS_MAX / 49, "visit_ns": MS}, 0.5, None),
        ({"graph_ns": KERNEL_NS_MAX / 49, "visit_ns": MS}, 1.0, 60),
        # ... by what it costs at all, ...
        ({"graph_base_ns": KERNEL_NS_MAX + 1}, 1.0, None),
        ({"graph_base_ns": KERNEL_NS_MAX + 1}, 0.5, 60),
        # ... or by how often it asks the filter.
        ({"fetched_max": 0, "visit_ns": KERNEL_NS_MAX / 90}, 0.5, None),
        ({"fetched_max": 0, "visit_ns": KERNEL_NS_MAX / 90}, 0.5, 50),
    ],
)
def test_a_kernel_call_that_would_be_too_long_gives_way_to_a_scan(
    make: Make,
    vectors: np.ndarray,
    graph: NotingGraph,
    costs: dict[str, Any],
    share: float,
    ef: int | None,
) -> None:
    of = allowed(share)
    searcher = make(scan_ns=1e9, gather_ns=2e9, **costs)
    found, plan = search(searcher, vectors[0], 40, of, ef=ef)
    assert plan.kind == "exact"
    assert graph.asked == []
    assert found.rows.tolist() == true_rows(vectors, vectors[0], 40, of)


@given(
    graph_ns=st.floats(1, 1e6),
    graph_base_ns=st.floats(0, 1e7),
    visit_ns=st.floats(1, 1e7),
    scan_ns=st.floats(0.1, 1e4),
    share=st.sampled_from([1.0, 0.9, 0.5, 0.1, 0.01]),
    k=st.integers(1, 1_000),
    ef=st.sampled_from([None, 1, 100, 4_096]),
    fetched_max=st.sampled_from([0, 100, 4_096]),
)
def test_no_graph_search_is_planned_that_is_expected_to_take_longer_than_three_milliseconds(
    vectors: np.ndarray,
    index: HnswIndex,
    graph_ns: float,
    graph_base_ns: float,
    visit_ns: float,
    scan_ns: float,
    share: float,
    k: int,
    ef: int | None,
    fetched_max: int,
) -> None:
    graph, of = NotingGraph(index), allowed(share)
    costs = SearchCosts(
        scan_ns=scan_ns, gather_ns=2 * scan_ns, scan_base_ns=0, graph_ns=graph_ns,
        graph_base_ns=graph_base_ns, visit_ns=visit_ns,
    )  # fmt: skip
    searcher = Searcher(
        exact=ExactIndex(vectors, "inner_product"),
        graph=graph,  # type: ignore[arg-type]
        costs=costs,
        options=SearcherOptions(
            exact_items_max=0, exact_ms_max=0.0, fetched_max=fetched_max, ef=50
        ),
    )
    found, plan = search(searcher, vectors[0], k, of, ef=ef)
    assert len(found.rows) == min(k, of.count)
    for count, width, filtered in graph.asked:
        width = min(max(width, count), COUNT)
        expected = costs.filtered(width, of.count / COUNT) if filtered else costs.graph(width)
        assert expected <= KERNEL_NS_MAX
    if ef is None and plan.approximate:
        # What was not chosen would have cost more.
        assert costs.exact(of)[0] >= min(costs.graph(k), costs.filtered(k, 1.0))


def test_searches_look_at_the_clock_before_each_kernel(
    make: Make, vectors: np.ndarray, graph: NotingGraph
) -> None:
    looks: list[int] = []

    def checkpoint() -> None:
        looks.append(len(graph.asked))

    searcher = make(scan_ns=1e6, gather_ns=1e6)
    searcher.search(vectors[0], 20, allowed=allowed(0.5), checkpoint=checkpoint)
    assert len(graph.asked) == 2  # the look at those near the query, and the search
    assert set(range(2)) <= set(looks)
    graph.given_max = 1
    looks.clear()
    searcher.search(vectors[0], 20, allowed=allowed(), checkpoint=checkpoint)
    assert looks.count(len(graph.asked)) >= 1  # and before the scan that follows


# Plans as texts.


PLANS = [
    SearchPlan(kind="none", size=9),
    SearchPlan(kind="exact", scanned=9, size=9),
    SearchPlan(kind="exact_rows", scanned=3, size=9),
    SearchPlan(kind="hnsw", ef=7),
    SearchPlan(kind="over_fetch", ef=7, fetched=5),
    SearchPlan(kind="filtered", ef=7),
]


@pytest.mark.parametrize("plan", PLANS, ids=[plan.kind for plan in PLANS])
def test_plans_are_read_back_from_their_texts(plan: SearchPlan) -> None:
    assert SearchPlan.parse(str(plan)) == plan
    assert SearchPlan.parse(f"x {plan}") is None
    assert SearchPlan.parse("popularity") is None


@pytest.mark.parametrize("share", [1.0, 0.5, 0.05])
def test_a_plan_that_is_given_is_followed_and_finds_the_same(
    make: Make, vectors: np.ndarray, share: float
) -> None:
    of = allowed(share, np.array([5, 6]))
    ways = (make(), make(visit_ns=0.1), make(scan_ns=0.001), make(fetched_max=0))
    for searcher in ways:
        first, plan = search(searcher, vectors[3], 20, of)
        for other in ways:
            again, followed = search(other, vectors[3], 20, of, plan=SearchPlan.parse(str(plan)))
            assert again.rows.tolist() == first.rows.tolist()
            assert followed.kind == plan.kind


def test_costs_are_measured_in_catalogues_of_any_size(tmp_path: Path) -> None:
    for count in (1, 2, 70, 900):
        points = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
        path = tmp_path / f"{count}.bin"
        hnsw.build(points, path, metric="l2", m=4, ef_construction=20, seed=1)
        graph = HnswIndex(path, points, metric="l2", m=4, name="index.bin")
        costs = measure(ExactIndex(points, "l2"), graph, points)
        for cost in (costs.scan_ns, costs.gather_ns, costs.graph_ns, costs.visit_ns):
            assert 0 < cost < 1_000 * MS
        assert costs.scan_base_ns >= 0
        assert costs.graph_base_ns >= 0
