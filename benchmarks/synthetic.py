"""A bundle of any size, from a seed: clustered item vectors, an id query tower and an MLP ranker as
ONNX.

    python benchmarks/synthetic.py --items 100000 --dimension 64 --out build/bench/standard

Its items lie in clusters, as trained embeddings do: uniformly random vectors are the one shape of
data that graph search is bad at, and no recommender has it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from shortlist_exporters.export import export_bundle

ROOT = Path(__file__).resolve().parent.parent
USER_COUNT = 10_000
CLUSTER_COUNT = 200
SPREAD = 0.35
"""Standard deviation of an item around its cluster's centre, whose components have 1."""
HIDDEN = (256, 128)
DRAW_COUNT = 10_000
"""Values of the attribute `draw`, uniformly at random: a range of so many is so much of all."""
SEED = 20_261


def build(out: Path, *, items: int, dimension: int) -> None:
    """Write a synthetic bundle."""
    folder = out.with_name(f"{out.name}-spec")
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(SEED)
    centres = draw.normal(size=(CLUSTER_COUNT, dimension)) / np.sqrt(dimension)
    clusters = draw.integers(0, CLUSTER_COUNT, items)
    vectors = _around(centres[clusters], draw)
    users = _around(centres[draw.integers(0, CLUSTER_COUNT, USER_COUNT + 1)], draw)
    np.save(folder / "items.npy", vectors)
    _save(
        folder / "query_tower.onnx",
        [helper.make_node("Gather", ["vectors", "user"], ["embedding"])],
        {"user": (TensorProto.INT64, ["request"])},
        {"embedding": ["request", dimension]},
        {"vectors": users},
    )
    _write_item_tower(folder / "item_tower.onnx", centres.astype(np.float32), draw)
    _write_ranker(folder / "ranker.onnx", users, vectors, draw)
    ids = [f"item-{row}" for row in range(items)]
    titles = [f"Item number {row}" for row in range(items)]
    table = pa.table(
        {
            "id": ids,
            "title": titles,
            "row": np.arange(items),
            # What filters are measured on: one attribute that follows the clusters, one that
            # follows nothing.
            "cluster": clusters,
            "draw": draw.integers(0, DRAW_COUNT, items),
        }
    )
    pq.write_table(table, folder / "items.parquet")
    (folder / "users.txt").write_text("".join(f"user-{row}\n" for row in range(USER_COUNT)))
    (folder / "export.json").write_text(json.dumps(_spec(items, dimension)))
    export_bundle(folder, out, version=f"{items}x{dimension}", replace=True)


def bundle(items: int, dimension: int) -> Path:
    """Return the synthetic bundle of this size, made if it is not there yet."""
    out = ROOT / f"build/bench/{items}x{dimension}-3"
    if not out.is_dir():
        build(out, items=items, dimension=dimension)
    return out


def centres_of(vectors: NDArray[np.float32], clusters: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean of each cluster, [clusters, dimension]."""
    sums = np.zeros((CLUSTER_COUNT, vectors.shape[1]))
    np.add.at(sums, clusters, vectors)
    sizes = np.maximum(np.bincount(clusters, minlength=CLUSTER_COUNT), 1)
    means: NDArray[np.float32] = (sums / sizes[:, np.newaxis]).astype(np.float32)
    return means


def query_points(
    centres: NDArray[np.float32], count: int, draw: np.random.Generator
) -> NDArray[np.float32]:
    """Return query embeddings as the bundle's users have them, [count, dimension]."""
    return _around(centres[draw.integers(0, len(centres), count)].astype(np.float64), draw)


def _around(centres: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float32]:
    noise = SPREAD * draw.normal(size=centres.shape) / np.sqrt(centres.shape[1])
    vectors: NDArray[np.float32] = (centres + noise).astype(np.float32)
    return vectors


def _write_item_tower(path: Path, centres: NDArray[np.float32], draw: np.random.Generator) -> None:
    """Write what embeds items that come later: from a cluster's centre, through one hidden layer.

    The items of the bundle itself keep the vectors that they were drawn with.
    """
    dimension = centres.shape[1]
    wide = (draw.normal(size=(dimension, HIDDEN[0])) / np.sqrt(dimension)).astype(np.float32)
    narrow = (draw.normal(size=(HIDDEN[0], dimension)) / np.sqrt(HIDDEN[0])).astype(np.float32)
    _save(
        path,
        [
            helper.make_node("Gather", ["centres", "cluster"], ["centre"]),
            helper.make_node("MatMul", ["centre", "wide"], ["sum"]),
            helper.make_node("Relu", ["sum"], ["active"]),
            helper.make_node("MatMul", ["active", "narrow"], ["step"]),
            helper.make_node("Add", ["centre", "step"], ["embedding"]),
        ],
        {"cluster": (TensorProto.INT64, ["item"])},
        {"embedding": ["item", dimension]},
        {"centres": centres, "wide": wide, "narrow": narrow},
    )


def _write_ranker(
    path: Path, users: NDArray[np.float32], items: NDArray[np.float32], draw: np.random.Generator
) -> None:
    dimension = users.shape[1]
    widths = (2 * dimension, *HIDDEN, 1)
    weights = {
        f"w{layer}": (draw.normal(size=(rows, columns)) / np.sqrt(rows)).astype(np.float32)
        for layer, (rows, columns) in enumerate(zip(widths, widths[1:], strict=False))
    }
    first = weights.pop("w0")
    weights |= {"user_part": first[:dimension], "item_part": first[dimension:]}
    weights |= {"users": users, "items": items, "last": np.array([1], np.int64)}
    _save(
        path,
        [
            helper.make_node("Gather", ["users", "user"], ["user_vector"]),
            helper.make_node("MatMul", ["user_vector", "user_part"], ["of_request"]),
            helper.make_node("Gather", ["of_request", "request"], ["repeated"]),
            helper.make_node("Gather", ["items", "item"], ["item_vector"]),
            helper.make_node("MatMul", ["item_vector", "item_part"], ["of_item"]),
            helper.make_node("Add", ["repeated", "of_item"], ["sum0"]),
            helper.make_node("Relu", ["sum0"], ["active0"]),
            helper.make_node("MatMul", ["active0", "w1"], ["sum1"]),
            helper.make_node("Relu", ["sum1"], ["active1"]),
            helper.make_node("MatMul", ["active1", "w2"], ["column"]),
            helper.make_node("Squeeze", ["column", "last"], ["rating"]),
        ],
        {
            "user": (TensorProto.INT64, ["request"]),
            "item": (TensorProto.INT64, ["candidate"]),
            "request": (TensorProto.INT64, ["candidate"]),
        },
        {"rating": ["candidate"]},
        weights,
    )


def _save(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, list[Any]],
    weights: dict[str, NDArray[Any]],
) -> None:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, *info) for name, info in inputs.items()],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )


def _spec(items: int, dimension: int) -> dict[str, Any]:
    user = {
        "name": "user",
        "dtype": "int64",
        "shape": ["request"],
        "source": "user.id",
        "transforms": [{"kind": "lookup", "vocabulary": "users"}],
    }
    item = {
        "name": "item",
        "dtype": "int64",
        "shape": ["candidate"],
        "source": "item.row",
        "transforms": [],
    }
    cluster = {
        "name": "cluster",
        "dtype": "int64",
        "shape": ["item"],
        "source": "item.cluster",
        "transforms": [],
    }
    request = {
        "name": "request",
        "dtype": "int64",
        "shape": ["candidate"],
        "source": "request.index",
    }
    return {
        "name": f"synthetic-{items}x{dimension}",
        "metric": "inner_product",
        "data": {"name": "synthetic clusters", "simulated": True},
        "vocabularies": {"users": {"file": "users.txt"}},
        "features": [
            {"name": "item.row", "type": "int64", "default": 0},
            {"name": "item.cluster", "type": "int64", "default": 0},
        ],
        "items": {"file": "items.parquet", "embeddings": "items.npy"},
        "query_tower": {"model": "query_tower.onnx", "inputs": [user], "output": "embedding"},
        "item_tower": {"model": "item_tower.onnx", "inputs": [cluster], "output": "embedding"},
        "ranker": {
            "model": "ranker.onnx",
            "inputs": [user, item, request],
            "weights": {"rating": 1.0},
        },
        "index": {"m": 16, "ef_construction": 200, "ef": 200},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    build(arguments.out, items=arguments.items, dimension=arguments.dimension)
