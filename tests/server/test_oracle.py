"""The funnel against an oracle that works every answer out by brute force: random catalogues,
filters, exclusions, sources, quotas, caps, pins, thresholds, diversity, exploration and limits, by
every way of searching there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle
import pytest
import random_world
from hypothesis import given, settings
from hypothesis import strategies as st
from random_requests import FILTERS, requests
from random_world import World
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import SelectionOptions
from shortlist_server.funnel.types import Answer, ColdStartBasis, Shortfall
from shortlist_server.index.plan import SearchPlan
from shortlist_server.rpc import check, convert
from shortlist_server.rpc.convert_filter import filter_from

WORLDS = st.integers(0, 164)
"""Seeds: each size with each metric, with and without tower, ranker and popularity."""
SETTLED = ("exact", "scan", "rows")
"""Modes that compare everything: their answers must equal the oracle's from end to end."""
CASES = {"exact": 500, "scan": 500, "rows": 400, "graph": 900, "filtered": 600, "cheapest": 600}
"""Generated requests by mode; 3,500 in all."""
PLANS = {
    "exact": {"none", "exact"},
    "scan": {"none", "exact"},
    "rows": {"none", "exact", "exact_rows"},
    "graph": {"none", "hnsw", "over_fetch", "filtered", "short graph"},
    "filtered": {"none", "filtered", "short graph"},
    "cheapest": {"none", "exact"},
}
"""Plans that must have been seen in each mode: a generator that no longer leads to one fails."""
TURNS = {
    *(shortfall.value for shortfall in Shortfall),
    *(basis.value for basis in ColdStartBasis),
    "several sources",
    "found twice",
    "pinned",
    "pin left out",
    "full under caps",
    "full with diversity",
    "full by chance",
    "ranked in parts",
}
"""What else must have happened in the mode of the most cases."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


def answered(world: World, mode: str, request: pb.RecommendRequest) -> tuple[Answer, Answer]:
    """The answer to a request, and all candidates that it was made of."""
    check.recommend_request(request)
    query, options = convert.query(request.query), convert.recommend_options(request)
    funnel = world.funnels["graph" if mode == "exact" else mode]
    answer = funnel.recommend(query, options, Budget(1_000))
    everything = replace(options, limit=4_096, selection=SelectionOptions())
    return answer, funnel.retrieve(query, everything, Budget(1_000))


@pytest.mark.parametrize("mode", CASES)
def test_answers_are_those_of_the_oracle(mode: str, folder: Path) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=CASES[mode])
    @given(data=st.data(), seed=WORLDS)
    def run(data: st.DataObject, seed: int) -> None:
        world = random_world.make(seed, folder)
        request = data.draw(requests(world))
        request.retrieval.exact = mode == "exact"
        if mode == "graph" and data.draw(st.booleans()):
            request.retrieval.ef = data.draw(st.sampled_from((1, 10, 400)))
        answer, candidates = answered(world, mode, request)
        ask = oracle.asked(world, request)
        found = oracle.sources(world, ask)
        if mode not in SETTLED:
            found = served(candidates, found)
        check_sources(world, ask, answer, candidates, found)
        check_list(world, ask, answer, found)
        seen.update(plans(answer, by_graph=mode == "filtered" or request.retrieval.ef > 0))
        seen.update(turns(request, answer))

    run()
    wanted = PLANS[mode] | (TURNS if mode == "graph" else set())
    assert wanted <= set(seen), (wanted - set(seen), seen)


def plans(answer: Answer, *, by_graph: bool) -> list[str]:
    """How the searches of an answer were done; `by_graph`: a scan was never planned, and so stands
    where the graph gave too little.
    """
    kinds = []
    for source in answer.sources:
        plan = SearchPlan.parse(source.plan.rpartition(": ")[2])
        if plan is not None:
            short = by_graph and plan.kind in ("exact", "exact_rows")
            kinds.append("short graph" if short else plan.kind)
    return kinds


def turns(request: pb.RecommendRequest, answer: Answer) -> list[str]:
    """What else there was to an answer."""
    selection, items = request.selection, answer.items
    full = answer.shortfall is None and len(items.rows) > 2
    happened = {
        "several sources": sum(report.item_count > 0 for report in answer.sources) > 1,
        "found twice": any(len(where) > 1 for where in items.sources),
        "pinned": any(where[0][0] == "pinned" for where in items.sources),
        "pin left out": any(
            warning.reason.value == "PINNED_ITEM_LEFT_OUT" for warning in answer.warnings
        ),
        "full under caps": full and len(selection.caps) > 0,
        "full with diversity": full and selection.diversity > 0,
        "full by chance": full and answer.seed is not None,
        "ranked in parts": "at a time" in answer.stages[3].plan,
        str(answer.shortfall and answer.shortfall.value): True,
        str(answer.cold_start and answer.cold_start.value): True,
    }
    return [name for name, did in happened.items() if did]


def served(candidates: Answer, found: Sequence[oracle.Source]) -> list[oracle.Source]:
    """The sources with what a graph search gave them."""
    by_source: dict[str, dict[int, int]] = {source.name: {} for source in found}
    for row, where in zip(candidates.items.rows.tolist(), candidates.items.sources, strict=True):
        for name, position in where:
            by_source[name][position] = row
    result = []
    for source in found:
        rows = by_source[source.name]
        assert sorted(rows) == list(range(len(rows)))
        given = [rows[position] for position in range(len(rows))]
        result.append(replace(source, rows=given))
    return result


def check_sources(
    world: World,
    ask: oracle.Asked,
    answer: Answer,
    candidates: Answer,
    found: Sequence[oracle.Source],
) -> None:
    """Check what the sources gave: as many as there are, only what is allowed, best first."""
    truth = oracle.sources(world, ask)
    assert [(source.name, source.kind) for source in truth] == [
        (report.name, report.kind) for report in answer.sources if report.outcome.value == "OK"
    ]
    assert not answer.degraded
    counts = {report.name: report.item_count for report in answer.sources}
    for source, true in zip(found, truth, strict=True):
        # Never short: as many as exact search finds, whatever the way.
        assert len(source.rows) == counts[source.name] == len(true.rows)
        assert len(set(source.rows)) == len(source.rows)
        assert set(source.rows) <= set(ask.allowed)
        if source.kind in ("popularity", "caller"):
            assert source.rows == true.rows
        if source.kind == "nearest":
            assert ask.embedding is not None
            point = ask.embedding
            order = [(-oracle.similarity(world, row, point), row) for row in source.rows]
            assert order == sorted(order)
    rows = list(dict.fromkeys(row for source in found for row in source.rows))
    assert sorted(candidates.items.rows.tolist()) == sorted(rows)


def check_list(
    world: World, ask: oracle.Asked, answer: Answer, found: Sequence[oracle.Source]
) -> None:
    """Check the list made of what the sources gave, with all that it says of itself."""
    candidates = oracle.candidates(world, ask, found)
    ordered = oracle.order(ask, candidates)
    kept = oracle.fixed(world, ask, ordered)
    items, rows = answer.items, answer.items.rows.tolist()
    assert set(rows) <= set(ask.allowed)
    assert len(set(rows)) == len(rows) <= ask.limit
    selection = ask.request.selection
    if selection.diversity:
        assert items.diversity_positions is not None
        pinned = {row for row, _ in kept.pinned}
        chosen = [row for row in rows if row not in pinned]
        oracle.check_diverse(world, ask, ordered, kept, chosen)
    else:
        chosen = oracle.filled(ask, kept)
    assert rows == oracle.woven(chosen, kept)
    check_items(answer, candidates, ordered, chosen)
    check_words(ask, answer, candidates, ordered, kept)


def check_items(
    answer: Answer,
    candidates: Sequence[oracle.Candidate],
    ordered: oracle.Order,
    chosen: Sequence[int],
) -> None:
    """Check the scores, the provenance and the positions of the items."""
    items = answer.items
    of = {one.row: one for one in candidates}
    ranked = {one.row: position for position, one in enumerate(ordered.ranked)}
    explored = {one.row: position for position, one in enumerate(ordered.explored or ())}
    for place, row in enumerate(items.rows.tolist()):
        one = of[row]
        assert items.scores[place] == one.score
        assert list(items.sources[place]) == one.sources
        assert items.candidate_positions[place] == one.position
        assert items.ranking_positions[place] == ranked[row]
        assert (items.retrieval_scores is None) == (one.retrieval is None)
        if items.retrieval_scores is not None:
            assert items.retrieval_scores[place] == one.retrieval
        assert (items.ranking_scores is None) == (one.ranking is None)
        if items.ranking_scores is not None:
            assert items.ranking_scores[place] == one.ranking
        if items.exploration_positions is not None:
            assert items.exploration_positions[place] == explored[row]
        if items.diversity_positions is not None:
            expected = chosen.index(row) if row in chosen else -1
            assert items.diversity_positions[place] == expected
    assert (items.exploration_positions is None) == (ordered.explored is None)


def check_words(
    ask: oracle.Asked,
    answer: Answer,
    candidates: Sequence[oracle.Candidate],
    ordered: oracle.Order,
    kept: oracle.Fixed,
) -> None:
    """Check what the answer says of its length, of a cold start, and of what it left out."""
    count, selection = len(answer.items.rows), ask.request.selection
    assert (answer.shortfall is None) == (count == ask.limit)
    if answer.shortfall is not None:
        enough = len(candidates) >= ask.limit
        standing = {one.row for one in ordered.standing}
        expected = Shortfall.SCORE_MIN if len(standing) < ask.limit else Shortfall.CAPS
        if not enough and not any(report.outcome.value == "OK" for report in answer.sources):
            expected = Shortfall.POPULARITY_EXHAUSTED
        elif not enough and len(candidates) < len(ask.allowed):
            expected = Shortfall.SOURCES_EXHAUSTED
        elif not enough:
            filtered = ask.request.HasField("filter") or ask.request.exclusions.HasField("filter")
            expected = Shortfall.FILTER_EXHAUSTED if filtered else Shortfall.CATALOG_EXHAUSTED
        assert answer.shortfall is expected
        assert selection.HasField("score_min") or expected is not Shortfall.SCORE_MIN
        assert selection.caps or expected is not Shortfall.CAPS
    cold = ask.request.query.HasField("user") and not ask.known
    assert (answer.cold_start is not None) == cold
    if cold:
        basis = "FEATURES" if ask.embedding_name == "two_tower" else "HISTORY"
        assert answer.cold_start is not None
        assert answer.cold_start.value == (basis if ask.embedding is not None else "NOTHING")
    left_out = [
        name
        for warning in answer.warnings
        if warning.reason.value == "PINNED_ITEM_LEFT_OUT"
        for name in warning.subjects
    ]
    refused = [
        pin.item_id
        for pin in selection.pinned_items
        if pin.item_id not in {f"i{row}" for row, _ in kept.pinned}
        and int(pin.item_id.removeprefix("i")) < answer.query.allowed.size
    ]
    assert sorted(left_out) == sorted(refused)


# Filters by themselves.


@settings(max_examples=500)
@given(filter_=FILTERS, seed=WORLDS)
def test_masks_are_those_of_a_plain_evaluation_item_by_item(
    filter_: types.Filter, seed: int, folder: Path
) -> None:
    world = random_world.make(seed, folder)
    check.check_options.filter_("filter", filter_)
    wanted = filter_from(filter_, "filter")
    expected = [oracle.matches(world, filter_, row) for row in range(world.size)]
    for _ in range(2):  # made, and from the cache
        selection = world.catalog.select(wanted)
        assert selection is not None
        assert selection.mask.tolist() == expected
        assert selection.rows.tolist() == np.flatnonzero(expected).tolist()
        assert selection.count == sum(expected)
        assert not selection.mask.flags.writeable
