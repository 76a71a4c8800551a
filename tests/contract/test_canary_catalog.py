"""Items that change while two bundles are served side by side: real sockets, a real store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_world
from changing_world import first_items, world_of
from shortlist.v1 import catalog_pb2 as pb
from shortlist.v1 import catalog_pb2_grpc, types_pb2
from shortlist.v1 import recommendation_pb2 as recommendation
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_exporters.export import export_bundle
from shortlist_server.bundle_label import BundleLabel
from shortlist_server.catalog.changes import ChangedItems
from shortlist_server.generation import Generation, load_generation
from shortlist_server.labels import LabeledGenerations
from tiny_world import DIMENSION, ITEM_COUNT

BOTH = ("stable", "canary")
FAR = [100.0] + [0.0] * (DIMENSION - 1)


class Pair:
    """A server of two bundles or more whose items can be changed."""

    def __init__(self, running: Any, channel: grpc.Channel) -> None:
        self.running = running
        self.catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
        self.recommendation = RecommendationServiceStub(channel)

    def upsert(self, *items: pb.Item) -> int:
        response = self.catalog.UpsertItems(pb.UpsertItemsRequest(items=items), timeout=20)
        assert not [one.error for one in response.outcomes if one.HasField("error")]
        return int(response.revision)

    def get(self, item_id: str, label: str, **options: Any) -> pb.GetItemResponse:
        request = pb.GetItemRequest(
            item_id=item_id, bundle_label=label, with_vector=True, **options
        )
        response = self.catalog.GetItem(request, timeout=20)
        assert isinstance(response, pb.GetItemResponse)
        return response

    def ask(self, label: str = "", **options: Any) -> recommendation.RecommendResponse:
        query = types_pb2.Query(user=types_pb2.UserQuery(id="u1"))
        response = self.recommendation.Recommend(
            recommendation.RecommendRequest(
                query=query, limit=100, attributes=["*"], bundle_label=label, **options
            ),
            timeout=20,
        )
        assert isinstance(response, recommendation.RecommendResponse)
        return response

    def ids(self, label: str, **options: Any) -> set[str]:
        return {one.id for one in self.ask(label, **options).items}

    def stats(self, label: str = "") -> pb.GetCatalogStatsResponse:
        request = pb.GetCatalogStatsRequest(bundle_label=label)
        response = self.catalog.GetCatalogStats(request, timeout=20)
        assert isinstance(response, pb.GetCatalogStatsResponse)
        return response


Start = Callable[..., Pair]


@pytest.fixture
def start(server: Any, tmp_path: Path) -> Iterator[Start]:
    """Start servers of several bundles whose items can be changed."""
    ends: list[Callable[[], None]] = []

    def run(loaded: LabeledGenerations, **settings: Any) -> Pair:
        store = str(tmp_path / "catalog.sqlite")
        running = type(server)(loaded.stable.bundle.folder, loaded, catalog_store=store, **settings)
        channel = grpc.insecure_channel(running.target)
        ends.extend([running.stop, channel.close])
        return Pair(running, channel)

    yield run
    for end in reversed(ends):
        end()


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabeledGenerations]:
    """Two bundles of the same items, each with its own item tower; all users go to the canary."""
    folders = [
        world_of(
            tmp_path_factory.mktemp(f"tower{version}"), first_items(), tower=True, version=version
        )
        for version in ("1", "2")
    ]
    stable, canary = map(load_generation, folders)
    yield LabeledGenerations(stable=stable, canary=canary, canary_share=1.0)
    stable.close()
    canary.close()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generation]:
    """A bundle without an item tower whose embeddings have another dimension, and whose years are
    texts.
    """
    folder = tmp_path_factory.mktemp("narrow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_world, "DIMENSION", DIMENSION - 2)
        spec = tiny_world.write_spec(folder / "spec")
    table = folder / "spec/items.csv"
    header, *lines = table.read_text().strip().split("\n")
    rows = [line.split(",") for line in lines]
    texts = [",".join([id_, title, f"in {year}", genres]) for id_, title, year, genres in rows]
    table.write_text("\n".join([header, *texts, ""]))
    export_bundle(spec, folder / "bundle", version="2")
    generation = load_generation(folder / "bundle")
    yield generation
    generation.close()


def item(item_id: str, vector: list[float] | None = None, **attributes: Any) -> pb.Item:
    made = pb.Item(id=item_id)
    for name, value in attributes.items():
        if isinstance(value, str):
            made.attributes[name].string_value = value
        elif isinstance(value, int):
            made.attributes[name].int64_value = value
        else:
            made.attributes[name].string_list.values.extend(value)
    if vector is not None:
        made.vector.values.extend(vector)
    return made


def test_a_change_is_seen_under_each_label_by_its_own_item_tower(
    start: Start, towers: LabeledGenerations
) -> None:
    pair = start(towers)
    catalog = towers.stable.catalog
    # Features of an item of both bundles: what their item towers make of them is known.
    row = next(row for row in range(catalog.size) if catalog.attribute("year", row) and row > 5)
    year, genres = (catalog.attribute(name, row) for name in ("year", "genres"))
    revision = pair.upsert(item("new", title="Neu é", year=year, genres=list(genres or ())))  # type: ignore[arg-type]
    vectors = {}
    for label, generation in zip(BOTH, (towers.stable, towers.canary), strict=True):
        assert generation is not None
        got = pair.get("new", label, min_revision=revision)
        assert got.bundle.sha256 == generation.bundle.sha256
        assert got.item.attributes["title"].string_value == "Neu é"
        vectors[label] = list(got.item.vector.values)
        embedded = generation.bundle.item_embeddings[row].tolist()
        assert vectors[label] == pytest.approx(embedded, rel=1e-5)
        answer = pair.ask(label, min_revision=revision)
        assert answer.info.bundle_label == label
        assert answer.info.catalog_revision == revision
        assert "new" in {one.id for one in answer.items}
        stats = pair.stats(label)
        assert (stats.live, stats.item_count, stats.misfit_count) == (True, ITEM_COUNT + 1, 0)
    assert np.abs(np.subtract(vectors["stable"], vectors["canary"])).max() > 0.1
    request = pb.DeleteItemsRequest(item_ids=["new", "i5"])
    gone = pair.catalog.DeleteItems(request, timeout=20).revision
    for label in BOTH:
        assert not {"new", "i5"} & pair.ids(label, min_revision=gone)


def test_without_a_label_the_items_are_those_of_the_stable_bundle(
    start: Start, towers: LabeledGenerations
) -> None:
    pair = start(towers)
    assert pair.get("i3", "").bundle.sha256 == towers.stable.bundle.sha256
    assert pair.ask().info.bundle_label == "canary"  # whose share is all
    assert pair.stats().item_count == ITEM_COUNT


def test_a_label_that_no_bundle_has_is_refused(
    start: Start, towers: LabeledGenerations, refuse: Any
) -> None:
    pair = start(towers)
    for method, request in (
        (pair.catalog.GetItem, pb.GetItemRequest),
        (pair.catalog.GetCatalogStats, pb.GetCatalogStatsRequest),
    ):
        more = {"item_id": "i1"} if request is pb.GetItemRequest else {}
        refusal = refuse(method, request(bundle_label="blue", **more))
        assert refusal.info.reason == "INVALID_VALUE"
        assert refusal.info.metadata["field"] == "bundle_label"
        refusal = refuse(method, request(bundle_label="shadow", **more))
        assert refusal.info.reason == "LABEL_NOT_LOADED"
        assert refusal.info.metadata["expected"].endswith("stable, canary")


def test_what_does_not_fit_the_canary_is_told_there_and_written_all_the_same(
    start: Start, generation: Generation, narrow: Generation
) -> None:
    pair = start(LabeledGenerations(stable=generation, canary=narrow))
    revision = pair.upsert(
        item("new", FAR, title="new"),
        item("i1", FAR, title="changed"),
        item("i2", FAR, title="typed", year=2001),
    )
    assert {"new", "i1", "i2"} <= pair.ids("stable", min_revision=revision)
    assert pair.stats("stable").misfit_count == 0
    under = pair.ids("canary", min_revision=revision)
    assert under & {"new", "i1", "i2"} == {"i1"}  # nor as they were before
    stats = pair.stats("canary")
    assert (stats.misfit_count, stats.revision) == (3, revision)
    misfits = {one.item_id: one for one in stats.misfits}
    assert not misfits["new"].served
    assert misfits["new"].message.startswith("its vector is of another bundle")
    assert misfits["i1"].served
    assert not misfits["i2"].served
    assert misfits["i2"].message.startswith('attributes["year"]: expected string')
    # By the vector that the canary has for it, with what was written.
    got = pair.get("i1", "canary").item
    assert got.attributes["title"].string_value == "changed"
    assert list(got.vector.values) == narrow.bundle.item_embeddings[1].tolist()
    # What fits takes the misfit's place.
    revision = pair.upsert(item("i2", FAR, title="typed"))
    assert "i2" in pair.ids("canary", min_revision=revision)
    assert {one.item_id: one.served for one in pair.stats("canary").misfits}["i2"]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, towers: LabeledGenerations) -> Iterator[list[int]]:
    """While there is something in it, the canary's changes cannot be applied: no known way leads
    there, so it is made.
    """
    assert towers.canary is not None
    canary, apply, faults = towers.canary.bundle, ChangedItems.apply, [1]

    def faulty(self: ChangedItems, *arguments: Any) -> None:
        if faults and self._bundle is canary:
            faults.append(1)
            raise RuntimeError("the item tower has gone mad")
        apply(self, *arguments)

    monkeypatch.setattr(ChangedItems, "apply", faulty)
    yield faults
    faults.clear()


def follows(pair: Pair, label: str) -> None:
    deadline = time.monotonic() + 20
    while not pair.running.live.by_label[BundleLabel(label)].follows:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_canary_that_cannot_follow_answers_nobody_and_the_stable_bundle_does(
    start: Start, towers: LabeledGenerations, broken: list[int], refuse: Any
) -> None:
    broken.clear()
    pair = start(towers)
    assert pair.ask().info.bundle_label == "canary"
    broken.append(1)
    revision = pair.upsert(item("new", year=2001, genres=["Drama"]))
    canary = pair.running.live.by_label[BundleLabel.CANARY]
    deadline = time.monotonic() + 20
    while canary.follows:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    answer = pair.ask(min_revision=revision)
    assert answer.info.bundle_label == "stable"
    assert "new" in {one.id for one in answer.items}
    query = types_pb2.Query(user=types_pb2.UserQuery(id="u1"))
    asked = recommendation.RecommendRequest(query=query, bundle_label="canary")
    assert refuse(pair.recommendation.Recommend, asked).info.reason == "LABEL_NOT_LOADED"
    pair.catalog.DeleteItems(pb.DeleteItemsRequest(item_ids=["i5"]), timeout=20)
    assert "i5" not in pair.ids("stable", min_revision=revision + 1)
    broken.clear()
    follows(pair, "canary")
    assert pair.ask(min_revision=revision + 1).info.bundle_label == "canary"
    assert pair.ids("canary") == pair.ids("stable")


def test_a_canary_that_cannot_follow_from_the_start_keeps_nobody_from_serving(
    start: Start, towers: LabeledGenerations, broken: list[int]
) -> None:
    faults = list(broken)
    broken.clear()
    first = start(towers)
    revision = first.upsert(item("new", year=2001, genres=["Drama"]))
    first.running.stop()
    broken.extend(faults)
    again = start(towers)
    answer = again.ask(min_revision=revision)
    assert answer.info.bundle_label == "stable"
    assert "new" in {one.id for one in answer.items}
    broken.clear()
    follows(again, "canary")
    assert "new" in again.ids("canary", min_revision=revision)


def test_a_shadow_follows_too(start: Start, towers: LabeledGenerations) -> None:
    """The shadow is the stable bundle once more: it stays alike when items change."""
    loaded = LabeledGenerations(
        stable=towers.stable, shadow=load_generation(towers.stable.bundle.folder)
    )
    pair = start(loaded, shadow_share=1.0, metrics_listen="127.0.0.1:0")
    pair.catalog.DeleteItems(pb.DeleteItemsRequest(item_ids=["i5", "i6"]), timeout=20)
    revision = pair.upsert(item("new", year=2001, genres=["Drama"]))
    live = pair.running.live.by_label[BundleLabel.SHADOW]
    deadline = time.monotonic() + 20
    while live.snapshot.revision < revision:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert pair.stats("shadow").revision == revision
    assert pair.get("new", "shadow", min_revision=revision).revision == revision

    def shown() -> dict[str, float]:
        return {
            f"{sample.name} {' '.join(sample.labels.values())}".strip(): sample.value
            for family in pair.running.metrics.registry.collect()
            for sample in family.samples
        }

    assert "new" in pair.ids("", min_revision=revision)
    while (found := shown()).get("shortlist_shadow_answers_total ok", 0.0) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert found["shortlist_shadow_overlap_sum"] == found["shortlist_shadow_overlap_count"] == 1
    assert loaded.shadow is not None
    loaded.shadow.close()
