"""Which of the scored items make the list, and in which order. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.types import Candidates, Floats, Ranking, Rows, Selection


def select(candidates: Candidates, ranking: Ranking, limit: int) -> Selection:
    """Return the best items: by ranking score where they were ranked, else in the order of their
    source.

    Args:
        candidates: What the source found.
        ranking: What the ranker made of it.
        limit: How many items at most.
    """
    scores = candidates.scores if ranking.scores is None else ranking.scores
    positions = top_positions(candidates.rows, scores, limit)
    retrieved, ranked = candidates.retrieval_scores, ranking.scores
    return Selection(
        rows=candidates.rows[positions],
        scores=scores[positions].astype(np.float64),
        retrieval_scores=None if retrieved is None else retrieved[positions],
        ranking_scores=None if ranked is None else ranked[positions],
        outputs={name: values[positions] for name, values in ranking.outputs.items()},
        source_positions=positions,
    )


def weighted_sum(
    outputs: Mapping[str, Floats], weights: Mapping[str, float], count: int
) -> NDArray[np.float64]:
    """Return the ranking scores: the outputs, each times its weight, in the order of the weights.

    Args:
        outputs: float32 [count] by name.
        weights: By name of the output; outputs not named have the weight 0.
        count: Number of items.

    Returns:
        float64 [count].
    """
    total = np.zeros(count, np.float64)
    for name, weight in weights.items():
        total += weight * outputs[name].astype(np.float64)
    return total


def top_positions(rows: Rows, scores: NDArray[np.floating], limit: int) -> Rows:
    """Return the positions of the best items: highest score first, equal scores in order of their
    rows.

    Args:
        rows: int64 [n].
        scores: [n], finite.
        limit: How many at most.

    Returns:
        int64 [min(n, limit)].
    """
    return np.lexsort((rows, -scores))[:limit]
