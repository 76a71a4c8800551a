"""The two SavedModels of the TensorFlow and Flutter codelab, made of models that we have trained.

As in its notebooks, `retrieval` takes user ids as strings and gives the 10 best films by brute
force, with k and the lookups in its graph; `ranking` takes pairs of user and film and predicts
ratings. Films are their ids here, not their titles, of which MovieLens 100K has 18 twice. The
weights are those of the bundle that the drop-in serves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import tensorflow as tf

K = 10
SIGNATURE = "serving_default"


def write(trained: Path, out: Path) -> None:
    """Write `retrieval`, `ranking` and `titles.json`.

    Args:
        trained: What `shortlist-export train --features ids` has written.
        out: The folder to write into.
    """
    table = pq.read_table(trained / "items.parquet")
    ids, titles = table["id"].to_pylist(), table["title"].to_pylist()
    users, items = (_lookup(trained / f"vocabularies/{name}.json") for name in ("000", "001"))
    _save(_Retrieval(trained, users, items, ids), out / "retrieval", ["user_id"])
    _save(_Ranking(trained, users, items), out / "ranking", ["user_id", "movie_id"])
    (out / "titles.json").write_text(json.dumps(dict(zip(ids, titles, strict=True))))


def _lookup(file: Path) -> Any:
    """Return what turns ids into rows of embeddings, of which the first is of those not known."""
    known = json.loads(file.read_text())
    rows = tf.range(1, len(known) + 1, dtype=tf.int64)
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(known), rows), default_value=0
    )


class _Retrieval(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    def __init__(self, trained: Path, users: Any, items: Any, ids: list[str]) -> None:
        super().__init__()
        self.users = users
        self.tower = tf.saved_model.load(str(trained / "query_tower"))
        # A signature does not keep its model alive.
        item_tower = tf.saved_model.load(str(trained / "item_tower"))
        embed = item_tower.signatures[SIGNATURE]
        self.ids = tf.constant(ids)
        self.embeddings = tf.Variable(embed(item_id=items.lookup(self.ids))["embedding"])

    def answer(self, user_id: Any) -> dict[str, Any]:
        rows = self.users.lookup(user_id)
        queries = self.tower.signatures[SIGNATURE](user_id=rows)["embedding"]
        scores = tf.matmul(queries, self.embeddings, transpose_b=True)
        best, places = tf.math.top_k(scores, k=K)
        return {"scores": best, "movies": tf.gather(self.ids, places)}


class _Ranking(tf.Module):  # type: ignore[misc]  # as above
    def __init__(self, trained: Path, users: Any, items: Any) -> None:
        super().__init__()
        self.users, self.items = users, items
        self.ranker = tf.saved_model.load(str(trained / "ranker"))

    def answer(self, user_id: Any, movie_id: Any) -> dict[str, Any]:
        ratings = self.ranker.signatures[SIGNATURE](
            user_id=self.users.lookup(user_id),
            item_id=self.items.lookup(movie_id),
            request_index=tf.range(tf.size(user_id, tf.int64)),
        )
        return {"rating": ratings["rating"]}


def _save(module: Any, folder: Path, names: list[str]) -> None:
    specs = [tf.TensorSpec([None], tf.string, name=name) for name in names]
    module.serve = tf.function(module.answer, input_signature=specs)
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: module.serve})
