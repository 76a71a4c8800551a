"""Makes the bundle that the pages of `docs/` ask: 22 films, four users, models with stated weights.

    .venv/bin/python docs/examples/films.py build/films
    .venv/bin/shortlist-server serve --bundle build/films/bundle

The models are written down, not trained: the query embedding is the user's taste plus that of the
genre that is the favourite, and `liking` is 1 x retrieval score + 0.5 x rating + a number for the
user. All numbers are multiples of 1/16, so that every machine computes the same scores. Ratings and
tastes are made up.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper
from pyarrow import parquet
from shortlist_exporters.export import export_bundle

# id, title, year, genres, franchise, rating; then the embedding: space, crime, love, family.
# What is empty is missing; "-" is an empty list.
FILMS = """
star-wars       |Star Wars              |1977|Action,Science Fiction |Star Wars    |4.5 |2    0.25 0.25 0.75
empire          |The Empire Strikes Back|1980|Action,Science Fiction |Star Wars    |4.75|2.25 0.25 0.25 0.5
jedi            |Return of the Jedi     |1983|Action,Science Fiction |Star Wars    |4   |2    0.25 0.25 1
alien           |Alien                  |1979|Horror,Science Fiction |Alien        |4.5 |1.75 0.5  0    0
aliens          |Aliens                 |1986|Action,Science Fiction |Alien        |4.25|1.75 0.5  0    0.25
blade-runner    |Blade Runner           |1982|Crime,Science Fiction  |             |4.25|1.5  1    0.25 0
matrix          |The Matrix             |1999|Action,Science Fiction |             |4.5 |1.75 0.75 0.25 0
metropolis      |Metropolis             |1927|Science Fiction        |             |4   |1.25 0.25 0.5  0
terminator      |The Terminator         |1984|Action,Science Fiction |Terminator   |4   |1.5  0.75 0.25 0
terminator-2    |Terminator 2           |1991|Action,Science Fiction |Terminator   |4.25|1.5  0.75 0.25 0.25
godfather       |The Godfather          |1972|Crime,Drama            |Godfather    |4.75|0    2.25 0.5  0
godfather-2     |The Godfather Part II  |1974|Crime,Drama            |Godfather    |4.5 |0    2.25 0.25 0
fargo           |Fargo                  |1996|Crime,Drama            |             |4.25|0    1.75 0.25 0
heat            |Heat                   |1995|Action,Crime           |             |4   |0.25 2    0.25 0
pulp-fiction    |Pulp Fiction           |1994|Crime                  |             |4.5 |0.25 1.75 0.25 0
casablanca      |Casablanca             |1942|Drama,Romance          |             |4.75|0    0.5  2    0
amelie          |Amelie                 |2001|Romance                |             |4.25|0    0    2    0.75
before-sunrise  |Before Sunrise         |1995|Drama,Romance          |             |4   |0    0    1.75 0
toy-story       |Toy Story              |1995|Animation              |Toy Story    |4.25|0.5  0    0.25 2
toy-story-2     |Toy Story 2            |1999|Animation              |Toy Story    |4   |0.5  0    0.25 2
spirited-away   |Spirited Away          |2001|Animation              |             |4.5 |0.5  0    0.5  1.75
lost-reel       |The Lost Reel          |    |-                      |             |    |0.5  0.5  0.5  0.5
"""  # noqa: E501  # a table
GENRES = ("Science Fiction", "Crime", "Romance", "Animation")
# id, favourite genre, taste (as the embedding), what the user adds to every film's liking
USERS = """
ada |Science Fiction|0.75 0.25 0    0.25|0.25
ben |Crime          |0.25 0.75 0    0   |0
cleo|Romance        |0    0.25 0.75 0.5 |0.5
"""
SEEN = {
    "ada": ["metropolis", "alien", "star-wars"],
    "ben": ["fargo", "heat", "star-wars"],
    "cleo": ["casablanca", "toy-story", "amelie"],
    "dora": ["star-wars", "toy-story"],
}
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundle of films.")
    parser.add_argument("out", type=Path, help="where to write spec and bundle")
    parser.add_argument("--spec", type=Path, help="TOML with more of an export spec: sources, ...")
    options = parser.parse_args()
    more = tomllib.loads(options.spec.read_text()) if options.spec else {}
    spec = write_spec(options.out / "spec", **more)
    export_bundle(spec, options.out / "bundle", version="1", replace=True)
    print(f"written: {options.out / 'bundle'}")


def write_spec(folder: Path, **more: Any) -> Path:
    """Write models, tables and an export spec; returns its path.

    Args:
        folder: Where to write; made if missing.
        more: Fields of the spec beside or in place of those here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    films, users = _table(FILMS), _table(USERS)
    np.save(folder / "items.npy", np.array([_numbers(film[6]) for film in films], np.float32))
    nothing = np.zeros((1, 4), np.float32)
    tastes = np.concatenate([nothing, np.array([_numbers(user[2]) for user in users], np.float32)])
    favourites = np.concatenate([nothing, np.eye(4, dtype=np.float32) / 4])
    added = np.array([[0.0], *([float(user[3])] for user in users)], np.float32)
    _write_query_tower(folder / "query_tower.onnx", tastes, favourites)
    _write_ranker(folder / "ranker.onnx", added)
    _write_tables(folder, films, users)
    spec = {
        "name": "films",
        "metric": "inner_product",
        "data": {"name": "films of the documentation", "simulated": True},
        "vocabularies": {"users": {"file": "users.txt"}, "genres": {"file": "genres.txt"}},
        "features": [
            {"name": "user.favourite", "type": "string", "default": ""},
            {"name": "context.device", "type": "string", "default": ""},
            {"name": "item.rating", "type": "double", "default": 3.0},
        ],
        "items": {"file": "items.parquet", "embeddings": "items.npy"},
        "users": {"file": "users.csv"},
        "interactions": {"file": "interactions.csv", "time": "time"},
        "query_tower": {
            "model": "query_tower.onnx",
            "inputs": [
                _looked_up("user", "request", "user.id", "users"),
                _looked_up("favourite", "request", "user.favourite", "genres"),
            ],
            "output": "embedding",
        },
        "ranker": {
            "model": "ranker.onnx",
            "inputs": [
                _looked_up("user", "candidate", "user.id", "users"),
                _column("rating", "item.rating"),
                _column("retrieved", "retrieval.score"),
            ],
            "weights": {"liking": 1.0},
        },
        "index": {"m": 8, "ef_construction": 100, "ef": 50, "seed": 1},
    } | more
    path = folder / "export.json"
    path.write_text(json.dumps(spec, indent=2))
    return path


def _table(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split()]


def _looked_up(name: str, axis: str, source: str, vocabulary: str) -> dict[str, Any]:
    lookup = {"kind": "lookup", "vocabulary": vocabulary}
    return {
        "name": name,
        "dtype": "int64",
        "shape": [axis],
        "source": source,
        "transforms": [lookup],
    }


def _column(name: str, source: str) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": ["candidate", 1], "source": source}


def _write_query_tower(path: Path, tastes: np.ndarray, favourites: np.ndarray) -> None:
    _save_model(
        path,
        [
            helper.make_node("Gather", ["tastes", "user"], ["taste"]),
            helper.make_node("Gather", ["favourites", "favourite"], ["leaning"]),
            helper.make_node("Add", ["taste", "leaning"], ["embedding"]),
        ],
        {"user": (INT64, ["request"]), "favourite": (INT64, ["request"])},
        {"embedding": ["request", 4]},
        {"tastes": tastes, "favourites": favourites},
    )


def _write_ranker(path: Path, added: np.ndarray) -> None:
    _save_model(
        path,
        [
            helper.make_node("Gather", ["added", "user"], ["of_user"]),
            helper.make_node("Mul", ["rating", "half"], ["of_rating"]),
            helper.make_node("Sum", ["retrieved", "of_rating", "of_user"], ["liking"]),
        ],
        {
            "user": (INT64, ["candidate"]),
            "rating": (FLOAT, ["candidate", 1]),
            "retrieved": (FLOAT, ["candidate", 1]),
        },
        {"liking": ["candidate", 1]},
        {"added": added, "half": np.array([[0.5]], np.float32)},
    )


def _save_model(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, list[Any]],
    weights: dict[str, np.ndarray],
) -> None:
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


def _write_tables(folder: Path, films: list[list[str]], users: list[list[str]]) -> None:
    _write_items(folder / "items.parquet", films)
    rows = [f"{user},{favourite}" for user, favourite, *_ in users]
    (folder / "users.csv").write_text("\n".join(["id,favourite", *rows, ""]))
    done = [
        f"{user},{item},{1_000_000 + place}"
        for user, items in SEEN.items()
        for place, item in enumerate(items)
    ]
    (folder / "interactions.csv").write_text("\n".join(["user_id,item_id,time", *done, ""]))
    (folder / "users.txt").write_text("".join(f"{user[0]}\n" for user in users))
    (folder / "genres.txt").write_text("".join(f"{genre}\n" for genre in GENRES))


def _write_items(path: Path, films: list[list[str]]) -> None:
    ids, titles, years, genres, franchises, ratings, _ = zip(*films, strict=True)
    columns = {
        "id": pa.array(ids),
        "title": pa.array(titles),
        "year": pa.array([int(year) if year else None for year in years], pa.int64()),
        "genres": pa.array(
            [None if not cell else [] if cell == "-" else cell.split(",") for cell in genres],
            pa.list_(pa.string()),
        ),
        "franchise": pa.array([franchise or None for franchise in franchises], pa.string()),
        "rating": pa.array([float(rating) if rating else None for rating in ratings], pa.float64()),
    }
    parquet.write_table(pa.table(columns), path)


if __name__ == "__main__":
    main()
