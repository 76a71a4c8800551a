"""A tiny recommender for tests: real ONNX models with known weights, made without a training
framework.

The query tower is `user_vectors[user.id] + age * age_direction`; the ranker is a two-layer network
over the user's and the item's vectors, a genre count and the retrieval score. All weights come from
a seed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ITEM_COUNT = 60
USER_COUNT = 12
DIMENSION = 8
GENRES = ("Comedy", "Drama", "Horror")

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def save_model(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, list[Any]],
    weights: dict[str, np.ndarray],
) -> None:
    """Write an ONNX model, opset 17."""
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, *info) for name, info in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def write_spec(folder: Path, **changes: Any) -> Path:
    """Write models, tables and an export spec into a folder; returns the spec's path.

    Args:
        folder: Where to write; made if missing.
        changes: Fields of the spec to replace; None removes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(7)
    user_vectors = draw.normal(size=(USER_COUNT + 1, DIMENSION)).astype(np.float32)
    age_direction = draw.normal(size=(1, DIMENSION)).astype(np.float32)
    np.save(folder / "items.npy", draw.normal(size=(ITEM_COUNT, DIMENSION)).astype(np.float32))
    _write_query_tower(folder / "query_tower.onnx", user_vectors, age_direction)
    _write_ranker(folder / "ranker.onnx", draw)
    _write_tables(folder, draw)
    spec = {
        "name": "tiny",
        "metric": "inner_product",
        "data": {"name": "tiny-world", "simulated": True},
        "vocabularies": {"users": {"file": "users.txt"}, "genres": {"file": "genres.txt"}},
        "features": FEATURES,
        "items": {
            "file": "items.csv",
            "embeddings": "items.npy",
            "lists": {"genres": "|"},
        },
        "users": {"file": "users.csv"},
        "interactions": {"file": "interactions.csv", "time": "time"},
        "query_tower": {"model": "query_tower.onnx", "inputs": QUERY_INPUTS, "output": "embedding"},
        "ranker": {
            "model": "ranker.onnx",
            "inputs": RANKER_INPUTS,
            "weights": {"rating": 1.0, "like": 0.5},
        },
        "index": {"m": 8, "ef_construction": 100, "ef": 50, "seed": 1},
    } | changes
    path = folder / "export.json"
    path.write_text(json.dumps({name: value for name, value in spec.items() if value is not None}))
    return path


FEATURES = [
    {"name": "user.age", "type": "double", "default": 30.0},
    {"name": "user.segment", "type": "string", "default": "none"},
    {"name": "context.hour", "type": "int64", "default": 12},
    {"name": "item.genres", "type": "string_list", "default": []},
]
USER_INPUT = {
    "name": "user",
    "dtype": "int64",
    "shape": ["request"],
    "source": "user.id",
    "transforms": [{"kind": "lookup", "vocabulary": "users"}],
}
AGE_INPUT = {
    "name": "age",
    "dtype": "float32",
    "shape": ["request"],
    "source": "user.age",
    "transforms": [{"kind": "normalize", "mean": 40.0, "variance": 100.0}],
}
QUERY_INPUTS = [USER_INPUT, AGE_INPUT]
RANKER_INPUTS = [
    USER_INPUT,
    {
        "name": "hour",
        "dtype": "float32",
        "shape": ["request"],
        "source": "context.hour",
        "transforms": [],
    },
    {
        "name": "genres",
        "dtype": "float32",
        "shape": ["candidate", len(GENRES) + 1],
        "source": "item.genres",
        "transforms": [
            {"kind": "lookup", "vocabulary": "genres"},
            {"kind": "multi_hot", "size": len(GENRES) + 1},
        ],
    },
    {
        "name": "retrieved",
        "dtype": "float32",
        "shape": ["candidate", 1],
        "source": "retrieval.score",
    },
    {"name": "request", "dtype": "int64", "shape": ["candidate"], "source": "request.index"},
]


def _write_query_tower(path: Path, user_vectors: np.ndarray, age_direction: np.ndarray) -> None:
    save_model(
        path,
        [
            helper.make_node("Gather", ["user_vectors", "user"], ["of_user"]),
            helper.make_node("Unsqueeze", ["age", "last"], ["age_column"]),
            helper.make_node("MatMul", ["age_column", "age_direction"], ["of_age"]),
            helper.make_node("Add", ["of_user", "of_age"], ["embedding"]),
        ],
        {"user": (INT64, ["request"]), "age": (FLOAT, ["request"])},
        {"embedding": ["request", DIMENSION]},
        {
            "user_vectors": user_vectors,
            "age_direction": age_direction,
            "last": np.array([1], np.int64),
        },
    )


def _write_ranker(path: Path, draw: np.random.Generator) -> None:
    width = 6
    weights = {
        "user_part": draw.normal(size=(USER_COUNT + 1, width)),
        "hour_part": draw.normal(size=(1, width)) / 24,
        "genre_part": draw.normal(size=(len(GENRES) + 1, width)),
        "score_part": draw.normal(size=(1, width)) / 4,
        "last_layer": draw.normal(size=(width, 2)),
    }
    save_model(
        path,
        [
            helper.make_node("Gather", ["user_part", "user"], ["of_user"]),
            helper.make_node("Unsqueeze", ["hour", "last"], ["hour_column"]),
            helper.make_node("MatMul", ["hour_column", "hour_part"], ["of_hour"]),
            helper.make_node("Add", ["of_user", "of_hour"], ["of_request"]),
            helper.make_node("Gather", ["of_request", "request"], ["repeated"]),
            helper.make_node("MatMul", ["genres", "genre_part"], ["of_genres"]),
            helper.make_node("MatMul", ["retrieved", "score_part"], ["of_score"]),
            helper.make_node("Add", ["of_genres", "of_score"], ["of_item"]),
            helper.make_node("Add", ["repeated", "of_item"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["active"]),
            helper.make_node("MatMul", ["active", "last_layer"], ["both"]),
            helper.make_node("Split", ["both"], ["rating_column", "like_column"], axis=1),
            helper.make_node("Squeeze", ["rating_column", "last"], ["rating"]),
            helper.make_node("Squeeze", ["like_column", "last"], ["like"]),
        ],
        {
            "user": (INT64, ["request"]),
            "hour": (FLOAT, ["request"]),
            "genres": (FLOAT, ["candidate", len(GENRES) + 1]),
            "retrieved": (FLOAT, ["candidate", 1]),
            "request": (INT64, ["candidate"]),
        },
        {"rating": ["candidate"], "like": ["candidate"]},
        {name: array.astype(np.float32) for name, array in weights.items()}
        | {"last": np.array([1], np.int64)},
    )


def _write_tables(folder: Path, draw: np.random.Generator) -> None:
    genres = [
        "|".join(draw.choice(GENRES, draw.integers(0, 3), replace=False)) for _ in range(ITEM_COUNT)
    ]
    items = [
        f"i{row},Film {row} é,{1980 + row % 40 if row % 7 else ''},{genres[row]}"
        for row in range(ITEM_COUNT)
    ]
    (folder / "items.csv").write_text("\n".join(["id,title,year,genres", *items, ""]))
    users = [f"u{row},{20.5 + row},{'new' if row % 2 else 'old'}" for row in range(USER_COUNT)]
    (folder / "users.csv").write_text("\n".join(["id,age,segment", *users, ""]))
    done = [
        f"u{user},i{item},{1_000_000 + place}"
        for user in range(USER_COUNT)
        for place, item in enumerate(draw.choice(ITEM_COUNT, 5, replace=False))
    ]
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,time", *done, ""]))
    (folder / "users.txt").write_text("".join(f"u{row}\n" for row in range(USER_COUNT)))
    (folder / "genres.txt").write_text("".join(f"{genre}\n" for genre in GENRES))
