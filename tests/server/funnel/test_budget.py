from __future__ import annotations

import pytest
from shortlist_server.errors import DeadlineExceeded
from shortlist_server.funnel.budget import Budget, Trace
from shortlist_server.funnel.types import Outcome


class FakeClock:
    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns


def test_stage_does_not_begin_once_the_budget_is_gone() -> None:
    clock = FakeClock()
    trace = Trace(Budget(1.0, clock))
    clock.now_ns += 10**9
    began = False
    with pytest.raises(DeadlineExceeded, match="'ranking'"), trace.stage("ranking", 5):
        began = True
    assert not began


def test_stage_begins_as_long_as_a_nanosecond_is_left() -> None:
    clock = FakeClock()
    trace = Trace(Budget(1.0, clock))
    clock.now_ns += 10**9 - 1
    with trace.stage("ranking", 5) as stage:
        stage.items_out = 3
    assert [report.name for report in trace.reports] == ["admission", "ranking"]


def test_reports_hold_durations_and_counts_in_the_order_of_the_stages() -> None:
    clock = FakeClock()
    budget = Budget(1.0, clock)
    clock.now_ns += 7
    trace = Trace(budget)
    with trace.stage("retrieval", 100) as stage:
        clock.now_ns += 20
        stage.items_out, stage.plan = 10, "exact"
    with trace.stage("ranking", 10) as stage:
        stage.skip("no ranker")
    admission, retrieval, ranking = trace.reports
    assert (admission.name, admission.duration_ns) == ("admission", 7)
    assert (retrieval.duration_ns, retrieval.items_in, retrieval.items_out) == (20, 100, 10)
    assert (ranking.outcome, ranking.items_in, ranking.items_out, ranking.plan) == (
        Outcome.SKIPPED,
        10,
        10,
        "no ranker",
    )


def test_a_stage_that_fails_reports_nothing() -> None:
    trace = Trace(Budget(1.0))
    with pytest.raises(ValueError, match="broken"), trace.stage("query"):
        raise ValueError("broken")
    assert [report.name for report in trace.reports] == ["admission"]


def test_a_budget_of_nothing_is_gone_at_once() -> None:
    with pytest.raises(DeadlineExceeded):
        Budget(0).check("query")
