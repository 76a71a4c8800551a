"""Candidates that are there since the caller named them. Pure functions of the stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shortlist_server.funnel.arrays import Rows
from shortlist_server.funnel.stages import QueryEncoder
from shortlist_server.funnel.types import Candidates, EncodedQuery


def named_candidates(encoder: QueryEncoder, encoded: EncodedQuery, rows: Rows) -> Candidates:
    """Return items that the caller named, in place of candidates that a source found."""
    scores = encoder.score(encoded, rows)
    return Candidates(
        rows=rows,
        retrieval_scores=scores,
        scores=np.zeros(len(rows), np.float32) if scores is None else scores,
        source_names=("caller",),
        found=(rows,),
    )


def with_pinned(
    encoder: QueryEncoder,
    encoded: EncodedQuery,
    candidates: Candidates,
    pins: Sequence[tuple[int, int | None]],
) -> Candidates:
    """Add the pinned items that no source found, so that they are ranked with the others."""
    if not pins:
        return candidates
    rows = np.array([row for row, _ in pins], np.int64)
    rows = rows[~np.isin(rows, candidates.rows)]
    if not len(rows):
        return candidates
    scores = encoder.score(encoded, rows)
    retrieved = candidates.retrieval_scores
    if scores is not None and retrieved is not None:
        retrieved = np.concatenate([retrieved, scores])
    lowest = candidates.scores.min(initial=0)
    alike = scores is not None and candidates.scores is candidates.retrieval_scores
    own = scores if alike else np.full(len(rows), lowest, np.float32)
    return replace(
        candidates,
        rows=np.concatenate([candidates.rows, rows]),
        retrieval_scores=retrieved,
        scores=np.concatenate([candidates.scores, own]),
        source_names=(*candidates.source_names, "pinned"),
        found=(*candidates.found, rows),
    )
