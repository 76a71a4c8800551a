"""What is kept of a call while it runs, for its trace."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shortlist_server.funnel.types import Answer, SourceReport, StageReport

ANSWERS_MAX = 16
"""Most answers of a call that have spans of their own; a batch has up to 1,024."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedAnswer:
    """What is kept of an answer: numbers and names, nothing of users or items."""

    stages: tuple[StageReport, ...]
    sources: tuple[SourceReport, ...]
    degraded: tuple[str, ...]
    item_count: int
    bundle: str


class TracedCall:
    """The trace of one call."""

    __slots__ = (
        "_begin_ns",
        "_epoch_ns",
        "_take",
        "answer_count",
        "answers",
        "code",
        "context",
        "end_ns",
        "method",
        "parent",
        "reason",
        "request_id",
    )

    def __init__(
        self, take: Callable[[TracedCall], None], method: str, context: Any, parent: Any
    ) -> None:
        """Begin.

        Args:
            take: Takes the call when it has ended, where it is sampled.
            method: Full name of the method.
            context: SpanContext of the call's span.
            parent: SpanContext of the caller's span, or None.
        """
        self._take = take
        self.method = method
        self.context = context
        self.parent = parent
        self._begin_ns = time.perf_counter_ns()
        # What the stages' clock is behind the calendar's, as of this call.
        self._epoch_ns = time.time_ns() - self._begin_ns
        self.answers: dict[str, TracedAnswer] = {}
        self.answer_count = 0

    @property
    def trace_id(self) -> str:
        """Id of the trace, 32 hexadecimal digits."""
        return f"{self.context.trace_id:032x}"

    @property
    def begin_ns(self) -> int:
        """When the call began, in nanoseconds since 1970."""
        return self.unix_ns(self._begin_ns)

    def unix_ns(self, clock_ns: int) -> int:
        """Return a time of the budget's clock in nanoseconds since 1970."""
        return self._epoch_ns + clock_ns

    def answered(self, request_id: str, answer: Answer, last: StageReport, bundle: str) -> None:
        """Keep how an answer came about.

        Args:
            request_id: Of the call, or of the row of a batch.
            answer: The answer; the next one to the same request takes its place.
            last: The stage after those of the answer.
            bundle: Name and version of the bundle that answered.
        """
        if not self.context.trace_flags.sampled:
            return
        if request_id not in self.answers:
            self.answer_count += 1
            if len(self.answers) >= ANSWERS_MAX:
                return
        self.answers[request_id] = TracedAnswer(
            stages=(*answer.stages, last),
            sources=answer.sources,
            degraded=tuple(f"{part.stage} {part.reason.value}" for part in answer.degraded),
            item_count=len(answer.items.rows),
            bundle=bundle,
        )

    def ended(self, request_id: str, code: int, reason: str) -> None:
        """End the call, and have it sent if it is sampled.

        Args:
            request_id: Of the call.
            code: Number of the status code.
            reason: Of the error; empty where there was none.
        """
        if not self.context.trace_flags.sampled:
            return
        self.end_ns = self.unix_ns(time.perf_counter_ns())
        self.request_id, self.code, self.reason = request_id, code, reason
        self._take(self)
