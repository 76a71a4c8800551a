"""The caller's deadline as a time budget, and the record of what each stage did with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from shortlist_server.errors import DeadlineExceeded
from shortlist_server.funnel.types import Outcome, StageReport

Clock = Callable[[], int]
"""Nanoseconds from an arbitrary beginning, never falling."""


class Budget:
    """Time that is left for one request."""

    __slots__ = ("_clock", "_deadline_ns", "begin_ns")

    def __init__(self, seconds: float, clock: Clock = time.perf_counter_ns) -> None:
        """Begin a budget of so many seconds from now."""
        self._clock = clock
        self.begin_ns = clock()
        self._deadline_ns = self.begin_ns + int(seconds * 1e9)

    def now_ns(self) -> int:
        """Return the time on the budget's clock."""
        return self._clock()

    @property
    def seconds(self) -> float:
        """The whole budget, in seconds."""
        return (self._deadline_ns - self.begin_ns) / 1e9

    @property
    def left_s(self) -> float:
        """What is left of the budget, in seconds; negative where it is gone."""
        return (self._deadline_ns - self._clock()) / 1e9

    def share_end_ns(self, share: float) -> int:
        """Return when so much of the budget has passed, on the budget's clock."""
        return self.begin_ns + int((self._deadline_ns - self.begin_ns) * share)

    def share_left_s(self, share: float, *, at_most_s: float | None) -> float:
        """Return how long it is until so much of the budget has passed, in seconds, at most so
        long; negative where it has.
        """
        left_s = (self.share_end_ns(share) - self._clock()) / 1e9
        return left_s if at_most_s is None else min(left_s, at_most_s)

    def check(self, stage: str) -> None:
        """Let a stage begin.

        Raises:
            DeadlineExceeded: the budget is gone.
        """
        if self._clock() >= self._deadline_ns:
            raise DeadlineExceeded(stage)

    def checkpoint(self, stage: str) -> Callable[[], None]:
        """Return what a stage calls before each piece of its work: raises like `check`."""
        return lambda: self.check(stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How the budget is split: by when, as a share of it, each optional part must be done.

    What an answer needs (the query, one source, ranking) may take all that is left.
    """

    sources: float = 0.6
    """Sources beside the first one that has answered."""
    rerank: float = 0.8
    """The language model; what comes after it has the rest."""
    rating: float = 0.8
    """The language model that predicts ratings, likewise."""
    diversity: float = 0.9


class Stage:
    """A stage of one request: a context in which it runs, and what it says of itself."""

    # A class, not a generator function: entering and leaving it is on the path of every request
    # four times.
    __slots__ = (
        "_begin_ns",
        "_name",
        "_outer_ns",
        "_trace",
        "items_in",
        "items_out",
        "outcome",
        "plan",
    )

    def __init__(self, trace: Trace, name: str, items_in: int) -> None:
        self._trace = trace
        self._name = name
        self.items_in = items_in
        self.items_out = 0
        self.outcome = Outcome.OK
        self.plan = ""

    def leave_out(self, why: str) -> None:
        """Say that there was no time for the stage: what came in goes out."""
        self.outcome = Outcome.OUT_OF_TIME
        self.plan = why
        self.items_out = self.items_in

    def skip(self, why: str) -> None:
        """Say that the stage does not apply: what came in goes out."""
        self.outcome = Outcome.SKIPPED
        self.plan = why
        self.items_out = self.items_in

    def __enter__(self) -> Stage:
        self._trace.budget.check(self._name)
        self._outer_ns, self._trace.inner_ns = self._trace.inner_ns, 0
        self._begin_ns = self._trace.budget.now_ns()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            end_ns = self._trace.budget.now_ns()
            spent_ns = end_ns - self._begin_ns
            duration_ns = spent_ns - self._trace.inner_ns
            self._trace.add(self._name, self._begin_ns, end_ns, duration_ns, self)
            self._trace.inner_ns = self._outer_ns + spent_ns


class Trace:
    """The stages of one request, in the order in which they ended. A stage inside another counts
    for itself alone: all durations together are the time that has passed.
    """

    __slots__ = ("budget", "inner_ns", "reports")

    def __init__(self, budget: Budget) -> None:
        """Begin; what has passed of the budget so far is the stage `admission`."""
        self.budget = budget
        self.inner_ns = 0
        """Time that stages inside the present one have taken."""
        self.reports: list[StageReport] = []
        begin_ns, end_ns = budget.begin_ns, budget.now_ns()
        self.add("admission", begin_ns, end_ns, end_ns - begin_ns, Stage(self, "admission", 0))

    def fork(self) -> Trace:
        """Return a trace that goes on by itself from here."""
        fork = Trace(self.budget)
        fork.reports = self.reports.copy()
        return fork

    def stage(self, name: str, items_in: int = 0) -> Stage:
        """Return a stage to run: `with trace.stage("ranking", 200) as stage: ...`.

        Entering it raises DeadlineExceeded where the budget is gone: the stage does not begin.
        """
        return Stage(self, name, items_in)

    def add(self, name: str, begin_ns: int, end_ns: int, duration_ns: int, stage: Stage) -> None:
        """Report a stage that has ended."""
        self.reports.append(
            StageReport(
                name=name,
                begin_ns=begin_ns,
                end_ns=end_ns,
                duration_ns=duration_ns,
                items_in=stage.items_in,
                items_out=stage.items_out,
                outcome=stage.outcome,
                plan=stage.plan,
            )
        )
