"""A small recommender for MovieLens 100K, made without a training framework: its factors are those
of the ratings' singular value decomposition.

The query tower is `user_vectors[user.id] + age * age_direction`, the ranker a network over the
user's vector, the hour, the genres and the retrieval score.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from tiny_world import save_model

DIMENSION = 12
WIDTH = 8
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def write_spec(data: Path, folder: Path, *, seed: int = 7) -> Path:
    """Write models, tables and an export spec into a folder; returns the spec's path.

    Args:
        data: The folder of MovieLens 100K.
        folder: Where to write.
        seed: Of the ranker's weights; all else is the same for every seed.
    """
    folder.mkdir(parents=True)
    genres = [line.split("|")[0] for line in _lines(data / "u.genre")]
    users = [line.split("|") for line in _lines(data / "u.user")]
    films = [line.split("|") for line in _lines(data / "u.item")]
    ratings = np.loadtxt(data / "u.data", dtype=np.int64)
    user_vectors, item_vectors = _factors(ratings, len(users), len(films))
    np.save(folder / "items.npy", item_vectors)
    _write_tables(folder, users, films, genres, ratings)
    _write_query_tower(folder / "query_tower.onnx", user_vectors)
    _write_ranker(folder / "ranker.onnx", len(users), len(genres), np.random.default_rng(seed))
    user = {
        "name": "user",
        "dtype": "int64",
        "shape": ["request"],
        "source": "user.id",
        "transforms": [{"kind": "lookup", "vocabulary": "users"}],
    }
    age = {"name": "age", "dtype": "float32", "shape": ["request"], "source": "user.age"}
    age["transforms"] = [{"kind": "normalize", "mean": 34.0, "variance": 148.0}]  # type: ignore[assignment]
    hour = {"name": "hour", "dtype": "float32", "shape": ["request"], "source": "context.hour"}
    genre_input = {
        "name": "genres",
        "dtype": "float32",
        "shape": ["candidate", len(genres) + 1],
        "source": "item.genres",
        "transforms": [
            {"kind": "lookup", "vocabulary": "genres"},
            {"kind": "multi_hot", "size": len(genres) + 1},
        ],
    }
    retrieved = {
        "name": "retrieved",
        "dtype": "float32",
        "shape": ["candidate", 1],
        "source": "retrieval.score",
    }
    request = {
        "name": "request",
        "dtype": "int64",
        "shape": ["candidate"],
        "source": "request.index",
    }
    spec = {
        "name": "movielens",
        "metric": "inner_product",
        "data": {"name": "MovieLens 100K", "simulated": False},
        "vocabularies": {"users": {"file": "users.txt"}, "genres": {"file": "genres.txt"}},
        "features": [
            {"name": "user.age", "type": "double", "default": 34.0},
            {"name": "user.occupation", "type": "string", "default": "other"},
            {"name": "context.hour", "type": "int64", "default": 12},
            {"name": "item.genres", "type": "string_list", "default": []},
        ],
        "items": {"file": "items.csv", "embeddings": "items.npy", "lists": {"genres": "|"}},
        "users": {"file": "users.csv"},
        "interactions": {"file": "interactions.csv", "time": "time"},
        "query_tower": {
            "model": "query_tower.onnx",
            "inputs": [user, age],
            "output": "embedding",
        },
        "ranker": {
            "model": "ranker.onnx",
            "inputs": [user, hour, genre_input, retrieved, request],
            "weights": {"rating": 1.0, "like": 0.5},
        },
    }
    path = folder / "export.json"
    path.write_text(json.dumps(spec))
    return path


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="latin-1").splitlines() if line]


def _factors(ratings: np.ndarray, users: int, films: int) -> tuple[np.ndarray, np.ndarray]:
    """Return [users + 1, DIMENSION], the first for users who are not known, and [films, ...]."""
    matrix = np.zeros((users, films), np.float32)
    matrix[ratings[:, 0] - 1, ratings[:, 1] - 1] = ratings[:, 2] - 2.5
    # Subspace iteration: a few products instead of a whole decomposition.
    basis = np.random.default_rng(1).normal(size=(films, DIMENSION)).astype(np.float32)
    for _ in range(4):
        basis, _ = np.linalg.qr(matrix.T @ (matrix @ basis))
    of_users = matrix @ basis
    spread = np.sqrt(np.abs(of_users).mean(axis=0))
    of_users, of_films = of_users / spread, basis * spread
    return np.vstack([of_users.mean(axis=0), of_users]).astype(np.float32), of_films.astype(
        np.float32
    )


def _write_query_tower(path: Path, user_vectors: np.ndarray) -> None:
    direction = np.random.default_rng(2).normal(size=(1, DIMENSION)) / 8
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
            "age_direction": direction.astype(np.float32),
            "last": np.array([1], np.int64),
        },
    )


def _write_ranker(path: Path, users: int, genres: int, draw: np.random.Generator) -> None:
    weights = {
        "user_part": draw.normal(size=(users + 1, WIDTH)) / 4,
        "hour_part": draw.normal(size=(1, WIDTH)) / 24,
        "genre_part": draw.normal(size=(genres + 1, WIDTH)) / 4,
        "score_part": np.abs(draw.normal(size=(1, WIDTH))),
        "last_layer": np.abs(draw.normal(size=(WIDTH, 2))),
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
            "genres": (FLOAT, ["candidate", genres + 1]),
            "retrieved": (FLOAT, ["candidate", 1]),
            "request": (INT64, ["candidate"]),
        },
        {"rating": ["candidate"], "like": ["candidate"]},
        {name: array.astype(np.float32) for name, array in weights.items()}
        | {"last": np.array([1], np.int64)},
    )


def _write_tables(
    folder: Path,
    users: list[list[str]],
    films: list[list[str]],
    genres: list[str],
    ratings: np.ndarray,
) -> None:
    def table(name: str, heading: list[str], rows: list[list[str]]) -> None:
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([heading, *rows])

    table(
        "items.csv",
        ["id", "title", "year", "genres"],
        [
            [
                film[0],
                film[1],
                film[2][-4:],
                "|".join(
                    genre for genre, is_one in zip(genres, film[5:], strict=True) if is_one == "1"
                ),
            ]
            for film in films
        ],
    )
    table("users.csv", ["id", "age", "occupation"], [[one[0], one[1], one[3]] for one in users])
    table(
        "interactions.csv",
        ["user_id", "item_id", "time"],
        [[str(user), str(film), str(time)] for user, film, _, time in ratings.tolist()],
    )
    (folder / "users.txt").write_text("".join(f"{one[0]}\n" for one in users))
    (folder / "genres.txt").write_text("".join(f"{genre}\n" for genre in genres))
