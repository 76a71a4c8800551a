"""Retrieval: asks the sources side by side, and merges what they find.

One source has to answer; the others have a share of the budget, and a source that fails or is out
of time is reported instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shortlist_server.errors import (
    DeadlineExceeded,
    IndexUnavailable,
    InvalidValue,
    RequestError,
    TextEmbedderUnavailable,
)
from shortlist_server.funnel.arrays import NO_ROWS, Floats, Rows
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Nearest, Options, Popular, Replay, SourceOptions
from shortlist_server.funnel.stages import Checkpoint, QueryEncoder, Source, SourceQuery
from shortlist_server.funnel.types import (
    Candidates,
    Degradation,
    DegradedReason,
    EncodedQuery,
    Found,
    Outcome,
    ResolvedQuery,
    SourceReport,
)

THREADS_MAX = 16
"""Sources that wait for something outside the process, over all requests; more of them queue."""
FUSION_RANK = 60
"""The constant of reciprocal rank fusion: Cormack, Clarke, Buettcher, "Reciprocal Rank Fusion
outperforms Condorcet and individual Rank Learning Methods", SIGIR 2009.
"""


class _OutOfShare(Exception):
    """A source's share of the budget is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What became of a source."""

    outcome: Outcome
    found: Found | None = None
    cause: Exception | None = None
    begin_ns: int = 0
    duration_ns: int = 0
    note: str = ""
    """Why it gave nothing, where it did not."""


@dataclass(slots=True, kw_only=True)
class _Run:
    """One source in one request."""

    name: str
    kind: str
    source: Source
    ask: SourceQuery
    result: _Result


_NOT_ASKED = _Result(outcome=Outcome.SKIPPED, note="not asked")
_TOO_LATE = _Result(outcome=Outcome.OUT_OF_TIME, note="its share of the time budget was gone")


class Gatherer:
    """Asks sources for candidates."""

    def __init__(self, kinds: Mapping[str, Source], encoder: QueryEncoder, *, share: float) -> None:
        """Take the kinds of sources.

        Args:
            kinds: The sources by kind; `popularity` answers where no other applies.
            encoder: Scores what sources found that know no query embedding.
            share: Share of the budget after which sources are given up, once one has answered.
        """
        self._kinds = kinds
        self._encoder = encoder
        self._share = share
        # Threads start as sources that wait are asked; those of most bundles never do.
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="source")

    def waits(self, sources: Sequence[SourceOptions]) -> bool:
        """Whether one of these sources may wait for something outside this process. One that the
        bundle configures under a name counts by its kind.
        """
        return any(
            kind.waits
            for name, kind in self._kinds.items()
            if any(source.kind in (name, "") for source in sources)
        )

    def close(self) -> None:
        """Take no more questions; a source that still waits is left to end by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def gather(
        self, query: ResolvedQuery, encoded: EncodedQuery, options: Options, budget: Budget
    ) -> Candidates:
        """Return the candidates of all sources, each item once.

        Raises:
            DeadlineExceeded: the budget was gone before any source had answered.
            RequestError: a source cannot do what it is asked.
        """
        if query.allowed.selection is not None:
            query.allowed.selection.make(budget.checkpoint("retrieval"))
        runs = self._runs(query, encoded, options, budget)
        self._ask(runs, options.replay, budget)
        if all(run.result.outcome is Outcome.SKIPPED for run in runs):
            taken = any(run.name == Popular.kind for run in runs)
            asked = SourceOptions(name="popularity_overall" if taken else "", settings=Popular())
            popular = self._run(asked, query, encoded, options, budget)
            runs.append(popular)
            self._ask([popular], options.replay, budget)
        answered = [run for run in runs if run.result.found is not None]
        if not answered:
            for run in runs:
                if run.result.cause is not None:
                    raise run.result.cause
            if any(run.result.outcome is Outcome.OUT_OF_TIME for run in runs):
                raise DeadlineExceeded("retrieval")
        budget.check("retrieval")
        return self._merged(answered, runs, encoded)

    # Asking.

    def _runs(
        self, query: ResolvedQuery, encoded: EncodedQuery, options: Options, budget: Budget
    ) -> list[_Run]:
        runs = [self._run(asked, query, encoded, options, budget) for asked in query.sources]
        names = [run.name for run in runs]
        for position, name in enumerate(names):
            if name in names[:position]:
                field = f"sources[{position}].name"
                raise InvalidValue(field, expected="a name for each source", got=f"{name} twice")
        return runs

    def _run(
        self,
        asked: SourceOptions,
        query: ResolvedQuery,
        encoded: EncodedQuery,
        options: Options,
        budget: Budget,
    ) -> _Run:
        settings = asked.settings
        assert settings is not None
        name = asked.name or settings.kind
        if not asked.name and isinstance(settings, Nearest) and encoded.embedding is not None:
            name = encoded.source
        replay = options.replay
        ask = SourceQuery(
            query=query,
            encoded=encoded,
            settings=settings,
            k=asked.candidate_count or options.candidate_count,
            allowed=query.allowed,
            ef=options.ef,
            exact=options.exact,
            checkpoint=budget.checkpoint("retrieval"),
            time_left_s=lambda: budget.left_s,
            plan="" if replay is None else replay.source_plans.get(name, ""),
        )
        source = self._kinds[settings.kind]
        return _Run(name=name, kind=settings.kind, source=source, ask=ask, result=_NOT_ASKED)

    def _ask(self, runs: Sequence[_Run], replay: Replay | None, budget: Budget) -> None:
        """Ask those that wait in threads, and the others one after the other meanwhile: two scans
        at a time would only take each other's core.
        """
        asked = []
        for run in runs:
            if why := run.source.skip_reason(run.ask):
                run.result = _Result(outcome=Outcome.SKIPPED, note=why)
            elif replay is not None and run.name in replay.skipped_sources:
                run.result = _TOO_LATE
            else:
                asked.append(run)
        waiting = {
            self._threads.submit(_answer, run, run.ask, budget): run
            for run in asked
            if run.source.waits
        }
        share_end_ns = budget.share_end_ns(self._share) if replay is None else None
        for run in asked:
            if not run.source.waits:
                ask = run.ask
                if share_end_ns is not None and _has_candidates(asked):
                    ask = replace(ask, checkpoint=_within(budget, share_end_ns))
                run.result = _answer(run, ask, budget)
        _collect(waiting, asked, budget, share_end_ns)

    # Merging.

    def _merged(
        self, answered: Sequence[_Run], runs: Sequence[_Run], encoded: EncodedQuery
    ) -> Candidates:
        found = tuple(run.result.found for run in answered if run.result.found is not None)
        rows = _each_once([part.rows for part in found])
        kinds = {run.kind for run in answered}
        if encoded.embedding is not None and len(found) == 1 and kinds == {"nearest"}:
            retrieval_scores: Floats | None = found[0].scores
        else:
            retrieval_scores = self._encoder.score(encoded, rows)
        if retrieval_scores is not None and "text" not in kinds:
            scores = retrieval_scores
        elif len(found) == 1 and kinds <= {"popularity", "text"}:
            scores = found[0].scores
        else:
            # Similarity to the query embedding says nothing of a text.
            scores = _fused([part.rows for part in found], rows)
        return Candidates(
            rows=rows,
            retrieval_scores=retrieval_scores,
            scores=scores,
            source_names=tuple(run.name for run in answered),
            found=tuple(part.rows for part in found),
            reports=tuple(_report(run) for run in runs),
            degraded=tuple(
                _degradation(run)
                for run in runs
                if run.result.outcome in (Outcome.OUT_OF_TIME, Outcome.FAILED)
            ),
        )


def _has_candidates(runs: Sequence[_Run]) -> bool:
    return any(run.result.found is not None and len(run.result.found.rows) for run in runs)


def _within(budget: Budget, end_ns: int) -> Checkpoint:
    """Return a checkpoint for a source without which there is an answer already."""

    def checkpoint() -> None:
        budget.check("retrieval")
        if budget.now_ns() >= end_ns:
            raise _OutOfShare

    return checkpoint


def _collect(
    waiting: Mapping[Future[_Result], _Run],
    asked: Sequence[_Run],
    budget: Budget,
    share_end_ns: int | None,
) -> None:
    """Wait for sources in threads: until their share is gone, or, as long as no source has
    answered, until the budget is.
    """
    pending = set(waiting)
    while pending:
        end_ns = budget.share_end_ns(1.0)
        if share_end_ns is not None and any(run.result.found is not None for run in asked):
            end_ns = share_end_ns
        left_s = max(0.0, (end_ns - budget.now_ns()) / 1e9)
        done, pending = wait(pending, timeout=left_s, return_when=FIRST_COMPLETED)
        for future in done:
            waiting[future].result = future.result()
        if not done:
            break
    for future in pending:
        # Its thread ends when it ends; what it finds then is nobody's.
        future.cancel()
        waiting[future].result = _TOO_LATE


def _answer(run: _Run, ask: SourceQuery, budget: Budget) -> _Result:
    """Ask one source; returns what became of it."""
    begin_ns = budget.now_ns()

    def result(outcome: Outcome, **fields: Any) -> _Result:
        duration_ns = budget.now_ns() - begin_ns
        return _Result(outcome=outcome, begin_ns=begin_ns, duration_ns=duration_ns, **fields)

    try:
        ask.checkpoint()
        found = run.source.retrieve(ask)
        if not run.source.filters:
            kept = ask.allowed.among(found.rows)
            found = replace(found, rows=found.rows[kept], scores=found.scores[kept])
        if len(found.rows) > ask.k:
            found = replace(found, rows=found.rows[: ask.k], scores=found.scores[: ask.k])
        return result(Outcome.OK, found=found)
    except _OutOfShare:
        return result(Outcome.OUT_OF_TIME, note=_TOO_LATE.note)
    except RequestError:
        raise
    except DeadlineExceeded as error:
        if run.source.waits:  # the others may have answered in time
            return result(Outcome.OUT_OF_TIME, cause=error, note=_TOO_LATE.note)
        raise
    except Exception as error:
        return result(Outcome.FAILED, cause=error)


def _report(run: _Run) -> SourceReport:
    result = run.result
    plan = result.note if result.found is None else result.found.plan
    return SourceReport(
        name=run.name,
        kind=run.kind,
        outcome=result.outcome,
        begin_ns=result.begin_ns,
        duration_ns=result.duration_ns,
        item_count=0 if result.found is None else len(result.found.rows),
        plan="failed" if result.outcome is Outcome.FAILED else plan,
    )


def _degradation(run: _Run) -> Degradation:
    reason, why, cause = DegradedReason.FAILED, "failed; the log tells more", run.result.cause
    if run.result.outcome is Outcome.OUT_OF_TIME:
        reason, why = DegradedReason.OUT_OF_TIME, run.result.note
    elif isinstance(cause, TextEmbedderUnavailable):
        reason, why = DegradedReason(cause.problem), "the text could not be embedded"
    elif isinstance(cause, IndexUnavailable):
        reason, why = DegradedReason(cause.problem), "the index of the items does not answer"
    return Degradation(
        stage="retrieval",
        source=run.name,
        reason=reason,
        message=f"source {run.name}: {why}",
        cause=cause,
    )


def _each_once(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts in order, each where it comes first."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return NO_ROWS
    rows = np.concatenate(parts)
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]


def _fused(parts: Sequence[Rows], rows: Rows) -> Floats:
    """Return a score for rows that several sources ordered by scores of different kinds:
    reciprocal rank fusion, the sum of 1 / (60 + rank) over the sources, ranks from 1.
    """
    order = np.argsort(rows)
    scores = np.zeros(len(rows), np.float64)
    for part in parts:
        places = order[np.searchsorted(rows, part, sorter=order)]
        scores[places] += 1 / (FUSION_RANK + 1 + np.arange(len(part)))
    return scores.astype(np.float32)
