"""What every peer computes, from the same files and by the same libraries as Shortlist: the query
tower, the graph, the ranker, the best of what it ranked.

Written as one would write it for one model: it knows the shape of the synthetic bundle
(synthetic.py) and checks nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
import onnxruntime
from numpy.typing import NDArray

EF = 200
LIMIT = 20


class PeerFunnel:
    """The funnel over a synthetic bundle; safe to call from several threads."""

    def __init__(self, bundle: Path) -> None:
        self._tower = _session(bundle / "models/query_tower.onnx")
        self._ranker = _session(bundle / "models/ranker.onnx")
        vectors = np.load(bundle / "items/embeddings.npy")
        # The graph is over one more component, which makes the inner product a distance, and finds
        # its way best from a point as far out as the longest vector (decision 005).
        self._length = float(np.linalg.norm(vectors, axis=1).max())
        self._graph = hnswlib.Index(space="l2", dim=vectors.shape[1] + 1)
        self._graph.load_index(str(bundle / "index/hnsw.bin"), max_elements=len(vectors))
        self._graph.set_num_threads(1)
        self._ef = 0
        self._item_ids = _texts(bundle / "items/ids")
        users = _texts(bundle / "vocabularies/000")
        # Position 0 of the tower's table is for users that it does not know.
        self._users = {user: place for place, user in enumerate(users, start=1)}

    def recommend(
        self, user_id: str, candidate_count: int, limit: int = LIMIT
    ) -> tuple[list[str], list[float]]:
        """Return the ids and scores of the best items for a user, best first."""
        return self.recommend_all([user_id], candidate_count, limit)[0]

    def recommend_all(
        self, user_ids: list[str], candidate_count: int, limit: int = LIMIT
    ) -> list[tuple[list[str], list[float]]]:
        """Return the same for several users, with one call of each kernel for all of them."""
        users = np.array([self._users.get(user, 0) for user in user_ids], np.int64)
        (queries,) = self._tower.run(None, {"user": users})
        points = np.zeros((len(users), queries.shape[1] + 1), np.float32)
        points[:, :-1] = queries * (self._length / np.linalg.norm(queries, axis=1, keepdims=True))
        if self._ef != (ef := max(EF, candidate_count)):
            self._graph.set_ef(ef)
            self._ef = ef
        rows, _ = self._graph.knn_query(points, k=candidate_count, num_threads=1)
        feeds = {
            "user": users,
            "item": rows.reshape(-1).astype(np.int64),
            "request": np.repeat(np.arange(len(users)), candidate_count),
        }
        (scores,) = self._ranker.run(None, feeds)
        return [
            self._best(*each, limit) for each in zip(rows, scores.reshape(rows.shape), strict=True)
        ]

    def _best(
        self, rows: NDArray[np.uint64], scores: NDArray[np.float32], limit: int
    ) -> tuple[list[str], list[float]]:
        best = np.argpartition(-scores, limit)[:limit]
        best = best[np.argsort(-scores[best])]
        return [self._item_ids[row] for row in rows[best]], scores[best].tolist()


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _texts(path: Path) -> list[str]:
    offsets = np.load(path.with_name(f"{path.name}.offsets.npy")).tolist()
    utf8 = np.load(path.with_name(f"{path.name}.utf8.npy")).tobytes()
    return [utf8[start:end].decode() for start, end in zip(offsets, offsets[1:], strict=False)]
