"""Models that take lists as long as they come: items must have as many elements as the bundle's."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tiny_world
from changing_world import loaded
from onnx import TensorProto, helper
from shortlist_exporters.export import export_bundle
from shortlist_server.bundle.reader import Bundle
from shortlist_server.catalog.changes import ChangedItems
from shortlist_server.catalog.item_schema import ItemSchema
from shortlist_server.catalog.item_state import ItemState
from shortlist_server.catalog.store import StoredChange
from shortlist_server.generation import Generation

TWO, THREE = ("Drama", "Horror"), ("Comedy", "Drama", "Horror")
GENRES = {
    "name": "genres",
    "dtype": "int64",
    "shape": ["candidate", "genre"],
    "source": "item.genres",
    "transforms": [{"kind": "lookup", "vocabulary": "genres"}],
}


@pytest.fixture(scope="module")
def generation(tmp_path_factory: pytest.TempPathFactory) -> Generation:
    folder = tmp_path_factory.mktemp("lists")
    spec = tiny_world.write_spec(folder / "spec")
    with (folder / "spec/items.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "spec/items.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "genres": "|".join(TWO)} for row in rows)
    tiny_world.save_model(
        folder / "spec/ranker.onnx",
        [
            helper.make_node("Gather", ["of_genre", "genres"], ["each"]),
            helper.make_node("ReduceMean", ["each"], ["rating"], axes=[1], keepdims=0),
        ],
        {"genres": (TensorProto.INT64, ["candidate", "genre"])},
        {"rating": ["candidate"]},
        {"of_genre": np.arange(4, dtype=np.float32)},
    )
    document = json.loads(spec.read_text())
    document["ranker"] = {"model": "ranker.onnx", "inputs": [GENRES], "weights": {"rating": 1.0}}
    spec.write_text(json.dumps(document))
    export_bundle(folder / "spec", folder / "bundle", version="1")
    return loaded(folder / "bundle")


def change(bundle: Bundle, item_id: str, genres: tuple[str, ...], revision: int) -> StoredChange:
    vector = np.ones(tiny_world.DIMENSION, np.float32)
    state = ItemState(attributes={"genres": genres}, vector=vector, vector_bundle=bundle.sha256)
    return StoredChange(item_id=item_id, revision=revision, deleted=False, payload=state.encode())


def test_an_item_of_another_length_keeps_none_of_the_others_away(generation: Generation) -> None:
    bundle = generation.bundle
    items = ChangedItems(bundle, generation.catalog, generation.models, filter_cache_bytes=1 << 20)
    items.apply([change(bundle, "first", THREE, 1), change(bundle, "second", TWO, 2)], 2)
    # One that comes alone as well: nothing beside it shows how long the lists are.
    items.apply([change(bundle, "third", THREE, 3)], 3)
    items.apply([change(bundle, "fourth", TWO, 4)], 4)
    catalog, tail = items.catalog()
    assert list(tail.item_ids) == ["second", "fourth"]
    assert tail.feeds["genres"].tolist() == [[2, 3], [2, 3]]
    assert catalog.row("first") is catalog.row("third") is None
    assert {misfit.item_id for misfit in items.noted()} == {"first", "third"}
    [reason] = {misfit.reason for misfit in items.noted()}
    assert "genres" in reason
    assert "2" in reason
    assert "3" in reason


@pytest.mark.parametrize("misfits", [[], [0], [1, 4], [0, 1], [0, 1, 2, 3, 4]])
def test_each_item_that_a_model_does_not_take_is_named(
    generation: Generation, misfits: list[int]
) -> None:
    schema = ItemSchema(generation.bundle, generation.models)
    items = [
        schema.fit(f"new-{place}", {"genres": THREE if place in misfits else TWO}, "attributes")
        for place in range(5)
    ]
    faults = schema.model_faults(items, [f"items[{place}]" for place in range(5)])
    fields = [fault.field if fault else None for fault in faults]
    assert fields == [f"items[{place}]" if place in misfits else None for place in range(5)]
    assert schema.model_faults([], []) == []
