"""The step that a language model takes in `Rank`: what it says of each item, and what becomes of
it. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from shortlist_server.funnel.reranking import Ranked, report_step
from shortlist_server.funnel.stages import Catalog
from shortlist_server.funnel.types import Degradation, DegradedReason

RATING_MIN, RATING_MAX = 1.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What a language model says that a user would give an item."""

    value: float
    """1..5."""
    clamped: bool = False
    """Whether it said a number outside of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """What a language model made of the items that it was shown."""

    plan: str
    """How it went, for people; or why it was not asked."""
    ratings: Mapping[int, Rating] = field(default_factory=dict)
    """By row, all that it was shown, in the order in which it was; empty where the scores of the
    bundle stand.
    """
    llm_weight: float = 1.0
    """What a rating counts in the score."""
    ranker_weight: float = 0.0
    """What the ranking score counts in it."""
    failure: DegradedReason | None = None
    """Why its ratings are not taken; None where they are, or where there was nothing to ask."""
    cause: Exception | None = None
    """What failed, for the log."""
    prompt: str = ""
    """Name and version of the prompt; empty where it was not asked."""
    model: str = ""
    input_token_count: int = 0
    output_token_count: int = 0
    price: float = 0.0
    """In the currency of the configured prices; 0 where there are none."""
    violations: tuple[str, ...] = ()
    """What was wrong with its answer, by name, each once."""


def replayed(ranked: Ranked, catalog: Catalog) -> Rated:
    """Return what was logged: a language model is not asked again."""
    replay = ranked.options.replay
    assert replay is not None
    rows = ranked.candidates.rows.tolist()
    ids = [catalog.item_id(row) for row in rows]
    if "rating" in replay.skipped_stages or not set(ids) <= set(replay.ratings):
        return Rated(plan="left out, as when it was logged")
    llm_weight, ranker_weight = replay.rating_weights
    return Rated(
        plan="as logged",
        ratings={
            row: Rating(value=replay.ratings[item_id])
            for row, item_id in zip(rows, ids, strict=True)
        },
        llm_weight=llm_weight,
        ranker_weight=ranker_weight,
    )


def applied(ranked: Ranked, rated: Rated) -> tuple[Ranked, Rated, tuple[Degradation, ...]]:
    """Return a request with the scores that ratings come to, and report the stage, which lies
    behind.

    Args:
        ranked: Whose candidates a language model was shown, all of them.
        rated: What it said; taken only if it is about these candidates, each of them.
    """
    rows = ranked.candidates.rows
    said = rated.ratings
    fits = set(said) == set(rows.tolist()) and all(
        RATING_MIN <= rating.value <= RATING_MAX for rating in said.values()
    )
    if said and not fits:
        rated = replace(
            rated,
            ratings={},
            failure=DegradedReason.LLM_INVALID_OUTPUT,
            plan="the ratings are of other items",
        )
    if rated.ratings:
        if ranked.ranking.scores is None:
            # A similarity is no rating: there is nothing to be added to one.
            rated = replace(rated, llm_weight=1.0, ranker_weight=0.0)
        ranked = replace(ranked, scores=_scores(ranked, rated))
    degraded = report_step(
        "rating",
        plan=rated.plan,
        taken=bool(rated.ratings),
        failure=rated.failure,
        cause=rated.cause,
        item_count=len(rows),
        trace=ranked.trace,
        otherwise="the scores are the bundle's",
    )
    return ranked, rated, degraded


def _scores(ranked: Ranked, rated: Rated) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = [rated.ratings[row].value for row in ranked.candidates.rows.tolist()]
    scores = rated.llm_weight * np.array(values, np.float64)
    if rated.ranker_weight and ranked.ranking.scores is not None:
        scores = scores + rated.ranker_weight * ranked.ranking.scores
    return scores
