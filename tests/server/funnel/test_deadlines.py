"""Every deadline there is, told by a clock that goes on each time it is read: a request is answered
rightly or ends in DeadlineExceeded, and no kernel begins after its deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from altered_funnel import TickingClock, altered, kinds_of
from shortlist_server.errors import DeadlineExceeded
from shortlist_server.funnel import diversity
from shortlist_server.funnel.allowed import Selection
from shortlist_server.funnel.arrays import Mask
from shortlist_server.funnel.budget import Budget, Shares
from shortlist_server.funnel.filter import Exists, Filter, IsIn, NoneOf
from shortlist_server.funnel.options import (
    Cap,
    Exploration,
    Named,
    Nearest,
    Options,
    Pin,
    Popular,
    RecentHistory,
    Replay,
    SelectionOptions,
    SourceOptions,
)
from shortlist_server.funnel.types import Answer, Event, Outcome, Query, Step, User
from shortlist_server.generation import Generation
from shortlist_server.index.searcher import Searcher, SearcherOptions
from shortlist_server.runtime.models import LoadedModel
from shortlist_server.stages.query_tower import TowerEncoder
from shortlist_server.stages.ranking import OnnxRanker
from shortlist_server.stages.retrieval import HistorySource, NearestSource

USER = Query(subject=User(id="u1", history=(Event(item_id="i3"), Event(item_id="i4"))))
ALL_SOURCES = tuple(
    SourceOptions(settings=settings, candidate_count=30)
    for settings in (
        Nearest(),
        RecentHistory(),
        Popular(),
        Named(item_ids=tuple(f"i{row}" for row in range(0, 60, 3))),
    )
)
REQUESTS = {
    "plain": Options(limit=10),
    "graph": Options(limit=10, ef=50),
    "exact": Options(limit=10, exact=True),
    "filtered": Options(
        limit=10, filter=NoneOf((IsIn(attribute="year", values=(1985, 1990)),)), ef=30
    ),
    "named": Options(limit=10, sources=ALL_SOURCES[3:]),
    "pinned": Options(
        limit=10,
        sources=(SourceOptions(settings=Nearest(), candidate_count=10),),
        selection=SelectionOptions(pins=tuple(Pin(item_id=f"i{row}") for row in range(8))),
    ),
    "everything": Options(
        limit=10,
        sources=ALL_SOURCES,
        filter=Exists(attribute="year"),
        selection=SelectionOptions(
            diversity=0.3,
            caps=(Cap(attribute="genres", item_count_max=4),),
            exploration=Exploration(temperature=0.5, seed=3),
        ),
        explain=True,
    ),
}


KERNEL_TICKS = 5
"""How long a kernel takes, by the clocks of these tests."""


class Spied:
    """A real object one of whose methods tells when it is called."""

    def __init__(self, own: Any, method: str, begin: Callable[[str], None]) -> None:
        self._own, self._method, self._begin = own, method, begin

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._own, name)
        if name != self._method:
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._begin(f"{type(self._own).__name__}.{name}")
            return found(*arguments, **options)

        return call


class Kernels:
    """The clock of one request, and the kernels that began while it went on."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.clock = TickingClock()
        self.begun: list[tuple[str, int]] = []

    def begin(self, name: str) -> None:
        self.begun.append((name, self.clock.now_ns))
        self.clock.now_ns += KERNEL_TICKS


class SpiedCatalog:
    """The real catalogue; each mask of a filter that is made is noted."""

    def __init__(self, own: Any, begin: Callable[[str], None]) -> None:
        self._own, self._begin = own, begin

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def select(self, wanted: Filter | None, unwanted: Filter | None) -> Selection | None:
        selection: Selection | None = self._own.select(wanted, unwanted)
        if selection is None:
            return None
        made = selection.mask

        def evaluate(checkpoint: Callable[[], None]) -> Mask:
            for _ in range(3):  # three conditions
                checkpoint()
                self._begin("mask")
            return made.copy()

        return Selection(selection.text, lambda: evaluate(lambda: None), evaluate)


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return Kernels()


@pytest.fixture(scope="module")
def spied(generation: Generation, kernels: Kernels) -> Iterator[Generation]:
    """The real funnel, in which each call of a model, of the graph and of the similarity is
    noted, and the ranker takes seven candidates at a time.
    """
    own, vectors = generation.funnel, generation.bundle.item_embeddings
    searcher: Any = kinds_of(generation)["nearest"]._searcher
    wrapped = Searcher(
        exact=searcher._exact,
        graph=Spied(searcher._graph, "nearest", kernels.begin),  # type: ignore[arg-type]
        costs=searcher._costs,
        options=SearcherOptions(exact_items_max=10_000, exact_ms_max=0.0, fetched_max=4_096, ef=50),
    )

    def model(loaded: LoadedModel) -> LoadedModel:
        return LoadedModel(Spied(loaded.session, "run", kernels.begin), loaded.inputs)  # type: ignore[arg-type]

    encoder: Any = own._encoder
    ranker: Any = own._ranker
    spied_ranker = OnnxRanker(
        model=model(ranker._model),
        item_feeds=ranker._item_feeds,
        item_ids=generation.bundle.item_ids,
        weights=ranker.weights,
    )
    spied_ranker.chunk_rows = 7
    spied_encoder = TowerEncoder(
        tower=model(encoder._tower),
        item_ids=generation.bundle.item_ids,
        embeddings=vectors,
        metric="inner_product",
    )
    changed = altered(
        generation,
        kinds={
            "nearest": NearestSource(wrapped),
            "recent_history": HistorySource(wrapped, vectors, cosine=False),
        },
        catalog=SpiedCatalog(own._catalog, kernels.begin),
        encoder=Spied(spied_encoder, "score", kernels.begin),
        ranker=spied_ranker,
        shares=Shares(sources=0.1),
    )
    yield changed
    changed.funnel.close()


def outcome(run: Callable[[Budget], Any], kernels: Kernels, ticks: int) -> Any:
    """What a call with so many ticks comes to: its result, or None where they did not suffice."""
    kernels.restart()
    budget = Budget(0, kernels.clock)
    # Seconds would not hold so few nanoseconds exactly.
    budget._deadline_ns = budget.begin_ns + ticks
    try:
        result = run(budget)
    except DeadlineExceeded:
        result = None
    late = [begun for begun in kernels.begun if begun[1] >= budget._deadline_ns]
    assert not late, f"of {ticks} ticks, these began after the deadline: {late}"
    return result


def whole(answer: Answer) -> dict[str, Any]:
    """What must not depend on the time there was."""
    items = answer.items
    return {
        "rows": items.rows.tolist(),
        "scores": items.scores.tolist(),
        "sources": items.sources,
        "shortfall": answer.shortfall,
        "degraded": [(one.stage, one.source, one.reason) for one in answer.degraded],
    }


@pytest.fixture
def quick_diversity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the forecast say that diversity takes no time: ticks are no nanoseconds."""
    monkeypatch.setattr(diversity, "STEP_NS", 0)
    monkeypatch.setattr(diversity, "COMPONENT_NS", 0)


@pytest.mark.usefixtures("quick_diversity")
@pytest.mark.parametrize("name", REQUESTS)
def test_with_any_number_of_ticks_the_answer_is_right_or_the_deadline_exceeded(
    name: str, spied: Generation, kernels: Kernels
) -> None:
    options = REQUESTS[name]

    def run(chosen: Options) -> Callable[[Budget], Answer]:
        return lambda budget: spied.funnel.recommend(USER, chosen, budget)

    def without(answer: Answer) -> Answer:
        """The answer that was given all time there is, and left out the same parts."""
        skipped = Replay(
            skipped_sources=frozenset(one.source for one in answer.degraded if one.source),
            skipped_stages=frozenset(one.stage for one in answer.degraded if not one.source),
        )
        return spied.funnel.recommend(
            USER, Options(**{**fields(options), "replay": skipped}), Budget(1_000)
        )

    refused, degraded = 0, set()
    ticks = 0
    for ticks in range(1, 1_000):
        answer = outcome(run(options), kernels, ticks)
        if answer is None:
            refused += 1
            continue
        degraded |= {(one.stage, one.source) for one in answer.degraded}
        assert whole(answer) == whole(without(answer))
        if not answer.degraded and ticks > 3 * refused:
            break
    assert ticks < 999
    assert refused > 10
    assert ("diversity", "") in degraded or name != "everything"
    assert any(source for _, source in degraded) or name != "everything"


def fields(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in Options.__slots__}


def test_retrieve_and_rank_begin_nothing_after_the_deadline(
    spied: Generation, kernels: Kernels
) -> None:
    names = [f"i{row}" for row in range(60)]
    calls: dict[str, Callable[[Budget], Answer]] = {
        "retrieve": lambda budget: spied.funnel.retrieve(USER, Options(limit=50), budget),
        "rank": lambda budget: spied.funnel.rank(USER, names, Options(limit=60), budget),
    }
    for call in calls.values():
        expected = whole(call(Budget(1_000)))
        results = [outcome(call, kernels, ticks) for ticks in range(1, 120)]
        refused = results.count(None)
        assert results[:refused] == [None] * refused
        assert all(whole(answer) == expected for answer in results[refused:])
        assert 0 < refused < 119


@pytest.mark.usefixtures("quick_diversity")
def test_a_stream_ends_between_its_lists_and_each_of_them_is_right(
    spied: Generation, kernels: Kernels
) -> None:
    options = Options(limit=10, selection=SelectionOptions(diversity=0.3))
    plain = spied.funnel.recommend(USER, Options(limit=10), Budget(1_000))
    diverse = spied.funnel.recommend(USER, options, Budget(1_000))
    counts = set()

    def one_by_one(budget: Budget) -> list[Step]:
        steps: list[Step] = []
        try:
            for step in spied.funnel.stream(USER, options, budget):
                steps.append(step)  # noqa: PERF402  # what came before the deadline counts
        except DeadlineExceeded:
            pass
        return steps

    for ticks in range(1, 400):
        steps = outcome(one_by_one, kernels, ticks)
        counts.add(len(steps))
        for step in steps:
            left_out = step.last and bool(step.answer.degraded)
            expected = diverse if step.last and not left_out else plain
            assert step.answer.items.rows.tolist() == expected.items.rows.tolist()
        assert [step.last for step in steps] == [False, True][: len(steps)]
    assert counts == {0, 1, 2}


def test_stages_are_reported_in_their_order_each_once(spied: Generation) -> None:
    answer = spied.funnel.recommend(USER, REQUESTS["everything"], Budget(1_000))
    names = [report.name for report in answer.stages]
    assert names == ["admission", "query", "retrieval", "ranking", "diversity", "select"]
    assert {report.outcome for report in answer.stages} == {Outcome.OK}


def test_durations_of_the_stages_add_up_to_the_time_that_passed(spied: Generation) -> None:
    clock = TickingClock()
    budget = Budget(1.0, clock)
    answer = spied.funnel.recommend(USER, REQUESTS["everything"], budget)
    spent = sum(report.duration_ns for report in answer.stages)
    # What is read between the stages themselves is not theirs: a few ticks.
    assert clock.now_ns - budget.begin_ns - spent <= 3 * len(answer.stages)


def test_ranker_ranks_as_many_at_once_as_three_milliseconds_hold(
    generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker: Any = generation.funnel._ranker
    now = [0]
    for row_ns, expected in ((100_000, 30), (40_000, 75 - 75 % 64), (10, 4_096), (10**9, 1)):

        class Slow(Spied):
            cost = row_ns

            def __getattr__(self, name: str) -> Any:
                found = getattr(self._own, name)
                if name != "run":
                    return found

                def run(feeds: dict[str, np.ndarray]) -> Any:
                    now[0] += len(feeds["genres"]) * self.cost
                    return found(feeds)

                return run

        session: Any = Slow(ranker._model.session, "run", lambda name: None)
        with monkeypatch.context() as patch:
            patch.setattr("shortlist_server.stages.ranking.time.perf_counter_ns", lambda: now[0])
            slow = OnnxRanker(
                model=LoadedModel(session, ranker._model.inputs),
                item_feeds=ranker._item_feeds,
                item_ids=generation.bundle.item_ids,
                weights=ranker.weights,
            )
        assert slow.chunk_rows == expected
