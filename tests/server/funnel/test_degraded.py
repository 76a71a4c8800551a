"""What is left out of an answer, each way there is, with the one reason that says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from altered_funnel import AlteredSource, SetClock, altered, kinds_of
from shortlist_server.errors import DeadlineExceeded, InvalidValue
from shortlist_server.funnel import diversity
from shortlist_server.funnel.budget import Budget, Shares
from shortlist_server.funnel.options import (
    Cap,
    Named,
    Nearest,
    Options,
    Popular,
    Replay,
    SelectionOptions,
    SourceOptions,
)
from shortlist_server.funnel.stages import SourceQuery
from shortlist_server.funnel.types import Answer, Outcome, Query, Shortfall, User
from shortlist_server.generation import Generation

ONE_SECOND = 10**9
NEAREST = SourceOptions(settings=Nearest())
POPULAR = SourceOptions(settings=Popular())
CALLER = SourceOptions(settings=Named(item_ids=("i1", "i2")))


def recommend(generation: Generation, budget: Budget | None = None, **options: Any) -> Answer:
    query = Query(subject=User(id="u1"))
    return generation.funnel.recommend(
        query, Options(exclude_seen=False, **options), budget or Budget(1_000)
    )


def reasons(answer: Answer) -> list[tuple[str, str, str]]:
    return [(one.stage, one.source, one.reason.value) for one in answer.degraded]


def rows(answer: Answer) -> list[int]:
    return answer.items.rows.tolist()


def with_source(
    generation: Generation, kind: str, before: Callable[[SourceQuery], None], *, waits: bool = False
) -> tuple[Generation, AlteredSource]:
    source = AlteredSource(kinds_of(generation)[kind], before, waits=waits)
    return altered(generation, kinds={kind: source}), source


def test_source_whose_share_is_gone_is_left_out_once_another_has_answered(
    generation: Generation,
) -> None:
    clock = SetClock()

    def late(ask: SourceQuery) -> None:
        clock.now_ns += int(0.6 * ONE_SECOND)

    slow, _ = with_source(generation, "nearest", late)
    answer = recommend(slow, Budget(1.0, clock), sources=(NEAREST, POPULAR))
    assert reasons(answer) == [("retrieval", "popularity", "OUT_OF_TIME")]
    assert "its share of the time budget was gone" in answer.degraded[0].message
    assert [report.outcome for report in answer.sources] == [Outcome.OK, Outcome.OUT_OF_TIME]
    assert rows(answer) == rows(recommend(generation, sources=(NEAREST,)))


def test_source_is_asked_as_long_as_its_share_lasts(generation: Generation) -> None:
    clock = SetClock()

    def nearly_late(ask: SourceQuery) -> None:
        clock.now_ns += int(0.6 * ONE_SECOND) - 1

    slow, _ = with_source(generation, "nearest", nearly_late)
    answer = recommend(slow, Budget(1.0, clock), sources=(NEAREST, POPULAR))
    assert answer.degraded == ()
    assert rows(answer) == rows(recommend(generation, sources=(NEAREST, POPULAR)))


def test_the_first_source_to_answer_may_take_all_that_is_left(generation: Generation) -> None:
    clock = SetClock()

    def late(ask: SourceQuery) -> None:
        clock.now_ns += int(0.99 * ONE_SECOND)

    slow, _ = with_source(generation, "nearest", late)
    assert recommend(slow, Budget(1.0, clock), sources=(NEAREST,)).degraded == ()


def test_source_that_answers_nothing_takes_no_ones_time(generation: Generation) -> None:
    """What found no candidate is no reason to give the next source up."""
    clock = SetClock()

    def late(ask: SourceQuery) -> None:
        clock.now_ns += int(0.7 * ONE_SECOND)

    slow, _ = with_source(generation, "caller", late)
    nobody = SourceOptions(settings=Named(item_ids=("ghost",)))
    answer = recommend(slow, Budget(1.0, clock), sources=(nobody, NEAREST))
    assert answer.degraded == ()
    assert rows(answer) == rows(recommend(generation, sources=(NEAREST,)))


def test_source_that_stops_in_the_middle_of_its_work_is_out_of_time(generation: Generation) -> None:
    clock = SetClock()

    def stops(ask: SourceQuery) -> None:
        clock.now_ns += int(0.7 * ONE_SECOND)
        ask.checkpoint()

    slow, source = with_source(generation, "popularity", stops)
    answer = recommend(slow, Budget(1.0, clock), sources=(CALLER, POPULAR))
    assert source.call_count == 1
    assert reasons(answer) == [("retrieval", "popularity", "OUT_OF_TIME")]
    assert sorted(rows(answer)) == [1, 2]
    assert answer.shortfall is Shortfall.SOURCES_EXHAUSTED


def test_source_that_waits_too_long_is_given_up(generation: Generation) -> None:
    gate = threading.Event()

    def hangs(ask: SourceQuery) -> None:
        assert gate.wait(timeout=20)

    # The share is no time at all: that of the waiting source is gone once nearest has answered.
    source = AlteredSource(kinds_of(generation)["popularity"], hangs, waits=True)
    slow = altered(generation, kinds={"popularity": source}, shares=Shares(sources=1e-9))
    try:
        answer = recommend(slow, sources=(POPULAR, NEAREST))
    finally:
        gate.set()
    assert reasons(answer) == [("retrieval", "popularity", "OUT_OF_TIME")]
    assert rows(answer) == rows(recommend(generation, sources=(NEAREST,)))
    slow.funnel.close()


def test_source_that_waits_is_asked_beside_the_others_and_keeps_its_place(
    generation: Generation,
) -> None:
    begun, done = threading.Event(), threading.Event()

    def waits(ask: SourceQuery) -> None:
        begun.set()
        assert done.wait(timeout=20)

    def meanwhile(ask: SourceQuery) -> None:
        assert begun.wait(timeout=20)  # the other source runs already: side by side
        done.set()

    kinds = kinds_of(generation)
    both = altered(
        generation,
        kinds={
            "popularity": AlteredSource(kinds["popularity"], waits, waits=True),
            "nearest": AlteredSource(kinds["nearest"], meanwhile),
        },
    )
    answer = recommend(both, sources=(POPULAR, NEAREST))
    assert answer.degraded == ()
    plain = recommend(generation, sources=(POPULAR, NEAREST))
    assert rows(answer) == rows(plain)
    assert answer.items.sources == plain.items.sources
    both.funnel.close()


@pytest.mark.parametrize("waits", [False, True])
def test_source_that_fails_is_reported_and_the_others_answer(
    generation: Generation, waits: bool
) -> None:
    fault = RuntimeError("the disk is gone")

    def fails(ask: SourceQuery) -> None:
        raise fault

    broken, _ = with_source(generation, "popularity", fails, waits=waits)
    answer = recommend(broken, sources=(POPULAR, NEAREST))
    assert reasons(answer) == [("retrieval", "popularity", "FAILED")]
    assert answer.degraded[0].cause is fault
    assert "disk" not in answer.degraded[0].message
    report = answer.sources[0]
    assert (report.outcome, report.plan, report.item_count) == (Outcome.FAILED, "failed", 0)
    assert rows(answer) == rows(recommend(generation, sources=(NEAREST,)))
    broken.funnel.close()


def test_source_in_a_thread_that_runs_into_the_deadline_is_reported_too(
    generation: Generation,
) -> None:
    def late(ask: SourceQuery) -> None:
        raise DeadlineExceeded("retrieval")

    broken, _ = with_source(generation, "popularity", late, waits=True)
    answer = recommend(broken, sources=(POPULAR, NEAREST))
    assert [(one[0], one[1]) for one in reasons(answer)] == [("retrieval", "popularity")]
    assert rows(answer) == rows(recommend(generation, sources=(NEAREST,)))
    broken.funnel.close()


def test_each_source_and_each_stage_has_one_reason(generation: Generation) -> None:
    clock = SetClock()

    def fails(ask: SourceQuery) -> None:
        clock.now_ns += int(0.95 * ONE_SECOND)
        raise RuntimeError

    broken, _ = with_source(generation, "popularity", fails)
    answer = recommend(
        broken,
        Budget(1.0, clock),
        sources=(NEAREST, POPULAR, CALLER),
        selection=SelectionOptions(diversity=0.5),
    )
    assert reasons(answer) == [
        ("retrieval", "popularity", "FAILED"),
        ("retrieval", "caller", "OUT_OF_TIME"),
        ("diversity", "", "OUT_OF_TIME"),
    ]
    assert rows(answer) == rows(recommend(generation, sources=(NEAREST,)))


def test_where_no_source_answers_the_first_fault_is_raised(generation: Generation) -> None:
    fault = RuntimeError("first")

    def fails(ask: SourceQuery) -> None:
        raise fault

    broken, _ = with_source(generation, "nearest", fails)
    with pytest.raises(RuntimeError) as caught:
        recommend(broken, sources=(NEAREST,))
    assert caught.value is fault


def test_where_no_source_answers_in_time_the_deadline_is_exceeded(generation: Generation) -> None:
    gate = threading.Event()

    def hangs(ask: SourceQuery) -> None:
        assert gate.wait(timeout=20)

    slow, _ = with_source(generation, "nearest", hangs, waits=True)
    try:
        with pytest.raises(DeadlineExceeded) as caught:
            recommend(slow, Budget(0.05), sources=(NEAREST,))
    finally:
        gate.set()
    assert caught.value.stage == "retrieval"
    slow.funnel.close()


@pytest.mark.parametrize("waits", [False, True])
def test_what_a_source_says_of_the_request_is_no_failure(
    generation: Generation, waits: bool
) -> None:
    def refuses(ask: SourceQuery) -> None:
        raise InvalidValue("sources", expected="this", got="that")

    broken, _ = with_source(generation, "popularity", refuses, waits=waits)
    with pytest.raises(InvalidValue):
        recommend(broken, sources=(POPULAR, NEAREST))
    broken.funnel.close()


def test_diversity_is_left_out_where_what_it_needs_is_more_than_its_share(
    generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diversity, "STEP_NS", 0.9 * ONE_SECOND / 10)
    answer = recommend(
        generation, Budget(1.0, SetClock()), limit=10, selection=SelectionOptions(diversity=0.5)
    )
    assert reasons(answer) == [("diversity", "", "OUT_OF_TIME")]
    assert "needs about 900" in answer.degraded[0].message
    assert rows(answer) == rows(recommend(generation, limit=10))
    (stage,) = (report for report in answer.stages if report.name == "diversity")
    assert (stage.outcome, stage.items_out) == (Outcome.OUT_OF_TIME, stage.items_in)


def test_diversity_that_runs_out_of_its_share_leaves_the_order_of_the_scores_under_the_caps(
    generation: Generation,
) -> None:
    clock = SetClock()
    own = generation.funnel._encoder

    class Encoder:
        """The real one, at which time passes: after the forecast, before the first step."""

        def __getattr__(self, name: str) -> Any:
            return getattr(own, name)

        def directions(self, wanted: Any) -> Any:
            clock.now_ns += int(0.95 * ONE_SECOND) * bool(len(wanted))
            return own.directions(wanted)

    slow = altered(generation, encoder=Encoder())
    caps = (Cap(attribute="genres", item_count_max=3),)
    selection = SelectionOptions(diversity=0.5, caps=caps)
    answer = recommend(slow, Budget(1.0, clock), limit=10, selection=selection)
    assert reasons(answer) == [("diversity", "", "OUT_OF_TIME")]
    capped = recommend(generation, limit=10, selection=SelectionOptions(caps=caps))
    assert rows(answer) == rows(capped)


def test_diversity_in_time_is_not_degraded(generation: Generation) -> None:
    selection = SelectionOptions(diversity=0.5)
    answer = recommend(generation, Budget(1.0, SetClock()), selection=selection)
    assert answer.degraded == ()
    assert rows(answer) == rows(recommend(generation, selection=selection))
    assert rows(answer) != rows(recommend(generation))


def test_replay_leaves_out_what_was_left_out_and_nothing_by_its_own_clock(
    generation: Generation,
) -> None:
    everything = (NEAREST, POPULAR, CALLER)
    selection = SelectionOptions(diversity=0.5)
    replay = Replay(
        skipped_sources=frozenset({"popularity"}), skipped_stages=frozenset({"diversity"})
    )
    answer = recommend(generation, sources=everything, selection=selection, replay=replay)
    assert reasons(answer) == [
        ("retrieval", "popularity", "OUT_OF_TIME"),
        ("diversity", "", "OUT_OF_TIME"),
    ]
    assert rows(answer) == rows(recommend(generation, sources=(NEAREST, CALLER)))
    clock = SetClock()

    def late(ask: SourceQuery) -> None:
        clock.now_ns += int(0.95 * ONE_SECOND)

    slow, _ = with_source(generation, "nearest", late)
    whole = recommend(
        slow, Budget(1.0, clock), sources=everything, selection=selection, replay=Replay()
    )
    assert whole.degraded == ()
    assert rows(whole) == rows(recommend(generation, sources=everything, selection=selection))
