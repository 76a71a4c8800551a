"""The caller's deadline as a time budget, and the record of what each stage did with it."""

from __future__ import annotations

import time
from collections.abc import Callable

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

    def check(self, stage: str) -> None:
        """Let a stage begin.

        Raises:
            DeadlineExceeded: the budget is gone.
        """
        if self._clock() >= self._deadline_ns:
            raise DeadlineExceeded(stage)


class Stage:
    """A stage of one request: a context in which it runs, and what it says of itself."""

    # A class, not a generator function: entering and leaving it is on the path of every request
    # four times.
    __slots__ = ("_begin_ns", "_name", "_trace", "items_in", "items_out", "outcome", "plan")

    def __init__(self, trace: Trace, name: str, items_in: int) -> None:
        self._trace = trace
        self._name = name
        self.items_in = items_in
        self.items_out = 0
        self.outcome = Outcome.OK
        self.plan = ""

    def skip(self, why: str) -> None:
        """Say that the stage does not apply: what came in goes out."""
        self.outcome = Outcome.SKIPPED
        self.plan = why
        self.items_out = self.items_in

    def __enter__(self) -> Stage:
        self._trace.budget.check(self._name)
        self._begin_ns = self._trace.budget.now_ns()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._trace.add(self._name, self._begin_ns, self)


class Trace:
    """The stages of one request, in the order in which they ran."""

    __slots__ = ("budget", "reports")

    def __init__(self, budget: Budget) -> None:
        """Begin; what has passed of the budget so far is the stage `admission`."""
        self.budget = budget
        self.reports: list[StageReport] = []
        self.add("admission", budget.begin_ns, Stage(self, "admission", 0))

    def stage(self, name: str, items_in: int = 0) -> Stage:
        """Return a stage to run: `with trace.stage("ranking", 200) as stage: ...`.

        Entering it raises DeadlineExceeded where the budget is gone: the stage does not begin.
        """
        return Stage(self, name, items_in)

    def add(self, name: str, begin_ns: int, stage: Stage) -> None:
        """Report a stage that has ended now."""
        self.reports.append(
            StageReport(
                name=name,
                duration_ns=self.budget.now_ns() - begin_ns,
                items_in=stage.items_in,
                items_out=stage.items_out,
                outcome=stage.outcome,
                plan=stage.plan,
            )
        )
