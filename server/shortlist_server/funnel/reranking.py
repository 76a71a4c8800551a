"""The step that a language model takes between ranking and selection: what it is asked, what it
says, and what becomes of it. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from shortlist_server.funnel.arrays import NO_ROWS, Rows
from shortlist_server.funnel.budget import Trace
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.select import Order, ordered
from shortlist_server.funnel.types import (
    Candidates,
    Degradation,
    DegradedReason,
    EncodedQuery,
    Outcome,
    Ranking,
    ResolvedQuery,
)

OUTCOMES = {
    DegradedReason.LLM_TIMEOUT: Outcome.OUT_OF_TIME,
    DegradedReason.LLM_SWITCHED_OFF: Outcome.SKIPPED,
}
"""What becomes of the stage; where it is not here, it has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A request whose candidates are ranked, and of which no list is made yet."""

    resolved: ResolvedQuery
    encoded: EncodedQuery
    candidates: Candidates
    ranking: Ranking
    options: Options
    """With a seed where there is exploration."""
    trace: Trace
    scores: NDArray[np.float64] | None = None
    """float64 [candidates]: what orders them in place of the ranking's scores; None: those do."""
    unknown_item_ids: tuple[str, ...] = ()
    """Ids that the caller named and the catalogue does not have."""

    def order(self) -> Order:
        """Return the order of the candidates."""
        selection, candidates = self.options.selection, self.candidates
        exploration = selection.exploration
        scores = self.ranking.scores if self.scores is None else self.scores
        return ordered(
            candidates.rows,
            candidates.scores if scores is None else scores,
            score_min=selection.score_min,
            exploration=exploration,
            seed=0 if exploration is None else exploration.seed or 0,
        )

    def shown(self, order: Order) -> Rows:
        """Return the candidates that a language model is shown, in order, int64 [n]."""
        rerank = self.options.rerank
        if rerank is None:
            return NO_ROWS
        rows = self.candidates.rows[order.places]
        pinned = np.array([row for row, _ in self.resolved.pins], np.int64)
        return rows[~np.isin(rows, pinned)][: rerank.candidate_count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranked:
    """What a language model made of the candidates that it was shown."""

    plan: str
    """How it went, for people; or why it was not asked."""
    rows: Rows = field(default_factory=lambda: NO_ROWS)
    """int64 [n]: the candidates that it was shown, all of them, in its order; empty where the order
    of ranking stands.
    """
    failure: DegradedReason | None = None
    """Why its order is not taken; None where it is, or where there was nothing to ask."""
    cause: Exception | None = None
    """What failed, for the log."""
    reasons: Mapping[int, str] = field(default_factory=dict)
    """Why an item suits, by row."""
    left_out_count: int = 0
    """Candidates that it left out, the last of `rows`."""
    prompt: str = ""
    """Name and version of the prompt; empty where it was not asked."""
    model: str = ""
    seed: int = 0
    """Of the order in which candidates were shown."""
    pass_count: int = 0
    """Answers that count."""
    input_token_count: int = 0
    output_token_count: int = 0
    price: float = 0.0
    """In the currency of the configured prices; 0 where there are none."""
    violations: tuple[str, ...] = ()
    """What was wrong with its answers, by name, each once."""


def replayed(ranked: Ranked, rows: Rows) -> Reranked:
    """Return what was logged: a language model is not asked again.

    Args:
        ranked: The request.
        rows: The logged items that the catalogue has, in the logged order.
    """
    assert ranked.options.replay is not None
    if "rerank" in ranked.options.replay.skipped_stages or not len(rows):
        return Reranked(plan="left out, as when it was logged")
    return Reranked(plan="in the logged order", rows=rows)


def checked(reranked: Reranked, shown: Rows) -> Reranked:
    """Return the same, or say that it is not about the candidates that were shown."""
    if not len(reranked.rows) or np.array_equal(np.sort(reranked.rows), np.sort(shown)):
        return reranked
    return replace(
        reranked,
        rows=NO_ROWS,
        reasons={},
        failure=DegradedReason.LLM_INVALID_OUTPUT,
        plan="the order is of other candidates",
    )


def report(reranked: Reranked, item_count: int, trace: Trace) -> tuple[Degradation, ...]:
    """Report the stage, which lies behind: from the end of the one before it until now."""
    return report_step(
        "rerank",
        plan=reranked.plan,
        taken=bool(len(reranked.rows)),
        failure=reranked.failure,
        cause=reranked.cause,
        item_count=item_count,
        trace=trace,
        otherwise="the items are in the order of ranking",
    )


def report_step(
    name: str,
    *,
    plan: str,
    taken: bool,
    failure: DegradedReason | None,
    cause: Exception | None,
    item_count: int,
    trace: Trace,
    otherwise: str,
) -> tuple[Degradation, ...]:
    """Report what a language model did, which lies behind: from the end of the stage before it
    until now.

    Args:
        name: Of the stage.
        plan: How it went, or why it did not.
        taken: Whether its answer counts.
        failure: Why it does not; None where it does, or where there was nothing to ask.
        cause: What failed, for the log.
        item_count: Number of items that it was shown.
        trace: Of the request.
        otherwise: What stands in place of its answer.
    """
    stage = trace.stage(name, item_count)
    if taken:
        stage.items_out, stage.plan = item_count, plan
    else:
        stage.skip(plan)
        if failure is not None:
            stage.outcome = OUTCOMES.get(failure, Outcome.FAILED)
    begin_ns, end_ns = trace.reports[-1].end_ns, trace.budget.now_ns()
    trace.add(name, begin_ns, end_ns, end_ns - begin_ns, stage)
    if failure is None:
        return ()
    message = f"{name}: {plan}; {otherwise}"
    return (Degradation(stage=name, reason=failure, message=message, cause=cause),)
