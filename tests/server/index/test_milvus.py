"""Items in Milvus, against Milvus Lite over TCP: filters, recall, aliases, and when it is away."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import random_world
from hypothesis import given, settings
from milvus_server import MilvusServer
from pymilvus import MilvusClient
from random_requests import FILTERS
from shortlist.v1 import types_pb2 as types
from shortlist_server.bundle.columns import ColumnArray
from shortlist_server.catalog.columns import attribute_column
from shortlist_server.errors import BundleUnsupported, IndexUnavailable
from shortlist_server.funnel.allowed import Allowed, Selection
from shortlist_server.funnel.arrays import NO_ROWS
from shortlist_server.funnel.filter import AllOf, Contains, Filter, IsIn, NoneOf, Range
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.filters import AttributeFilters, FilterOptions
from shortlist_server.index.milvus import FAILURES_MAX, Milvus
from shortlist_server.index.milvus_expression import expression
from shortlist_server.index.milvus_fields import CAPACITY_MAX, FIELDS_MAX, MilvusRows
from shortlist_server.index.milvus_options import MilvusOptions
from shortlist_server.index.milvus_searcher import MilvusSearcher
from shortlist_server.index.vector_index import Metric, similarity
from shortlist_server.rpc.convert_filter import filter_from

COUNT, DIMENSION = 3_000, 12
CELLS: dict[str, tuple[str, list[Any]]] = {
    "colour; of 'it'": (
        "string",
        [None if row % 7 == 0 else ("", 'r"ed', "blüe", "x\\n")[row % 4] for row in range(COUNT)],
    ),
    "year": (
        "int64",
        [(-(2**63), 2**63 - 1)[row % 2] if row % 50 < 2 else row % 40 for row in range(COUNT)],
    ),
    "tags": (
        "string_list",
        [
            None if row % 11 == 0 else tuple("abcdef"[n] for n in range(row % 4))
            for row in range(COUNT)
        ],
    ),
}


def go_on() -> None:
    """There is time."""


@pytest.fixture(scope="module")
def filters() -> AttributeFilters:
    columns = {
        name: attribute_column(ColumnArray.of(name, kind, cells))
        for name, (kind, cells) in CELLS.items()
    }
    return AttributeFilters(columns, COUNT, FilterOptions(cache_bytes_max=1 << 20))


def vectors(metric: Metric) -> np.ndarray:
    draw = np.random.default_rng(5)
    # Of lengths that differ: where a graph over the inner product itself would miss many.
    made = draw.normal(size=(COUNT, DIMENSION)) * draw.uniform(0.2, 2.0, size=(COUNT, 1))
    if metric == "cosine":
        made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float32)


def queries(metric: Metric, count: int) -> np.ndarray:
    made = np.random.default_rng(6).normal(size=(count, DIMENSION))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def index(milvus_server: MilvusServer) -> Iterator[Milvus]:
    index = Milvus(MilvusOptions(uri=milvus_server.uri, timeout_s=30.0))
    yield index
    index.close()


def fill(index: Milvus, name: str, rows: MilvusRows) -> None:
    index.create(name, rows.fields, dimension=rows.dimension, m=16, ef_construction=100)
    for batch in rows.batches():
        index.upsert(name, batch)
    index.make_searchable(name)


@pytest.fixture(scope="module", params=["inner_product", "cosine", "l2"])
def searched(
    request: pytest.FixtureRequest, index: Milvus, filters: AttributeFilters
) -> MilvusSearcher:
    metric: Metric = request.param
    fill(index, f"items_{metric}", MilvusRows(vectors(metric), metric, filters.columns))
    return searcher(index, metric, filters)


def searcher(index: Any, metric: Metric, filters: AttributeFilters, **more: Any) -> MilvusSearcher:
    options: dict[str, Any] = {"alias": f"items_{metric}", "ef": 300, "scan_items_max": 0} | more
    return MilvusSearcher(
        index,
        exact=ExactIndex(vectors(metric), metric),
        metric=metric,
        columns=filters.columns,
        **options,
    )


def truth(metric: Metric, query: np.ndarray, k: int, allowed: Allowed) -> np.ndarray:
    scores = similarity(vectors(metric), query, metric)
    order = np.lexsort((np.arange(COUNT), -scores))
    return order[allowed.mask[order]][:k]


def wanted(filters: AttributeFilters) -> list[Filter | None]:
    colour = "colour; of 'it'"
    return [
        None,
        IsIn(attribute=colour, values=('r"ed', "x\\n", "no such")),
        NoneOf((IsIn(attribute=colour, values=("blüe",)),)),
        AllOf((Range(attribute="year", low=5, high=20), Contains(attribute="tags", value="b"))),
        IsIn(attribute="year", values=(-(2**63), 7)),
    ]


def test_it_finds_the_true_neighbours_of_what_the_filters_match(
    searched: MilvusSearcher, filters: AttributeFilters
) -> None:
    metric = searched._metric
    draw = np.random.default_rng(1)
    alive = draw.random(COUNT) < 0.7
    hits = total = 0
    for filter_ in wanted(filters):
        selection = None if filter_ is None else filters.chosen(filter_)
        if selection is not None and selection.text.startswith("all_of"):
            # As where items have changed: the filter, of the rows that hold an item.
            of = selection
            selection = Selection(of.text, lambda of=of: of.mask & alive, filter=of.filter)
        for query in queries(metric, 3):
            near = truth(metric, query, 30, Allowed(COUNT, selection))
            for excluded in (NO_ROWS, np.unique(near[::3]), np.unique(near)):
                allowed = Allowed(COUNT, selection, excluded)
                found, plan = searched.search(query, 25, allowed=allowed, checkpoint=go_on)
                assert plan.kind == "milvus"
                assert allowed.mask[found.rows].all()
                assert len(np.unique(found.rows)) == len(found.rows) == 25
                expected = similarity(vectors(metric)[found.rows], query, metric)
                assert found.scores.tolist() == expected.tolist()
                assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
                hits += len(np.intersect1d(found.rows, truth(metric, query, 25, allowed)))
                total += 25
    assert hits / total > 0.95


def test_rows_that_are_gone_are_in_no_list(
    searched: MilvusSearcher, filters: AttributeFilters
) -> None:
    alive = np.random.default_rng(2).random(COUNT) < 0.3
    allowed = Allowed(COUNT, None, NO_ROWS, Selection("", lambda: alive))
    for query in queries(searched._metric, 5):
        found, plan = searched.search(query, 40, allowed=allowed, checkpoint=go_on)
        assert len(found.rows) == 40
        assert alive[found.rows].all()
        assert plan.kind == "milvus"


def test_exact_and_few_items_are_compared_here(filters: AttributeFilters) -> None:
    class Nobody:
        def nearest(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("Milvus was asked")

    few = filters.chosen(IsIn(attribute="year", values=(3,)))
    here = searcher(Nobody(), "cosine", filters, scan_items_max=few.count)
    query = queries("cosine", 1)[0]
    for allowed, exact in ((Allowed(COUNT, few), False), (Allowed(COUNT), True)):
        found, plan = here.search(query, 9, allowed=allowed, checkpoint=go_on, exact=exact)
        assert found.rows.tolist() == truth("cosine", query, 9, allowed).tolist()
        assert not plan.approximate
    nothing, plan = here.search(
        query, 9, allowed=Allowed(COUNT, None, np.arange(COUNT)), checkpoint=go_on
    )
    assert (len(nothing.rows), plan.kind) == (0, "none")


class Given:
    """An index that gives the rows it is told, without those that are asked to be left out."""

    def __init__(self, rows: list[int]) -> None:
        self._rows = rows
        self.asked: list[tuple[int, str]] = []

    def nearest(
        self, alias: str, point: np.ndarray, count: int, *, ef: int, expression: str = ""
    ) -> np.ndarray:
        self.asked.append((count, expression))
        left_out = expression.partition("[")[2].partition("]")[0].split(",")
        rows = [row for row in self._rows if str(row) not in left_out]
        return np.array(rows[:count], np.int64)


def test_rows_that_the_bundle_does_not_have_are_left_out(filters: AttributeFilters) -> None:
    query = queries("cosine", 1)[0]
    rows = truth("cosine", query, 20, Allowed(COUNT)).tolist()
    given = Given([-1, COUNT, COUNT + 7, *rows])
    found, _ = searcher(given, "cosine", filters).search(
        query, 5, allowed=Allowed(COUNT), checkpoint=go_on
    )
    assert found.rows.tolist() == rows[:5]
    assert given.asked == [(5, ""), (10, f"row not in [-1,{COUNT},{COUNT + 7}]")]


def test_a_graph_that_finds_too_few_is_searched_more_widely(filters: AttributeFilters) -> None:
    class Narrow:
        def __init__(self) -> None:
            self.asked: list[int] = []

        def nearest(self, alias: str, point: Any, count: int, *, ef: int, expression: str) -> Any:
            self.asked.append(ef)
            rows = few.rows if ef > 100 else few.rows[:3]
            return rows[:count]

    few = filters.chosen(IsIn(attribute="year", values=(3,)))
    narrow = Narrow()
    query = queries("cosine", 1)[0]
    found, plan = searcher(narrow, "cosine", filters, ef=50).search(
        query, 9, allowed=Allowed(COUNT, few), checkpoint=go_on
    )
    wide = math.ceil(1.2 * 9 * COUNT / few.count)
    assert narrow.asked == [50, wide]
    assert (len(found.rows), str(plan)) == (9, f"milvus ef={wide}, fetched 12")


def test_a_list_that_would_be_short_is_replaced_by_a_scan(filters: AttributeFilters) -> None:
    query = queries("cosine", 1)[0]
    for rows in ([], [1, 2, 3], [5] * 50):
        found, plan = searcher(Given(rows), "cosine", filters).search(
            query, 10, allowed=Allowed(COUNT), checkpoint=go_on
        )
        assert found.rows.tolist() == truth("cosine", query, 10, Allowed(COUNT)).tolist()
        assert plan.kind == "exact"


def test_the_checkpoint_ends_a_search_between_rounds(filters: AttributeFilters) -> None:
    class OutOfTime(Exception):
        pass

    given = Given([-1] * 100)
    left = iter([None])

    def checkpoint() -> None:
        if next(left, "gone") == "gone":
            raise OutOfTime

    with pytest.raises(OutOfTime):
        searcher(given, "cosine", filters).search(
            queries("cosine", 1)[0], 5, allowed=Allowed(COUNT), checkpoint=checkpoint
        )
    assert len(given.asked) == 1


@pytest.fixture(scope="module")
def world(index: Milvus, tmp_path_factory: pytest.TempPathFactory) -> random_world.World:
    """A world with attributes of all types, of whose items each value is missing from some."""
    folder = tmp_path_factory.mktemp("world")
    made = random_world.make(9, folder)
    rows = MilvusRows(made.vectors.astype(np.float32), "l2", made.catalog.attribute_columns)
    fill(index, "world", rows)
    return made


@settings(max_examples=120)
@given(message=FILTERS)
def test_milvus_matches_what_is_matched_here(
    message: types.Filter, world: random_world.World, milvus_server: MilvusServer
) -> None:
    filter_ = filter_from(message, "filter")
    selection = world.catalog.select(filter_)
    assert selection is not None
    text = expression(filter_, world.catalog.attribute_columns)
    client = MilvusClient(milvus_server.uri)
    matched = client.query("world", filter=text, output_fields=["row"])
    assert sorted(entity["row"] for entity in matched) == selection.rows.tolist(), text


def test_bounds_of_integers_are_met_at_the_ends_of_64_bits(
    index: Milvus, milvus_server: MilvusServer
) -> None:
    least, most = -(2**63), 2**63 - 1
    cells = [least, least + 1, -1, 0, 1, most - 1, most, None]
    column = attribute_column(ColumnArray.of("n", "int64", cells))
    filters = AttributeFilters({"n": column}, len(cells), FilterOptions(cache_bytes_max=1 << 20))
    points = np.zeros((len(cells), 4), np.float32)
    fill(index, "ends", MilvusRows(points, "l2", filters.columns))
    client = MilvusClient(milvus_server.uri)
    conditions: list[Filter] = [
        Range(attribute="n", **{side: bound, f"{side}_included": included})  # type: ignore[arg-type]
        for bound in (least - 1, least, least + 1, most - 1, most, most + 1)
        for side in ("low", "high")
        for included in (True, False)
    ]
    conditions += [IsIn(attribute="n", values=(bound, 1)) for bound in (least, most, most + 1)]
    for condition in conditions:
        text = expression(condition, filters.columns)
        matched = client.query("ends", filter=text, output_fields=["row"])
        expected = [
            row for row, value in enumerate(cells) if value is not None and _holds(condition, value)
        ]
        assert sorted(entity["row"] for entity in matched) == expected, text


def _holds(condition: Any, value: int) -> bool:
    if isinstance(condition, IsIn):
        return value in condition.values
    if condition.low is not None:
        return value > condition.low or (condition.low_included and value == condition.low)
    return value < condition.high or (condition.high_included and value == condition.high)


def test_an_upsert_may_be_repeated_and_a_delete_too(index: Milvus) -> None:
    rows = MilvusRows(np.eye(4, dtype=np.float32), "l2", {})
    fill(index, "again", rows)
    index.upsert("again", rows.entities([1, 2]))
    assert index.item_count("again") == 4
    for _ in range(2):
        index.delete("again", [2, 99])
        assert index.item_count("again") == 3
    point = np.eye(4, dtype=np.float32)[2]
    assert 2 not in index.nearest("again", point, 4, ef=10).tolist()
    index.upsert("again", rows.entities([2]))
    assert index.nearest("again", point, 1, ef=10).tolist() == [2]


def test_an_alias_moves_in_one_step(index: Milvus) -> None:
    for number, shift in (("1", 0), ("2", 1)):
        points = np.roll(np.eye(3, dtype=np.float32), shift, axis=0)
        fill(index, f"moved_{number}", MilvusRows(points, "l2", {}))
    assert index.item_count("moved") is None
    assert index.served("moved") is None
    point = np.eye(3, dtype=np.float32)[0]
    for number, row in (("1", 0), ("2", 1), ("1", 0)):
        index.publish("moved", f"moved_{number}")
        assert index.served("moved") == f"moved_{number}"
        assert index.nearest("moved", point, 1, ef=10).tolist() == [row]
        assert index.item_count("moved") == 3
    assert index.collections("moved") == ["moved_1", "moved_2"]
    index.drop("moved_2")
    assert index.collections("moved") == ["moved_1"]


def test_what_milvus_does_not_take_is_refused_by_name() -> None:
    many = {
        f"a{number}": attribute_column(ColumnArray.of(f"a{number}", "bool", [True]))
        for number in range(FIELDS_MAX + 1)
    }
    points = np.zeros((1, 2), np.float32)
    with pytest.raises(BundleUnsupported, match=f"at most {FIELDS_MAX} attributes.*got 61"):
        MilvusRows(points, "l2", many)
    long = attribute_column(ColumnArray.of("tags", "int64_list", [(1,) * (CAPACITY_MAX + 1)]))
    with pytest.raises(BundleUnsupported, match=r"tags: expected lists of at most 4096.*of 4097"):
        MilvusRows(points, "l2", {"tags": long})


def test_a_milvus_that_is_away_is_left_alone_for_a_while() -> None:
    server, now = MilvusServer(), [0.0]
    options = MilvusOptions(uri=server.uri, timeout_s=0.3, rest_s=10.0)
    index = Milvus(options, clock=lambda: now[0])
    try:
        slow = Milvus(MilvusOptions(uri=server.uri, timeout_s=60.0))
        fill(slow, "items", MilvusRows(np.eye(4, dtype=np.float32), "l2", {}))
        slow.close()
        point = np.eye(4, dtype=np.float32)[1]

        def problem() -> tuple[str, str]:
            with pytest.raises(IndexUnavailable) as caught:
                index.nearest("items", point, 1, ef=10)
            assert "127.0.0.1" not in str(caught.value)
            return caught.value.problem, caught.value.detail

        # A question that it refuses says nothing of the next.
        for _ in range(FAILURES_MAX + 1):
            with pytest.raises(IndexUnavailable):
                index.nearest("items", point, 1, ef=10, expression="no such field > 1")
        server.pause()
        assert [problem()[0] for _ in range(FAILURES_MAX)] == ["OUT_OF_TIME"] * FAILURES_MAX
        assert "left alone" in problem()[1]
        now[0] += 10.1
        assert problem()[0] == "OUT_OF_TIME"  # the one that tries
        assert "left alone" in problem()[1]
        server.resume()
        server.stop()
        now[0] += 10.1
        assert problem()[0] == "FAILED"
        server.start()
        again = Milvus(MilvusOptions(uri=server.uri, timeout_s=60.0))
        again.make_searchable("items")
        again.close()
        for _ in range(200):
            now[0] += 10.1
            with contextlib.suppress(IndexUnavailable):
                assert index.nearest("items", point, 1, ef=10).tolist() == [1]
                break
            time.sleep(0.05)
        else:
            raise AssertionError("it is not found again")
    finally:
        index.close()
        server.remove()
