"""The breaker opens on failures, and closes by one probe."""

from __future__ import annotations

import pytest
from shortlist_server.llm.breaker import BreakerOptions, BreakerState, CallEnd, CircuitBreaker
from shortlist_server.llm.language_model import LlmBreakerOpen


class Setting:
    def __init__(self, **options: float) -> None:
        self.now = 0.0
        self.states: list[BreakerState] = []
        self.breaker = CircuitBreaker(
            BreakerOptions(**{"calls": 4, "calls_min": 2, "open_s": 10.0} | options),
            changed=self.states.append,
            clock=lambda: self.now,
        )

    def call(self, *ends: CallEnd) -> None:
        for end in ends:
            self.breaker.leave(self.breaker.enter(), end)


def test_it_opens_at_the_share_of_failures_and_not_before() -> None:
    at = Setting(failure_share=0.6)
    at.call(CallEnd.FAILED)
    assert at.breaker.state is BreakerState.CLOSED, "one call is too few"
    at.call(CallEnd.WELL)
    assert at.breaker.state is BreakerState.CLOSED
    at.call(CallEnd.FAILED)
    assert at.breaker.state is BreakerState.OPEN
    with pytest.raises(LlmBreakerOpen, match="10000 ms"):
        at.breaker.check()


def test_only_the_last_calls_count() -> None:
    at = Setting(failure_share=0.75)
    at.call(CallEnd.FAILED, CallEnd.WELL, CallEnd.WELL, CallEnd.WELL)
    at.call(CallEnd.FAILED, CallEnd.FAILED)
    assert at.breaker.state is BreakerState.CLOSED, "2 of the last 4"
    at.call(CallEnd.FAILED)
    assert at.breaker.state is BreakerState.OPEN


def test_calls_that_tell_nothing_are_not_counted() -> None:
    at = Setting()
    at.call(CallEnd.UNKNOWN, CallEnd.FAILED, CallEnd.UNKNOWN)
    assert at.breaker.state is BreakerState.CLOSED


def test_one_probe_at_a_time_decides() -> None:
    at = Setting()
    at.call(CallEnd.FAILED, CallEnd.FAILED)
    at.now = 10.0
    era = at.breaker.enter()
    assert at.breaker.state is BreakerState.HALF_OPEN
    with pytest.raises(LlmBreakerOpen, match="one is made now"):
        at.breaker.enter()
    at.breaker.leave(era, CallEnd.UNKNOWN)
    era = at.breaker.enter()
    at.breaker.leave(era, CallEnd.FAILED)
    with pytest.raises(LlmBreakerOpen, match="10000 ms"):
        at.breaker.enter()
    at.now = 20.0
    at.call(CallEnd.WELL)
    assert at.breaker.state is BreakerState.CLOSED
    # What failed before is forgotten.
    at.call(CallEnd.FAILED)
    assert at.breaker.state is BreakerState.CLOSED


def test_a_call_from_before_it_opened_decides_nothing() -> None:
    at = Setting()
    late = at.breaker.enter()
    at.call(CallEnd.FAILED, CallEnd.FAILED)
    at.breaker.leave(late, CallEnd.WELL)
    assert at.breaker.state is BreakerState.OPEN
    at.now = 10.0
    at.breaker.enter()
    at.breaker.leave(late, CallEnd.WELL)
    assert at.breaker.state is BreakerState.HALF_OPEN


def test_each_change_is_told() -> None:
    at = Setting()
    at.call(CallEnd.FAILED, CallEnd.FAILED)
    at.now = 10.0
    at.call(CallEnd.WELL)
    closed, half_open, opened = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN
    assert at.states == [closed, opened, half_open, closed]
