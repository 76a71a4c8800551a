"""A small recommender whose bundle has every section, every type of column and every transform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import tiny_world
from onnx import TensorProto, helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def entry(
    name: str, source: str, *transforms: dict[str, Any], width: int = 0, dtype: str = "int64"
) -> dict[str, Any]:
    shape = ["n", width] if width else ["n"]
    return {
        "name": name,
        "dtype": dtype,
        "shape": shape,
        "source": source,
        "transforms": list(transforms),
    }


def lookup(vocabulary: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "lookup", "vocabulary": vocabulary, **fields}


QUERY_INPUTS = [
    entry("user", "user.id", lookup("users", oov_count=2)),
    entry(
        "history",
        "history.item_id",
        lookup("items", mask_token=""),
        {"kind": "pad", "length": 4, "side": "left"},
        width=4,
    ),
    entry("history_length", "history.item_id", {"kind": "length", "maximum": 4}),
    entry("hour", "context.hour", {"kind": "bucketize", "boundaries": [6.0, 12.0, 18.0]}),
    entry("segment", "user.segment", {"kind": "hash", "bins": 5}),
    entry(
        "age", "user.age", {"kind": "normalize", "mean": 40.0, "variance": 100.0}, dtype="float32"
    ),
]
ITEM_INPUTS = [
    entry("item", "item.id", lookup("items")),
    entry(
        "words",
        "item.title",
        {"kind": "tokenize", "vocabulary": "words"},
        {"kind": "pad", "length": 3, "keep": "first"},
        width=3,
    ),
    entry(
        "years",
        "item.years",
        lookup("years"),
        {"kind": "multi_hot", "size": 4},
        width=4,
        dtype="float32",
    ),
]
FEATURES = [
    {"name": "user.age", "type": "double", "default": 30.0},
    {"name": "user.segment", "type": "string", "default": "none"},
    {"name": "context.hour", "type": "int64", "default": 12},
    {"name": "item.title", "type": "string", "default": ""},
    {"name": "item.genres", "type": "string_list", "default": []},
    {"name": "item.years", "type": "int64_list", "default": []},
]
SOURCES = [
    {"kind": "nearest"},
    {"kind": "recent_history", "event_count": 3},
    {"name": "drama", "kind": "popularity", "attribute": "genres", "value": "Drama"},
]
VOCABULARIES = {
    "items": [f"i{row}" for row in range(tiny_world.ITEM_COUNT)],
    "words": ["film", "é", "1", "2"],
    "years": ["1980", "1990", "2000"],
}


def write_spec(folder: Path) -> Path:
    """Write models, tables and an export spec into a folder; returns the spec's path."""
    vocabularies = {name: {"file": f"{name}.txt"} for name in ("users", "genres", *VOCABULARIES)}
    vocabularies["years"]["type"] = "int64"
    spec = tiny_world.write_spec(
        folder,
        metric="cosine",
        features=FEATURES,
        sources=SOURCES,
        items={"file": "items.parquet"},
        vocabularies=vocabularies,
        query_tower={"model": "towers.onnx", "inputs": QUERY_INPUTS, "output": "embedding"},
        item_tower={"model": "item_tower.onnx", "inputs": ITEM_INPUTS, "output": "embedding"},
    )
    draw = np.random.default_rng(3)
    _write_items(folder, draw)
    _write_towers(folder, draw)
    for name, tokens in VOCABULARIES.items():
        (folder / f"{name}.txt").write_text("".join(f"{token}\n" for token in tokens))
    return spec


def _write_items(folder: Path, draw: np.random.Generator) -> None:
    rows = range(tiny_world.ITEM_COUNT)

    def lists(values: tuple[object, ...]) -> list[list[object] | None]:
        return [
            None if row % 9 == 0 else [values[n] for n in draw.integers(0, len(values), row % 3)]
            for row in rows
        ]

    columns: dict[str, pyarrow.Array] = {
        "id": pyarrow.array([f"i{row}" for row in rows]),
        "title": pyarrow.array([f"Film {row} é" if row % 5 else None for row in rows]),
        "year": pyarrow.array([1980 + row % 40 if row % 7 else None for row in rows]),
        "price": pyarrow.array([row / 4 for row in rows]),
        "fresh": pyarrow.array([row % 2 == 0 if row % 11 else None for row in rows]),
        "genres": pyarrow.array(lists(tiny_world.GENRES), pyarrow.list_(pyarrow.string())),
        "years": pyarrow.array(lists((1980, 1990, 2010)), pyarrow.list_(pyarrow.int64())),
        "ratios": pyarrow.array(lists((0.5, 1.5)), pyarrow.list_(pyarrow.float64())),
        "flags": pyarrow.array(lists((True, False)), pyarrow.list_(pyarrow.bool_())),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "items.parquet")


def _write_towers(folder: Path, draw: np.random.Generator) -> None:
    def normal(*shape: int) -> np.ndarray:
        return draw.normal(size=(*shape, tiny_world.DIMENSION)).astype(np.float32)

    made = helper.make_node
    parts = ["of_user", "of_history", "of_length", "of_hour", "of_segment", "of_age"]
    tiny_world.save_model(
        folder / "towers.onnx",
        [
            made("Gather", ["user_vectors", "user"], ["of_user"]),
            made("Gather", ["item_vectors", "history"], ["of_events"]),
            made("ReduceMean", ["of_events"], ["of_history"], axes=[1], keepdims=0),
            made("Gather", ["length_vectors", "history_length"], ["of_length"]),
            made("Gather", ["hour_vectors", "hour"], ["of_hour"]),
            made("Gather", ["segment_vectors", "segment"], ["of_segment"]),
            made("Unsqueeze", ["age", "last"], ["age_column"]),
            made("MatMul", ["age_column", "age_direction"], ["of_age"]),
            made("Sum", parts, ["embedding"]),
        ],
        {"history": (INT64, ["n", 4]), "age": (FLOAT, ["n"])}
        | {name: (INT64, ["n"]) for name in ("user", "history_length", "hour", "segment")},
        {"embedding": ["n", tiny_world.DIMENSION]},
        {
            "user_vectors": normal(tiny_world.USER_COUNT + 2),
            "item_vectors": normal(tiny_world.ITEM_COUNT + 2),
            "length_vectors": normal(5),
            "hour_vectors": normal(4),
            "segment_vectors": normal(5),
            "age_direction": normal(1),
            "last": np.array([1], np.int64),
        },
    )
    tiny_world.save_model(
        folder / "item_tower.onnx",
        [
            made("Gather", ["item_vectors", "item"], ["of_item"]),
            made("Gather", ["word_vectors", "words"], ["of_words"]),
            made("ReduceMean", ["of_words"], ["of_title"], axes=[1], keepdims=0),
            made("MatMul", ["years", "year_vectors"], ["of_years"]),
            made("Sum", ["of_item", "of_title", "of_years"], ["embedding"]),
        ],
        {"item": (INT64, ["n"]), "words": (INT64, ["n", 3]), "years": (FLOAT, ["n", 4])},
        {"embedding": ["n", tiny_world.DIMENSION]},
        {
            "item_vectors": normal(tiny_world.ITEM_COUNT + 1),
            "word_vectors": normal(6),
            "year_vectors": normal(4),
        },
    )
