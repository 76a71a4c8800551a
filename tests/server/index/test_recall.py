"""The recall monitor: live searches compared with exact ones, by how much the filters left."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from shortlist_server.funnel.allowed import Allowed, Selection
from shortlist_server.funnel.arrays import NO_ROWS
from shortlist_server.index.exact import ExactIndex
from shortlist_server.index.plan import SearchPlan
from shortlist_server.index.recall import BOUNDS, WAITING_MAX, RecallBucket, RecallMonitor
from shortlist_server.index.vector_index import Neighbors

COUNT = 4_000
VECTORS = np.random.default_rng(1).normal(size=(COUNT, 8)).astype(np.float32)
EXACT = ExactIndex(VECTORS, "inner_product")


class Searched:
    """What was searched: asked again, it compares everything."""

    def search(
        self, query: Any, k: int, *, allowed: Allowed, checkpoint: Any, exact: bool, **_: Any
    ) -> tuple[Neighbors, SearchPlan]:
        assert exact
        found = EXACT.search(query, k, allowed=allowed, checkpoint=checkpoint)
        return found, SearchPlan(kind="exact")


SEARCHED = Searched()


@pytest.fixture
def monitor() -> Iterator[RecallMonitor]:
    made = RecallMonitor(cpu_share=1.0)
    yield made
    made.close()


def allowed(count: int, excluded_count: int = 0) -> Allowed:
    """So many items that a filter matches, the first of them excluded by id."""
    selection = None
    if count < COUNT:
        selection = Selection(f"{count}", lambda: np.arange(COUNT) < count)
    return Allowed(COUNT, selection, np.arange(excluded_count) if excluded_count else NO_ROWS)


def truth(of: Allowed, k: int) -> Neighbors:
    return EXACT.search(VECTORS[0], k, allowed=of, checkpoint=lambda: None)


def watch(monitor: RecallMonitor, of: Allowed, k: int, missed: int) -> None:
    """Report a search that missed so many of the nearest items."""
    found = truth(of, k)
    monitor.watch(
        SEARCHED, VECTORS[0], k, of, Neighbors(found.rows[missed:], found.scores[missed:])
    )
    monitor.settle()


def filled(monitor: RecallMonitor) -> dict[tuple[float, float], tuple[int, float | None]]:
    """The buckets that hold something."""
    return {
        (bucket.selectivity_min, bucket.selectivity_max): (bucket.query_count, bucket.recall)
        for bucket in monitor.snapshot().buckets
        if bucket.query_count
    }


def test_buckets_cover_all_shares_and_are_empty_at_first(monitor: RecallMonitor) -> None:
    buckets = monitor.snapshot().buckets
    assert [(one.selectivity_min, one.selectivity_max) for one in buckets] == list(
        zip(BOUNDS, BOUNDS[1:], strict=False)
    )
    assert all((one.query_count, one.recall) == (0, None) for one in buckets)
    assert (buckets[0].selectivity_min, buckets[-1].selectivity_max) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("count", "bucket"),
    [
        (1, (0.0, 0.001)),
        (3, (0.0, 0.001)),
        (4, (0.001, 0.01)),  # a share of exactly 0.001
        (39, (0.001, 0.01)),
        (40, (0.01, 0.1)),
        (399, (0.01, 0.1)),
        (400, (0.1, 0.5)),
        (1_999, (0.1, 0.5)),
        (2_000, (0.5, 1.0)),
        (3_999, (0.5, 1.0)),
        (4_000, (1.0, 1.0)),
    ],
)
def test_a_search_counts_in_the_bucket_of_its_share(
    monitor: RecallMonitor, count: int, bucket: tuple[float, float]
) -> None:
    watch(monitor, allowed(count), 10, 0)
    assert filled(monitor) == {bucket: (1, 1.0)}


def test_exclusions_by_id_count_like_those_of_a_filter(monitor: RecallMonitor) -> None:
    watch(monitor, allowed(COUNT, 1), 10, 0)
    watch(monitor, allowed(COUNT, 2_400), 10, 0)
    watch(monitor, allowed(410, 11), 10, 0)
    assert filled(monitor) == {
        (0.5, 1.0): (1, 1.0),
        (0.1, 0.5): (1, 1.0),
        (0.01, 0.1): (1, 1.0),
    }


def test_recall_is_the_share_of_the_true_items_over_all_that_were_asked_for(
    monitor: RecallMonitor,
) -> None:
    watch(monitor, allowed(COUNT), 10, 5)
    watch(monitor, allowed(COUNT), 30, 1)
    watch(monitor, allowed(COUNT), 10, 0)
    assert filled(monitor) == {(1.0, 1.0): (3, 44 / 50)}
    # Of three items that are allowed two were found.
    watch(monitor, allowed(3), 10, 1)
    assert filled(monitor)[0.0, 0.001] == (1, 2 / 3)


def test_items_that_are_not_among_the_nearest_are_no_hits(monitor: RecallMonitor) -> None:
    found = truth(allowed(COUNT), 20)
    monitor.watch(
        SEARCHED, VECTORS[0], 10, allowed(COUNT), Neighbors(found.rows[5:15], found.scores[5:15])
    )
    monitor.settle()
    assert filled(monitor) == {(1.0, 1.0): (1, 0.5)}


def test_nothing_allowed_is_no_recall(monitor: RecallMonitor) -> None:
    watch(monitor, allowed(5, 5), 10, 0)
    (bucket,) = (one for one in monitor.snapshot().buckets if one.query_count)
    assert bucket == RecallBucket(
        selectivity_min=0.0, selectivity_max=0.001, query_count=1, recall=None
    )


def test_watching_never_waits_and_what_is_too_much_is_counted() -> None:
    gate, begun = threading.Event(), threading.Event()

    def rest(seconds: float) -> None:
        begun.set()
        assert gate.wait(timeout=20)

    monitor = RecallMonitor(cpu_share=0.5, sleep=rest)
    of = allowed(COUNT)
    found = truth(of, 3)
    monitor.watch(SEARCHED, VECTORS[0], 3, of, found)
    assert begun.wait(timeout=20)  # one is under way, the others wait
    for _ in range(WAITING_MAX + 7):
        monitor.watch(SEARCHED, VECTORS[0], 3, of, found)
    assert monitor.snapshot().dropped_count == 7
    gate.set()
    monitor.settle()
    assert filled(monitor) == {(1.0, 1.0): (WAITING_MAX + 1, 1.0)}
    assert monitor.snapshot().dropped_count == 7
    monitor.close()


def test_a_fault_is_logged_and_does_not_end_the_checking(
    monitor: RecallMonitor, caplog: pytest.LogCaptureFixture
) -> None:
    found = truth(allowed(COUNT), 3)
    with caplog.at_level(logging.ERROR):
        monitor.watch(SEARCHED, VECTORS[0][:3], 3, allowed(COUNT), found)  # of another dimension
        monitor.settle()
    assert "could not check" in caplog.text
    watch(monitor, allowed(COUNT), 10, 0)
    assert filled(monitor) == {(1.0, 1.0): (1, 1.0)}


@pytest.mark.parametrize(("cpu_share", "factor"), [(1.0, 0.0), (0.5, 1.0), (0.02, 49.0)])
def test_rest_is_in_proportion_to_the_work(
    cpu_share: float, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, rests = [0.0], []
    monkeypatch.setattr("shortlist_server.index.recall.time.thread_time", lambda: now[0])

    def sleep(seconds: float) -> None:
        if seconds or cpu_share == 1.0:
            rests.append(seconds)
        now[0] += 0.125 * (not seconds)  # between the pieces of a scan: it works

    monitor = RecallMonitor(cpu_share=cpu_share, sleep=sleep)
    watch(monitor, allowed(COUNT), 10, 0)
    monitor.close()
    worked = now[0]
    assert worked > 0
    assert rests[-1] == pytest.approx(worked * factor)
