"""The tiny world whose item tower and ranker read what the items' texts mean.

An item's vector is `genres @ of_genres + point @ of_text`, its rating `retrieval score +
sum(point * liked)`; the weights come from a seed, the points from the tiny embedder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import text_world
import tiny_embedder
import tiny_world
from onnx import TensorProto, helper
from shortlist_exporters.export import export_bundle
from tiny_world import DIMENSION, GENRES

WIDTH = int(tiny_embedder.CONFIG["hidden_size"])
"""Components of the point of a text."""


def text_input(axis: str = "item") -> dict[str, Any]:
    """Return an input that takes the points of texts."""
    return {
        "name": "text",
        "dtype": "float32",
        "shape": [axis, WIDTH],
        "source": "text.embedding",
    }


def weights(seed: int = 3) -> dict[str, np.ndarray]:
    """Return the weights of item tower and ranker."""
    draw = np.random.default_rng(seed)
    return {
        "of_genres": draw.normal(size=(len(GENRES) + 1, DIMENSION)).astype(np.float32),
        "of_text": draw.normal(size=(WIDTH, DIMENSION)).astype(np.float32),
        "liked": draw.normal(size=(WIDTH, 1)).astype(np.float32),
    }


def vectors(genres: Sequence[Sequence[str]], points: np.ndarray, seed: int = 3) -> np.ndarray:
    """Return what the item tower makes of items, [items, DIMENSION]."""
    hot = np.zeros((len(genres), len(GENRES) + 1), np.float32)
    for row, names in enumerate(genres):
        hot[row, [GENRES.index(name) + 1 if name in GENRES else 0 for name in names]] = 1
    made: np.ndarray = hot @ weights(seed)["of_genres"] + points @ weights(seed)["of_text"]
    return made


def write_spec(folder: Path, *, seed: int = 3, embedder_seed: int = 5, **changes: Any) -> Path:
    """Write models, tables, texts and an export spec; returns the spec's path.

    Args:
        folder: Where to write; made if missing.
        seed: Of the weights of item tower and ranker.
        embedder_seed: Of those of the embedder.
        changes: Fields of the spec to replace; None removes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    embedder = tiny_embedder.write_embedder(folder, seed=embedder_seed)
    text_world.write_plots(folder / "plots.csv")
    of = weights(seed)
    tiny_world.save_model(
        folder / "item_tower.onnx",
        [
            helper.make_node("MatMul", ["genres", "of_genres"], ["first"]),
            helper.make_node("MatMul", ["text", "of_text"], ["second"]),
            helper.make_node("Add", ["first", "second"], ["embedding"]),
        ],
        {
            "genres": (TensorProto.FLOAT, ["item", len(GENRES) + 1]),
            "text": (TensorProto.FLOAT, ["item", WIDTH]),
        },
        {"embedding": ["item", DIMENSION]},
        {name: of[name] for name in ("of_genres", "of_text")},
    )
    tiny_world.save_model(
        folder / "text_ranker.onnx",
        [
            helper.make_node("MatMul", ["text", "liked"], ["of_item"]),
            helper.make_node("Add", ["of_item", "retrieved"], ["rating"]),
        ],
        {
            "text": (TensorProto.FLOAT, ["candidate", WIDTH]),
            "retrieved": (TensorProto.FLOAT, ["candidate", 1]),
        },
        {"rating": ["candidate", 1]},
        {"liked": of["liked"]},
    )
    genres = next(one for one in tiny_world.RANKER_INPUTS if one["name"] == "genres")
    retrieved = next(one for one in tiny_world.RANKER_INPUTS if one["name"] == "retrieved")
    spec = {
        "items": {"file": "items.csv", "lists": {"genres": "|"}},
        "texts": {
            "attributes": text_world.ATTRIBUTES,
            "file": "plots.csv",
            "embedder": embedder.name,
        },
        "item_tower": {
            "model": "item_tower.onnx",
            "inputs": [{**genres, "shape": ["item", len(GENRES) + 1]}, text_input()],
            "output": "embedding",
        },
        "ranker": {
            "model": "text_ranker.onnx",
            "inputs": [text_input("candidate"), retrieved],
            "weights": {"rating": 1.0},
        },
    }
    return tiny_world.write_spec(folder, **{**spec, **changes})


def write_bundle(folder: Path, *, version: str = "1", **options: Any) -> Path:
    """Write the bundle; returns its folder. Options are those of `write_spec`."""
    export_bundle(write_spec(folder / "spec", **options), folder / "bundle", version=version)
    return folder / "bundle"
