"""Items that callers change, over real sockets and a real store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from changing_world import first_items, world_of
from shortlist.v1 import catalog_pb2 as pb
from shortlist.v1 import catalog_pb2_grpc, errors_pb2, types_pb2
from shortlist.v1 import recommendation_pb2 as recommendation
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_server.generation import Generation, load_generation
from tiny_world import DIMENSION, ITEM_COUNT

REASON = errors_pb2.ErrorReason
FAR = [100.0] + [0.0] * (DIMENSION - 1)


@dataclass
class Live:
    """A server whose items can be changed."""

    running: Any
    catalog: Any
    recommendation: Any

    def upsert(self, *items: pb.Item, **options: Any) -> pb.UpsertItemsResponse:
        response = self.catalog.UpsertItems(
            pb.UpsertItemsRequest(items=items, **options), timeout=20
        )
        assert isinstance(response, pb.UpsertItemsResponse)
        return response

    def delete(self, *ids: str, **options: Any) -> pb.DeleteItemsResponse:
        response = self.catalog.DeleteItems(
            pb.DeleteItemsRequest(item_ids=ids, **options), timeout=20
        )
        assert isinstance(response, pb.DeleteItemsResponse)
        return response

    def get(self, item_id: str, **options: Any) -> pb.GetItemResponse:
        request = pb.GetItemRequest(item_id=item_id, with_vector=True, **options)
        response = self.catalog.GetItem(request, timeout=20)
        assert isinstance(response, pb.GetItemResponse)
        return response

    def near(self, vector: list[float], limit: int = 3, **options: Any) -> Any:
        query = types_pb2.Query(embedding=types_pb2.Embedding(values=vector))
        request = recommendation.RecommendRequest(
            query=query, limit=limit, attributes=["*"], **options
        )
        return self.recommendation.Recommend(request, timeout=20)

    def stats(self) -> pb.GetCatalogStatsResponse:
        response = self.catalog.GetCatalogStats(pb.GetCatalogStatsRequest(), timeout=20)
        assert isinstance(response, pb.GetCatalogStatsResponse)
        return response


Start = Callable[..., Live]


@pytest.fixture
def start(server: Any, tmp_path: Path) -> Iterator[Start]:
    """Start servers whose items can be changed; they share a store unless told otherwise."""
    running: list[Any] = []
    channels: list[grpc.Channel] = []

    def run(generation: Generation, store: Path = tmp_path / "catalog.sqlite") -> Live:
        one = type(server)(generation.bundle.folder, generation, catalog_store=str(store))
        channel = grpc.insecure_channel(one.target)
        running.append(one)
        channels.append(channel)
        return Live(
            one,
            catalog_pb2_grpc.CatalogServiceStub(channel),
            RecommendationServiceStub(channel),
        )

    yield run
    for channel in channels:
        channel.close()
    for one in running:
        one.stop()


@pytest.fixture
def live(start: Start, generation: Generation) -> Live:
    return start(generation)


def item(item_id: str, vector: list[float] | None = None, **attributes: Any) -> pb.Item:
    made = pb.Item(id=item_id)
    for name, value in attributes.items():
        if isinstance(value, str):
            made.attributes[name].string_value = value
        elif isinstance(value, int):
            made.attributes[name].int64_value = value
        else:
            made.attributes[name].string_list.values.extend(value)
            made.attributes[name].string_list.SetInParent()
    if vector is not None:
        made.vector.values.extend(vector)
    return made


def test_an_item_that_is_written_is_found(live: Live) -> None:
    answer = live.upsert(item("new", FAR, title="Neu é", year=2026, genres=["Drama"]))
    assert answer.revision == 1
    assert not answer.replayed
    assert [(one.item_id, one.existed) for one in answer.outcomes] == [("new", False)]
    found = live.near(FAR, min_revision=1)
    assert found.items[0].id == "new"
    assert found.items[0].attributes["title"].string_value == "Neu é"
    assert list(found.items[0].attributes["genres"].string_list.values) == ["Drama"]
    assert found.items[0].retrieval_score == pytest.approx(10_000)
    assert found.info.catalog_revision == 1
    ranked = live.recommendation.Rank(
        recommendation.RankRequest(
            query=types_pb2.Query(user=types_pb2.UserQuery(id="u1")), item_ids=["new", "i1"]
        ),
        timeout=20,
    )
    assert {one.id: set(one.outputs) for one in ranked.items} == {
        "new": {"rating", "like"},
        "i1": {"rating", "like"},
    }
    got = live.get("new")
    assert (got.revision, got.catalog_revision) == (1, 1)
    assert list(got.item.vector.values) == FAR
    assert live.stats().item_count == ITEM_COUNT + 1


def test_an_item_that_is_deleted_is_in_no_answer(live: Live) -> None:
    assert live.near([1.0] * DIMENSION, limit=100).items[0].id
    every = {one.id for one in live.near([1.0] * DIMENSION, limit=100).items}
    assert len(every) == ITEM_COUNT
    answer = live.delete("i5", "ghost")
    assert [one.existed for one in answer.outcomes] == [True, False]
    left = live.near([1.0] * DIMENSION, limit=100, min_revision=answer.revision)
    assert {one.id for one in left.items} == every - {"i5"}
    assert left.info.shortfall_reason == types_pb2.SHORTFALL_REASON_CATALOG_EXHAUSTED
    with pytest.raises(grpc.RpcError) as caught:
        live.get("i5")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    stats = live.stats()
    assert (stats.item_count, stats.deleted_item_count) == (ITEM_COUNT - 1, 1)
    back = live.upsert(item("i5", FAR))
    assert live.get("i5", min_revision=back.revision).revision == 2


def test_an_item_takes_the_place_of_the_one_before(live: Live) -> None:
    first = live.upsert(item("i7", FAR, year=2020, title="first"))
    assert first.outcomes[0].existed
    second = live.upsert(item("i7", [-1.0 * number for number in FAR], title="second"))
    got = live.get("i7", min_revision=second.revision).item
    assert got.attributes["title"].string_value == "second"
    assert "year" not in got.attributes  # replaced as a whole
    found = live.near(FAR, limit=100, min_revision=second.revision)
    assert [one.id for one in found.items].count("i7") == 1
    assert live.stats().changed_item_count == 1


def test_each_item_has_its_own_outcome(live: Live) -> None:
    without_kind = item("d", FAR)
    without_kind.attributes["year"].SetInParent()
    answer = live.upsert(
        item("a", FAR),
        item("b", FAR, year="soon"),
        item("c", FAR[:-1]),
        without_kind,
        item("e"),
        item("f", [float("nan"), *FAR[1:]]),
        item("g", FAR, colour="blue"),
    )
    errors = [one.error for one in answer.outcomes]
    assert [one.item_id for one in answer.outcomes] == list("abcdefg")
    assert [REASON.Name(error.reason).removeprefix("ERROR_REASON_") for error in errors] == [
        "UNSPECIFIED",
        "ATTRIBUTE_TYPE_MISMATCH",
        "DIMENSION_MISMATCH",
        "INVALID_VALUE",
        "INVALID_VALUE",
        "INVALID_VALUE",
        "UNSPECIFIED",
    ]
    assert [error.metadata.get("field") for error in errors] == [
        None,
        'items[1].attributes["year"]',
        "items[2].vector.values",
        'items[3].attributes["year"]',
        "items[4].vector",
        "items[5].vector.values",
        None,
    ]
    assert answer.outcomes[6].unknown_attributes == ["colour"]
    found = live.near(FAR, limit=100, min_revision=answer.revision)
    assert {one.id for one in found.items} & set("abcdefg") == {"a", "g"}
    strict = live.upsert(item("g", FAR, colour="blue"), strict=True)
    assert strict.outcomes[0].error.reason == REASON.ERROR_REASON_UNKNOWN_ATTRIBUTE
    assert strict.revision == answer.revision  # nothing was written


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("UpsertItems", pb.UpsertItemsRequest(), "items"),
        ("UpsertItems", pb.UpsertItemsRequest(items=[pb.Item()]), "items[0].id"),
        ("UpsertItems", pb.UpsertItemsRequest(items=[item("a"), item("a")]), "items"),
        (
            "UpsertItems",
            pb.UpsertItemsRequest(items=[item(f"a{number}") for number in range(1_001)]),
            "items",
        ),
        (
            "UpsertItems",
            pb.UpsertItemsRequest(items=[item("a")], idempotency_key="k" * 129),
            "idempotency_key",
        ),
        ("DeleteItems", pb.DeleteItemsRequest(), "item_ids"),
        ("DeleteItems", pb.DeleteItemsRequest(item_ids=["a", "b", "a"]), "item_ids"),
        ("DeleteItems", pb.DeleteItemsRequest(item_ids=["a", ""]), "item_ids[1]"),
        ("GetItem", pb.GetItemRequest(), "item_id"),
        ("GetItem", pb.GetItemRequest(item_id="a", min_revision=-1), "min_revision"),
    ],
)
def test_a_bad_request_is_refused_by_its_field(
    live: Live, refuse: Any, method: str, request_: Any, field: str
) -> None:
    refusal = refuse(getattr(live.catalog, method), request_)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.info.metadata["field"] == field
    assert live.stats().revision == 0


def test_a_request_sent_again_under_its_key_is_applied_once(live: Live, refuse: Any) -> None:
    request = pb.UpsertItemsRequest(items=[item("a", FAR), item("b")], idempotency_key="load-1")
    first = live.catalog.UpsertItems(request, timeout=20)
    live.delete("a")
    again = live.catalog.UpsertItems(request, timeout=20)
    assert again.replayed
    assert again.revision == first.revision
    assert again.outcomes == first.outcomes
    with pytest.raises(grpc.RpcError):
        live.get("a", min_revision=2)
    other = pb.UpsertItemsRequest(items=[item("a", FAR)], idempotency_key="load-1")
    assert refuse(live.catalog.UpsertItems, other).info.reason == "IDEMPOTENCY_KEY_REUSED"
    delete = pb.DeleteItemsRequest(item_ids=["a"], idempotency_key="load-1")
    assert refuse(live.catalog.DeleteItems, delete).info.reason == "IDEMPOTENCY_KEY_REUSED"


def test_a_change_at_one_server_reaches_the_other(start: Start, generation: Generation) -> None:
    one, other = start(generation), start(generation)
    for number in range(1, 20):
        vector = [float(number), *FAR[1:]]
        revision = one.upsert(item(f"n{number}", [10 * part for part in vector])).revision
        found = other.near(vector, limit=1, min_revision=revision)
        assert found.items[0].id == f"n{number}"
        assert found.info.catalog_revision >= revision
    deadline = time.monotonic() + 20
    revision = one.delete("n19").revision
    while other.stats().revision < revision:  # nobody asks for it
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_changes_outlive_the_server(start: Start, generation: Generation) -> None:
    first = start(generation)
    first.upsert(item("kept", FAR, title="kept", genres=[]), item("i3", FAR))
    revision = first.delete("i4").revision
    first.running.stop()
    again = start(generation)
    assert again.stats().revision == revision
    assert again.get("kept").item.attributes["title"].string_value == "kept"
    ids = {one.id for one in again.near(FAR, limit=100).items}
    assert "i4" not in ids
    assert {"i3", "kept"} <= ids


def test_without_a_store_items_cannot_be_changed(channel: grpc.Channel, refuse: Any) -> None:
    stub = catalog_pb2_grpc.CatalogServiceStub(channel)
    for method, request in (
        ("UpsertItems", pb.UpsertItemsRequest(items=[item("a", FAR)])),
        ("DeleteItems", pb.DeleteItemsRequest(item_ids=["a"])),
    ):
        refusal = refuse(getattr(stub, method), request)
        assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
        assert refusal.info.reason == "CATALOG_READ_ONLY"
    got = stub.GetItem(pb.GetItemRequest(item_id="i3"), timeout=10)
    assert got.item.attributes["title"].string_value == "Film 3 é"
    assert not stub.GetCatalogStats(pb.GetCatalogStatsRequest(), timeout=10).live


def test_a_revision_that_does_not_come_is_not_waited_for_to_the_end(
    live: Live, refuse: Any
) -> None:
    live.upsert(item("a", FAR))
    query = types_pb2.Query(user=types_pb2.UserQuery(id="u1"))
    for method, request in (
        (
            live.recommendation.Recommend,
            recommendation.RecommendRequest(query=query, min_revision=9),
        ),
        (live.recommendation.Retrieve, recommendation.RetrieveRequest(query=query, min_revision=9)),
        (
            live.recommendation.Rank,
            recommendation.RankRequest(query=query, item_ids=["i1"], min_revision=9),
        ),
        (
            live.recommendation.FindSimilarItems,
            recommendation.FindSimilarItemsRequest(item_id="i1", min_revision=9),
        ),
        (live.catalog.GetItem, pb.GetItemRequest(item_id="i1", min_revision=9)),
    ):
        refusal = refuse(method, request, timeout=1.0)
        assert refusal.info.reason == "REVISION_NOT_REACHED"
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        assert dict(refusal.info.metadata) == {
            "field": "min_revision",
            "expected": "revision 9",
            "got": "revision 1",
        }


def test_items_follow_the_next_bundle_as_far_as_they_fit(start: Start, tmp_path: Path) -> None:
    """The store outlives bundles: vectors of the first are none of the second's."""
    items = first_items()
    first = load_generation(world_of(tmp_path / "first", items))
    before = start(first)
    before.upsert(
        item("i1", FAR, title="changed", genres=["Drama"]),
        item("new", FAR, title="new", genres=["Horror"]),
    )
    before.delete("i2")
    tower = load_generation(world_of(tmp_path / "tower", items, tower=True))
    embeds = start(tower)
    stats = embeds.stats()
    assert stats.misfit_count == 0
    assert stats.item_count == ITEM_COUNT
    assert embeds.get("i1").item.attributes["title"].string_value == "changed"
    assert list(embeds.get("new").item.vector.values) != FAR  # the tower's own
    other = {name: one for name, one in items.items() if name != "i9"}
    second = start(load_generation(world_of(tmp_path / "second", other)))
    stats = second.stats()
    assert [(one.item_id, one.served) for one in stats.misfits] == [("i1", True), ("new", False)]
    assert "another bundle" in stats.misfits[0].message
    # Its new attributes, and the second bundle's own vector.
    changed = second.get("i1").item
    assert changed.attributes["title"].string_value == "changed"
    assert items["i1"].vector is not None
    assert np.allclose(list(changed.vector.values), items["i1"].vector)
    with pytest.raises(grpc.RpcError):
        second.get("new")
    with pytest.raises(grpc.RpcError):
        second.get("i2")


def test_the_item_tower_embeds_what_comes_without_a_vector(start: Start, tmp_path: Path) -> None:
    generation = load_generation(world_of(tmp_path, first_items(), tower=True))
    live = start(generation)
    twin = live.get("i3").item
    copy = pb.Item(id="copy", attributes=twin.attributes)
    revision = live.upsert(copy, item("own", FAR, title="own")).revision
    assert list(live.get("copy", min_revision=revision).item.vector.values) == list(
        twin.vector.values
    )
    similar = live.recommendation.FindSimilarItems(
        recommendation.FindSimilarItemsRequest(item_id="copy", limit=60), timeout=20
    )
    scores = {one.id: one.retrieval_score for one in similar.items}
    assert scores["i3"] == pytest.approx(float(np.dot(twin.vector.values, twin.vector.values)))
