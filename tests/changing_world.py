"""The tiny world, whose items change: as a list of changes, and as the bundle that would be
exported with the items as they have become.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tiny_world
from onnx import TensorProto, helper
from shortlist_exporters.export import export_bundle
from shortlist_server.catalog.item_state import ItemState
from shortlist_server.catalog.store import StoredChange, Tail
from shortlist_server.generation import Generation, GenerationOptions, load_generation
from tiny_world import DIMENSION, GENRES, ITEM_COUNT

TOWER_SOURCES = [
    {
        "name": "genres",
        "dtype": "float32",
        "shape": ["item", len(GENRES) + 1],
        "source": "item.genres",
        "transforms": [
            {"kind": "lookup", "vocabulary": "genres"},
            {"kind": "multi_hot", "size": len(GENRES) + 1},
        ],
    },
    {"name": "year", "dtype": "float32", "shape": ["item"], "source": "item.year"},
]
"""What the item tower of this world reads."""


@dataclass(frozen=True)
class Item:
    """An item, in plain values."""

    attributes: Mapping[str, Any]
    vector: np.ndarray | None = None
    vector_bundle: str | None = None
    """SHA-256 of the bundle that the vector is of; None for the one that is served."""


class ListLog:
    """A store in memory: the last change of each item, by revision."""

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256
        self.revision = 0
        self._last: dict[str, StoredChange] = {}

    def write(self, changes: Mapping[str, Item | None]) -> None:
        """Write items, or their absence, under the next revision."""
        self.revision += 1
        for item_id, item in changes.items():
            payload = b""
            if item is not None:
                payload = ItemState(
                    attributes=item.attributes,
                    vector=item.vector,
                    vector_bundle="" if item.vector is None else item.vector_bundle or self.sha256,
                ).encode()
            self._last[item_id] = StoredChange(
                item_id=item_id, revision=self.revision, deleted=item is None, payload=payload
            )

    def close(self) -> None:
        """Do nothing: it is memory."""

    def changes_since(self, revision: int) -> Tail:
        """Return what a store would; see `live.ChangeLog`."""
        later = [change for change in self._last.values() if change.revision > revision]
        changes = tuple(sorted(later, key=lambda change: change.revision))
        return Tail(changes=changes, revision=self.revision, complete=True)


def first_items() -> dict[str, Item]:
    """The items of the tiny world."""
    draw = np.random.default_rng(7)
    draw.normal(size=(tiny_world.USER_COUNT + 1, DIMENSION))
    draw.normal(size=(1, DIMENSION))
    vectors = draw.normal(size=(ITEM_COUNT, DIMENSION)).astype(np.float32)
    return {f"i{row}": Item({}, vectors[row]) for row in range(ITEM_COUNT)}


def drawn_item(draw: random.Random, number: int, *, with_vector: bool) -> Item:
    """Return a random item."""
    attributes: dict[str, Any] = {
        "title": f"New {number} é",
        # CSV does not tell an empty list from none.
        "genres": draw.sample([*GENRES, "Western"], draw.randint(0, 3)),
        "colour": "no column of the bundle",
    }
    if draw.random() < 0.8:
        attributes["year"] = draw.randint(1970, 2025)
    vector = None
    if with_vector:
        vector = np.array([draw.gauss(0, 1) for _ in range(DIMENSION)], np.float32)
    return Item(attributes, vector)


def world_of(
    folder: Path, items: Mapping[str, Item], *, tower: bool = False, version: str = "1"
) -> Path:
    """Export the bundle with these items; returns its folder.

    Args:
        folder: An empty folder.
        items: All items in the order of their rows; one without attributes is the tiny world's own.
        tower: Whether an item tower embeds the items.
        version: Version of the bundle: that of another has another item tower.
    """
    spec = tiny_world.write_spec(folder / "spec", **(_tower(folder, version) if tower else {}))
    own = {line.split(",")[0]: line for line in (folder / "spec/items.csv").read_text().split("\n")}
    lines = [own["id"]]
    for item_id, item in items.items():
        if not item.attributes:
            lines.append(own[item_id])
            continue
        year, genres = item.attributes.get("year", ""), item.attributes["genres"]
        lines.append(f"{item_id},{item.attributes['title']},{year},{'|'.join(genres)}")
    (folder / "spec/items.csv").write_text("\n".join([*lines, ""]))
    if not tower:
        vectors = np.stack([item.vector for item in items.values() if item.vector is not None])
        np.save(folder / "spec/items.npy", vectors)
    done = (folder / "spec/interactions.csv").read_text().split("\n")
    known = [line for line in done if not line or line.split(",")[1] in {*items, "item_id"}]
    (folder / "spec/interactions.csv").write_text("\n".join(known))
    export_bundle(spec, folder / "bundle", version=version)
    return folder / "bundle"


def loaded(folder: Path) -> Generation:
    """Return the generation of a bundle, its graph used where it may be."""
    return load_generation(folder, GenerationOptions(exact_items_max=0))


def _tower(folder: Path, version: str) -> dict[str, Any]:
    (folder / "spec").mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(2 + int(version))
    tiny_world.save_model(
        folder / "spec/item_tower.onnx",
        [
            helper.make_node("MatMul", ["genres", "of_genres"], ["first"]),
            helper.make_node("Unsqueeze", ["year", "last"], ["column"]),
            helper.make_node("Mul", ["column", "scale"], ["scaled"]),
            helper.make_node("MatMul", ["scaled", "of_year"], ["turned"]),
            helper.make_node("Sin", ["turned"], ["second"]),
            helper.make_node("Add", ["first", "second"], ["embedding"]),
        ],
        {
            "genres": (TensorProto.FLOAT, ["item", len(GENRES) + 1]),
            "year": (TensorProto.FLOAT, ["item"]),
        },
        {"embedding": ["item", DIMENSION]},
        {
            "of_genres": draw.normal(size=(len(GENRES) + 1, DIMENSION)).astype(np.float32),
            "of_year": draw.normal(size=(1, DIMENSION)).astype(np.float32),
            "scale": np.array([0.3], np.float32),
            "last": np.array([1], np.int64),
        },
    )
    year = {"name": "item.year", "type": "int64", "default": 1990}
    return {
        "features": [*tiny_world.FEATURES, year],
        "item_tower": {
            "model": "item_tower.onnx",
            "inputs": TOWER_SOURCES,
            "output": "embedding",
        },
        "items": {"file": "items.csv", "lists": {"genres": "|"}},
    }
