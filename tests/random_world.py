"""Random small catalogues for tests against an oracle: real ONNX models, a real graph, and plain
Python values of everything beside them.

All numbers are small integers, or halves and quarters of them, so that sums and products are exact
in float32 in whatever order they are made: scores can be compared for equality, and ties abound.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tiny_world
from onnx import TensorProto, helper
from shortlist_server.bundle.columns import ColumnArray
from shortlist_server.bundle.manifest import Manifest
from shortlist_server.bundle.reader import Bundle, PopularityList, UserTable
from shortlist_server.catalog.catalog import BundleCatalog
from shortlist_server.funnel.budget import Shares
from shortlist_server.funnel.funnel import Funnel
from shortlist_server.funnel.gather import Gatherer
from shortlist_server.funnel.options import Nearest, SourceOptions
from shortlist_server.index import hnsw
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.filters import FilterOptions
from shortlist_server.index.hnsw import HnswIndex
from shortlist_server.index.plan import SearchCosts
from shortlist_server.index.searcher import Searcher, SearcherOptions
from shortlist_server.runtime.featurize import VocabularyIndex
from shortlist_server.runtime.inputs import ModelInputs
from shortlist_server.runtime.models import LoadedModel, item_feeds
from shortlist_server.runtime.onnx_session import OnnxSession
from shortlist_server.stages.popularity import CallerSource, PopularSource
from shortlist_server.stages.query_tower import TowerEncoder
from shortlist_server.stages.ranking import OnnxRanker
from shortlist_server.stages.retrieval import HistorySource, NearestSource

DIMENSION = 4
SIZES = (1, 2, 3, 5, 8, 13, 21, 40, 80, 150, 300)
TOWER_USERS = tuple(f"u{number}" for number in range(5))
"""Users whom the query tower knows; the first four are in the table too, as is `u9` alone."""
TABLE_USERS = ("u0", "u1", "u2", "u3", "u9")
COLORS = ("", "blue", "green", "grün", "red")
TAGS = ("a", "b", "c", "d")
ATTRIBUTES = {
    "color": "string",
    "grade": "int64",
    "price": "double",
    "fresh": "bool",
    "tags": "string_list",
    "years": "int64_list",
    "ratios": "double_list",
    "flags": "bool_list",
}
VALUES: dict[str, tuple[Any, ...]] = {
    "string": COLORS,
    "int64": (-2, -1, 0, 1, 2, 3, 2**62),
    "double": (-0.5, 0.0, 0.5, 1.0, 2.0, 1e300),
    "bool": (False, True),
}
OUTPUTS = ("first", "second")

USER_VECTORS = [
    [0, 1, -1, 0],
    [1, 0, 2, -1],
    [0, 0, 1, 1],
    [-2, 1, 0, 0],
    [3, 0, 0, 1],
    [0, 0, 0, 0],
]
SIGNS = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [-1, 1, 1, -1], [1, 1, 1, -1], [-1, 1, 1, 1]]
MOOD_DIRECTION = [1, -1, 0, 2]
BIAS = [0, 1, -1, 2, -2, 1]

MODES: dict[str, tuple[SearchCosts, SearcherOptions]] = {
    name: (
        SearchCosts(
            scan_ns=scan, gather_ns=gather, scan_base_ns=1, graph_ns=graph, graph_base_ns=0,
            visit_ns=visit,
        ),
        SearcherOptions(
            exact_items_max=exact_items_max, exact_ms_max=0.0, fetched_max=fetched_max, ef=ef
        ),
    )
    for name, scan, gather, graph, visit, exact_items_max, fetched_max, ef in (
        ("scan", 1, 1e9, 1, 1, 10**6, 4096, 20),
        ("rows", 1e9, 1, 1, 1, 10**6, 4096, 20),
        ("graph", 1e9, 1e9, 0.001, 1e6, 0, 4096, 20),
        ("filtered", 1e9, 1e9, 0.001, 0.0001, 0, 0, 5),
        ("cheapest", 10, 20, 30, 60, 0, 64, 8),
    )
}  # fmt: skip
"""Ways in which searches are planned: what they are said to cost makes the planner take each."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A catalogue with its users, in plain values, and what is needed to serve it."""

    metric: str
    ids: list[str]
    attributes: dict[str, list[Any]]
    """Values by attribute, one an item; None is no value, a tuple is a list."""
    vectors: np.ndarray
    seen: dict[str, list[int]]
    likes: dict[str, str]
    """Feature `user.likes` of the users in the table that have it."""
    has_tower: bool
    has_ranker: bool
    popular: list[tuple[int, float]] | None
    """Row and score, most popular first; None: the bundle has no popularity."""
    catalog: BundleCatalog
    funnels: dict[str, Funnel] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.ids)

    def user_vector(self, user_id: str, mood: int) -> np.ndarray:
        """What the query tower gives, float64."""
        number = 1 + TOWER_USERS.index(user_id) if user_id in TOWER_USERS else 0
        if self.metric == "cosine":
            return np.array(SIGNS[number]) / 2
        return np.array(USER_VECTORS[number], float) + mood * np.array(MOOD_DIRECTION)

    def outputs(self, user_id: str, row: int, retrieved: float) -> dict[str, float]:
        """What the ranker gives for one item."""
        grade = self.attributes["grade"][row] or 0
        bias = BIAS[1 + TOWER_USERS.index(user_id) if user_id in TOWER_USERS else 0]
        # The model computes in float32: a grade of 2^62 swallows what is added to it.
        first = np.float32(np.float32(bias * grade) + np.float32(retrieved))
        second = np.float32(np.float32(grade) - np.float32(retrieved))
        return {"first": float(first), "second": float(second)}


@cache
def models(folder: Path) -> dict[str, LoadedModel]:
    """The models of all worlds: `inner_product`, `l2` and `cosine` are towers, `ranker` ranks."""
    vocabularies = {"users": VocabularyIndex(list(TOWER_USERS))}
    loaded = {}
    for name, tensors in _model_entries(folder).items():
        document = {"file": f"{name}.onnx"} | tensors
        manifest = _manifest("l2", document, None, 1)
        assert manifest.query_tower is not None
        declared = manifest.query_tower.model
        loaded[name] = LoadedModel(
            OnnxSession(folder / f"{name}.onnx", declared),
            ModelInputs(declared, manifest.features, vocabularies),
        )
    return loaded


@cache
def make(seed: int, folder: Path) -> World:
    """Return the world of a seed.

    Args:
        seed: From 0; neighbouring seeds differ in metric and in what the bundle lacks.
        folder: Where models and graphs are written.
    """
    draw = random.Random(seed)
    metric = ("inner_product", "l2", "cosine")[seed % 3]
    size = SIZES[seed % len(SIZES)]
    ids = [f"i{row}" for row in range(size)]
    attributes = {name: _cells(kind, size, draw) for name, kind in ATTRIBUTES.items()}
    pool = [_vector(metric, draw) for _ in range(max(1, size // draw.choice((1, 2, 4))))]
    vectors = np.array([draw.choice(pool) for _ in range(size)], np.float32)
    lengths = (0, 1) if metric == "cosine" else (0, 1, 2, 4)
    seen = {
        user: draw.sample(
            range(size), min(draw.choice(lengths), 4 if size >= 4 else size & ~1 or 1)
        )
        for user in TABLE_USERS
    }
    likes = {user: draw.choice(COLORS) for user in TABLE_USERS if draw.random() < 0.6}
    listed = draw.sample(range(size), draw.randint(0, size))
    numbers = sorted((draw.randint(0, 8) / 2 for _ in listed), reverse=True)
    popular = list(zip(listed, numbers, strict=True)) if seed % 5 else None
    columns = {
        name: ColumnArray.of(name, ATTRIBUTES[name], cells) for name, cells in attributes.items()
    }
    has_tower, has_ranker = seed % 7 != 0, seed % 4 != 0
    document = {"file": "tower.onnx"} | _model_entries(folder)[metric]
    bundle = Bundle(
        folder=folder,
        manifest=_manifest(metric, document if has_tower else None, attributes, size),
        sha256="",
        item_ids=ids,
        item_columns=columns,
        item_embeddings=vectors,
        vocabularies={"users": list(TOWER_USERS)},
        popularity=None
        if popular is None
        else PopularityList(
            rows=np.array([row for row, _ in popular], np.int64),
            scores=np.array([score for _, score in popular], np.float32),
        ),
        users=UserTable(
            ids=list(TABLE_USERS),
            columns={
                "likes": ColumnArray.of(
                    "likes", "string", [likes.get(user) for user in TABLE_USERS]
                )
            },
            seen_offsets=np.cumsum([0, *(len(seen[user]) for user in TABLE_USERS)]),
            seen_rows=np.array([row for user in TABLE_USERS for row in seen[user]], np.int64),
        ),
    )
    world = World(
        metric=metric, ids=ids, attributes=attributes, vectors=vectors, seen=seen, likes=likes,
        has_tower=has_tower, has_ranker=has_ranker, popular=popular,
        catalog=BundleCatalog(bundle, FilterOptions(cache_bytes_max=9 * size * 4)),
    )  # fmt: skip
    for mode, funnel in _funnels(bundle, world, folder, seed).items():
        world.funnels[mode] = funnel
    return world


def _funnels(bundle: Bundle, world: World, folder: Path, seed: int) -> dict[str, Funnel]:
    vectors, metric = bundle.item_embeddings, bundle.manifest.metric
    path = folder / f"graph{seed}.bin"
    # Few links: the graph then does not always lead to as many items as are wanted.
    m = 2 if seed % 2 else 8
    hnsw.build(vectors, path, metric=metric, m=m, ef_construction=20, seed=seed)
    graph = HnswIndex(path, vectors, metric=metric, m=m, name="graph")
    exact = ExactIndex(vectors, metric)
    loaded = models(folder)
    encoder = TowerEncoder(
        tower=loaded[metric] if world.has_tower else None,
        item_ids=bundle.item_ids,
        embeddings=vectors,
        metric=metric,
    )
    ranker = None
    if world.has_ranker:
        ranker = OnnxRanker(
            model=loaded["ranker"],
            item_feeds=item_feeds(bundle.item_ids, bundle.item_columns, loaded["ranker"]),
            item_ids=bundle.item_ids,
            weights={"first": 1.0, "second": 0.5},
        )
        ranker.chunk_rows = (7, 64, 4096)[seed % 3]
    funnels = {}
    for mode, (costs, options) in MODES.items():
        searcher = Searcher(exact=exact, graph=graph, costs=costs, options=options)
        kinds: Any = {
            "nearest": NearestSource(searcher),
            "recent_history": HistorySource(searcher, vectors, cosine=metric == "cosine"),
            "popularity": PopularSource(bundle.popularity, world.catalog.select_value),
            "caller": CallerSource(world.catalog.rows),
        }
        funnels[mode] = Funnel(
            catalog=world.catalog,
            encoder=encoder,
            gatherer=Gatherer(kinds, encoder, share=0.6),
            sources=(SourceOptions(settings=Nearest()),),
            ranker=ranker,
            shares=Shares(),
        )
    return funnels


def _cells(kind: str, size: int, draw: random.Random) -> list[Any]:
    values = VALUES[kind.removesuffix("_list")]
    missing = draw.choice((0.0, 0.2, 0.6))

    def cell() -> Any:
        if draw.random() < missing:
            return None
        if kind.endswith("_list"):
            return tuple(draw.choices(values, k=draw.randint(0, 3)))
        return draw.choice(values)

    return [cell() for _ in range(size)]


def _vector(metric: str, draw: random.Random) -> list[float]:
    if metric != "cosine":
        return [float(draw.randint(-2, 2)) for _ in range(DIMENSION)]
    if draw.random() < 0.7:
        return [draw.choice((-0.5, 0.5)) for _ in range(DIMENSION)]
    axis = draw.randrange(DIMENSION)
    return [float(place == axis) * draw.choice((-1, 1)) for place in range(DIMENSION)]


@cache
def _model_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Write the models; returns what a manifest says of each."""
    user = {
        "name": "user", "dtype": "int64", "shape": ["request"], "source": "user.id",
        "transforms": [{"kind": "lookup", "vocabulary": "users"}],
    }  # fmt: skip
    entries = {}
    for metric in ("inner_product", "l2", "cosine"):
        flat = metric == "cosine"
        tiny_world.save_model(
            folder / f"{metric}.onnx",
            [
                helper.make_node("Gather", ["user_vectors", "user"], ["of_user"]),
                helper.make_node("Unsqueeze", ["mood", "last"], ["mood_column"]),
                helper.make_node("MatMul", ["mood_column", "direction"], ["of_mood"]),
                helper.make_node("Add", ["of_user", "of_mood"], ["embedding"]),
            ],
            {"user": (TensorProto.INT64, ["request"]), "mood": (TensorProto.FLOAT, ["request"])},
            {"embedding": ["request", DIMENSION]},
            {
                "user_vectors": np.array(SIGNS if flat else USER_VECTORS, np.float32),
                "direction": np.array([MOOD_DIRECTION], np.float32) * (not flat),
                "last": np.array([1], np.int64),
            },
        )
        mood = {"name": "mood", "dtype": "float32", "shape": ["request"], "source": "user.mood"}
        entries[metric] = {
            "inputs": [user, mood],
            "outputs": [{"name": "embedding", "shape": ["request", DIMENSION]}],
        }
    tiny_world.save_model(
        folder / "ranker.onnx",
        [
            helper.make_node("Gather", ["bias", "user"], ["of_request"]),
            helper.make_node("Gather", ["of_request", "request"], ["repeated"]),
            helper.make_node("Mul", ["repeated", "grade"], ["biased"]),
            helper.make_node("Add", ["biased", "retrieved"], ["first"]),
            helper.make_node("Sub", ["grade", "retrieved"], ["second"]),
        ],
        {"user": (TensorProto.INT64, ["request"])}
        | {name: (TensorProto.FLOAT, ["candidate"]) for name in ("grade", "retrieved")}
        | {"request": (TensorProto.INT64, ["candidate"])},
        {name: ["candidate"] for name in OUTPUTS},
        {"bias": np.array(BIAS, np.float32)},
    )
    sources = {"grade": "item.grade", "retrieved": "retrieval.score"}
    entries["ranker"] = {
        "inputs": [
            user,
            *(
                {"name": name, "dtype": "float32", "shape": ["candidate"], "source": source}
                for name, source in sources.items()
            ),
            {
                "name": "request",
                "dtype": "int64",
                "shape": ["candidate"],
                "source": "request.index",
            },
        ],
        "outputs": [{"name": name, "shape": ["candidate"]} for name in OUTPUTS],
    }
    return entries


def _manifest(metric: str, tower: dict[str, Any] | None, attributes: Any, size: int) -> Manifest:
    strings = {"offsets": "o.npy", "utf8": "u.npy"}
    features = (
        ("user.mood", "int64", 0),
        ("user.likes", "string", ""),
        ("item.grade", "int64", 0),
    )
    return Manifest.model_validate(
        {
            "format_version": 1,
            "name": "random",
            "version": "1",
            "created": "2026-01-01T00:00:00Z",
            "framework_versions": {},
            "data": {"name": "random", "simulated": True},
            "metric": metric,
            "dimension": DIMENSION,
            "item_count": size,
            "index": {
                "kind": "hnsw", "file": "i.bin", "m": 8, "ef_construction": 20, "ef": 20, "seed": 1,
            },
            "items": {"ids": strings, "embeddings": "e.npy", "columns": []},
            "vocabularies": {"users": {"type": "string", "tokens": strings}},
            "features": [
                {"name": name, "type": kind, "default": default}
                for name, kind, default in features
            ],
            "sections": {"query_tower": {"required": True, "model": tower}} if tower else {},
            "files": {},
        }
    )  # fmt: skip
