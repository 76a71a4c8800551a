from __future__ import annotations

import pytest
from shortlist_server.access.token_bucket import TokenBucket


class Clock:
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def test_burst_is_admitted_and_then_one_for_each_interval() -> None:
    clock = Clock()
    bucket = TokenBucket(2, 3, clock)
    assert [bucket.take() for _ in range(4)] == [0, 0, 0, 0.5]
    clock.s += 0.25
    assert bucket.take() == pytest.approx(0.25)
    clock.s += 0.25
    assert [bucket.take(), bucket.take()] == pytest.approx([0, 0.5])


def test_rest_fills_it_to_the_burst_and_no_further() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 2, clock)
    clock.s += 3_600
    assert [bucket.take() for _ in range(3)] == pytest.approx([0, 0, 0.1])


def test_call_after_the_delay_is_admitted() -> None:
    clock = Clock()
    bucket = TokenBucket(7, 1, clock)
    bucket.take()
    clock.s += bucket.take() + 1e-9
    assert bucket.take() == 0


def test_what_is_charged_beyond_the_burst_is_paid_before_the_next_call() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 5, clock)
    assert bucket.take() == 0
    bucket.charge(23)
    assert bucket.take() == pytest.approx(2.0)  # 19 owed, and one to take
    clock.s += 2.0 + 1e-9
    assert bucket.take() == 0


def test_average_is_kept_over_any_mix_of_calls() -> None:
    clock = Clock()
    bucket = TokenBucket(50, 10, clock)
    admitted = 0
    for step in range(10_000):  # 10 s
        if bucket.take() == 0:
            admitted += 1
            if step % 7 == 0:
                bucket.charge(3)
                admitted += 3
        clock.s += 0.001
    assert 500 <= admitted <= 500 + 10 + 4
