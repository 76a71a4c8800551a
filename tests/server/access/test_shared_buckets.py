"""Rate limits that several processes keep together."""

from __future__ import annotations

import os
import signal

from shortlist_server.access.shared_buckets import ENTRIES, PROBED, SharedBuckets, make_memory


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_two_that_share_it_allow_no_more_than_one() -> None:
    memory, clock = make_memory(), Clock()
    one, other = (SharedBuckets(memory, clock).bucket(b"k" * 32, 10.0, 4) for _ in range(2))
    assert [bucket.take() for bucket in (one, other, one, other)] == [0, 0, 0, 0]
    assert one.take() == other.take() == 0.1
    clock.time += 0.125
    assert other.take() == 0
    assert abs(one.take() - 0.075) < 1e-9
    # On credit, for both.
    other.charge(3)
    assert abs(one.take() - 0.375) < 1e-9


def test_keys_have_their_own_and_a_changed_limit_begins_full() -> None:
    memory, clock = make_memory(), Clock()
    table = SharedBuckets(memory, clock)
    assert table.bucket(b"a" * 32, 1.0, 1).take() == 0
    assert table.bucket(b"a" * 32, 1.0, 1).take() == 1.0
    assert table.bucket(b"b" * 32, 1.0, 1).take() == 0
    assert table.bucket(b"a" * 32, 2.0, 2).take() == 0


def test_where_all_places_are_taken_the_longest_unused_is() -> None:
    memory, clock = make_memory(), Clock()
    table = SharedBuckets(memory, clock)

    def digest(number: int) -> bytes:
        return (number * ENTRIES).to_bytes(8, "little") + b"x" * 24

    for number in range(PROBED + 1):
        clock.time += 1
        assert table.bucket(digest(number), 0.001, 1).take() == 0
    assert table.bucket(digest(PROBED), 0.001, 1).take() > 0
    assert table.bucket(digest(1), 0.001, 1).take() > 0
    # The first had to go, and so begins again.
    assert table.bucket(digest(0), 0.001, 1).take() == 0


def test_processes_take_from_one_bucket_and_one_that_is_killed_holds_no_lock() -> None:
    memory = make_memory()
    key, burst = b"p" * 32, 1_000
    pids = []
    for number in range(4):
        if not (pid := os.fork()):
            bucket = SharedBuckets(memory).bucket(key, 1e-9, burst)
            taken = sum(bucket.take() == 0 for _ in range(200))
            if number == 3:  # it ends while it has the lock
                with SharedBuckets(memory).entry(key):
                    os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0 if taken == 200 else 1)
        pids.append(pid)
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert ends == [0, 0, 0, -signal.SIGKILL]
    bucket = SharedBuckets(memory).bucket(key, 1e-9, burst)
    assert sum(bucket.take() == 0 for _ in range(burst)) == burst - 4 * 200
