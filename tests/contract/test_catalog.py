"""A larger catalogue over a real socket: ten thousand exclusions, plans, and GetCatalogStats."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_world
from shortlist.v1 import catalog_pb2, catalog_pb2_grpc
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_exporters.export import export_bundle
from shortlist_server.generation import GenerationOptions, load_generation

COUNT = 20_000
DIMENSION = tiny_world.DIMENSION


@dataclass
class Large:
    """A served catalogue of 20,000 items, whose graph is searched."""

    stub: Stub
    catalog: catalog_pb2_grpc.CatalogServiceStub
    vectors: np.ndarray
    monitor: Any


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, server: Any) -> Iterator[Large]:
    folder = tmp_path_factory.mktemp("large")
    spec = tiny_world.write_spec(folder / "spec", interactions=None, ranker=None)
    draw = np.random.default_rng(3)
    centres = draw.normal(size=(50, DIMENSION))
    vectors = centres[draw.integers(0, 50, COUNT)] + 0.5 * draw.normal(size=(COUNT, DIMENSION))
    np.save(folder / "spec/items.npy", vectors.astype(np.float32))
    with (folder / "spec/items.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "year", "genres"])
        writer.writerows([f"i{row}", f"Film {row}", row, "Drama"] for row in range(COUNT))
    export_bundle(spec, folder / "bundle")
    options = GenerationOptions(
        exact_items_max=0, exact_ms_max=0, recall_share=1.0, recall_cpu_share=1.0
    )
    generation = load_generation(folder / "bundle", options)
    running = type(server)(folder / "bundle", generation)
    with grpc.insecure_channel(running.target) as channel:
        yield Large(
            stub=Stub(channel),
            catalog=catalog_pb2_grpc.CatalogServiceStub(channel),
            vectors=np.asarray(generation.bundle.item_embeddings),
            monitor=generation.monitor,
        )
    running.stop()
    generation.close()


def retrieve(
    large: Large, vector: np.ndarray, count: int = 50, **fields: Any
) -> pb.RetrieveResponse:
    retrieval = types.RetrievalOptions(candidate_count=count, ef=fields.pop("ef", 0))
    retrieval.exact = fields.pop("exact", False)
    request = pb.RetrieveRequest(
        query=types.Query(embedding=types.Embedding(values=vector.tolist())),
        retrieval=retrieval,
        **fields,
    )
    return large.stub.Retrieve(request, timeout=30)


def nearest(large: Large, vector: np.ndarray, count: int, excluded: set[int]) -> list[str]:
    scores = large.vectors.astype(np.float64) @ vector.astype(np.float64)
    order = (row for row in np.lexsort((np.arange(COUNT), -scores)).tolist())
    return [f"i{row}" for row in order if row not in excluded][:count]


def years_below(bound: int) -> types.Filter:
    return types.Filter(
        range=types.RangeCondition(attribute="year", below=types.Value(int64_value=bound))
    )


def ids(response: Any) -> list[str]:
    return [item.id for item in response.items]


@pytest.mark.parametrize("ef", [0, 200])
@pytest.mark.parametrize("how", ["the nearest", "at random", "all but a few"])
def test_ten_thousand_exclusions_hold(large: Large, how: str, ef: int) -> None:
    vector = large.vectors[17]
    count = 10_000
    every = nearest(large, vector, COUNT, set())
    if how == "the nearest":
        excluded = every[:count]
    elif how == "at random":
        draw = np.random.default_rng(5)
        excluded = [f"i{row}" for row in draw.permutation(COUNT)[:count]]
    else:
        count = COUNT - 30
        excluded = every[:count]
    fields = {"exclusions": types.Exclusions(item_ids=[*excluded, "ghost"])}
    answer = retrieve(large, vector, ef=ef, **fields)
    left = COUNT - count
    assert len(set(ids(answer))) == len(answer.items) == min(50, left)
    assert not set(ids(answer)) & set(excluded)
    expected = nearest(large, vector, 50, {int(name[1:]) for name in excluded})
    assert len(set(expected) & set(ids(answer))) >= 0.7 * len(expected)
    exact = retrieve(large, vector, exact=True, **fields)
    assert ids(exact) == expected
    if left < 50:
        assert answer.info.shortfall_reason == types.SHORTFALL_REASON_CATALOG_EXHAUSTED


def test_the_most_exclusions_hold(large: Large) -> None:
    excluded = [f"i{row}" for row in range(100_000) if row % 1_000]
    answer = retrieve(
        large, large.vectors[3], exclusions=types.Exclusions(item_ids=excluded[:99_900])
    )
    assert sorted(ids(answer)) == sorted(f"i{row}" for row in range(0, COUNT, 1_000))


def test_a_batch_whose_rows_exclude_and_filter_each_for_itself(large: Large) -> None:
    requests = []
    for row in range(24):
        excluded = [f"i{item}" for item in range(row, COUNT, 24)]
        requests.append(
            pb.RecommendRequest(
                query=types.Query(embedding=types.Embedding(values=large.vectors[row].tolist())),
                limit=30,
                retrieval=types.RetrievalOptions(exact=row % 2 == 0),
                exclusions=types.Exclusions(item_ids=excluded),
                filter=years_below(1_000 * (row % 20 + 1)),
            )
        )
    answers = large.stub.BatchRecommend(pb.BatchRecommendRequest(requests=requests), timeout=60)
    for answer in answers:
        row = answer.index
        bound = 1_000 * (row % 20 + 1)
        assert answer.response.info.match_count == bound
        found = [int(name[1:]) for name in ids(answer.response)]
        assert len(set(found)) == 30
        assert all(item % 24 != row and item < bound for item in found)
        if row % 2 == 0:
            left_out = {item for item in range(COUNT) if item % 24 == row or item >= bound}
            assert ids(answer.response) == nearest(large, large.vectors[row], 30, left_out)


def test_recall_is_told_by_how_much_the_filters_left(large: Large) -> None:
    """Bucket by bucket: what is asked here, and nothing else, is added."""

    def buckets() -> dict[tuple[float, float], tuple[int, float]]:
        large.monitor.settle()
        stats = large.catalog.GetCatalogStats(catalog_pb2.GetCatalogStatsRequest(), timeout=10)
        assert stats.item_count == COUNT
        assert stats.recall_dropped_count == 0
        return {
            (one.selectivity_min, one.selectivity_max): (one.query_count, one.recall)
            for one in stats.recall
        }

    before = buckets()
    assert list(before) == [(0, 0.001), (0.001, 0.01), (0.01, 0.1), (0.1, 0.5), (0.5, 1), (1, 1)]
    asked = {
        (0.1, 0.5): [years_below(6_000)],
        (0.5, 1): [years_below(15_000), years_below(19_999)],
        (1, 1): [None, None, None],
    }
    for of in asked.values():
        for filter_ in of:
            answer = retrieve(large, large.vectors[9], 20, ef=400, filter=filter_)
            assert answer.info.sources[0].plan.startswith("hnsw ef=")
            # An exact search has nothing to measure.
            retrieve(large, large.vectors[9], 20, exact=True, filter=filter_)
    after = buckets()
    added = {bucket: after[bucket][0] - before[bucket][0] for bucket in after}
    assert {bucket: count for bucket, count in added.items() if count} == {
        bucket: len(of) for bucket, of in asked.items()
    }
    assert all(recall > 0.5 for count, recall in after.values() if count)


def test_without_a_monitor_there_are_no_buckets(channel: grpc.Channel) -> None:
    stub = catalog_pb2_grpc.CatalogServiceStub(channel)
    stats = stub.GetCatalogStats(catalog_pb2.GetCatalogStatsRequest(), timeout=10)
    assert stats.item_count == tiny_world.ITEM_COUNT
    assert not stats.recall
    assert stats.recall_dropped_count == 0
