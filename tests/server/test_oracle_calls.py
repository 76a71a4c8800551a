"""Retrieve, Rank and FindSimilarItems against the oracle, over random catalogues and requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import oracle
import pytest
import random_world
from hypothesis import given, settings
from hypothesis import strategies as st
from random_requests import FILTERS, requests
from random_world import World
from shortlist.v1 import recommendation_pb2 as pb
from shortlist_server.errors import ItemNotFound
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.types import Answer, Shortfall
from shortlist_server.rpc import check, convert

WORLDS = st.integers(0, 164)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


def listed(answer: Answer) -> list[tuple[int, float]]:
    return list(zip(answer.items.rows.tolist(), answer.items.scores.tolist(), strict=True))


@settings(max_examples=400)
@given(data=st.data(), seed=WORLDS)
def test_retrieve_gives_the_candidates_in_their_order_unranked(
    data: st.DataObject, seed: int, folder: Path
) -> None:
    world = random_world.make(seed, folder)
    asked = data.draw(requests(world, selection=False))
    asked.retrieval.candidate_count = data.draw(st.sampled_from((0, 0, 1, 7, 40)))
    asked.limit = 0
    request = pb.RetrieveRequest(
        query=asked.query,
        retrieval=asked.retrieval,
        exclusions=asked.exclusions,
        sources=asked.sources,
        filter=asked.filter if asked.HasField("filter") else None,
    )
    check.retrieve_request(request)
    query, options = convert.query(request.query), convert.retrieve_options(request)
    answer = world.funnels["scan"].retrieve(query, options, Budget(1_000))
    ask = oracle.asked(world, asked)
    found = oracle.sources(world, ask)
    candidates = oracle.candidates(replace(world, has_ranker=False), ask, found)
    limit = request.retrieval.candidate_count or len(candidates)
    expected = oracle.order(ask, candidates).ranked[:limit]
    assert listed(answer) == [(one.row, one.score) for one in expected]
    assert [list(where) for where in answer.items.sources] == [one.sources for one in expected]
    assert answer.items.ranking_scores is None
    if request.retrieval.candidate_count and len(candidates) < limit:
        assert answer.shortfall is not None
    if len(candidates) < len(ask.allowed) and not request.retrieval.candidate_count and found:
        # All that the sources give was asked for: nothing is lacking, unless one gave too little.
        assert answer.shortfall in (None, Shortfall.SOURCES_EXHAUSTED)


@settings(max_examples=400)
@given(data=st.data(), seed=WORLDS)
def test_rank_scores_what_is_named_and_known(data: st.DataObject, seed: int, folder: Path) -> None:
    world = random_world.make(seed, folder)
    asked = data.draw(requests(world, selection=False))
    names = data.draw(
        st.lists(st.integers(0, world.size + 3).map("i{}".format), min_size=1, max_size=30)
    )
    request = pb.RankRequest(query=asked.query, item_ids=names, output_weights=asked.output_weights)
    check.rank_request(request)
    query, options = convert.query(request.query), convert.rank_options(request)
    funnel = world.funnels["scan"]
    answer = funnel.rank(query, tuple(request.item_ids), options, Budget(1_000))
    ask = oracle.asked(world, asked)
    rows = oracle.rows_of(world, dict.fromkeys(names))
    # Asked for its word, the ranker gives it for any user; other queries are none for it.
    ranked = world.has_ranker and asked.query.HasField("user")
    weights = dict(asked.output_weights) or {"first": 1.0, "second": 0.5}
    expected = []
    for row in rows:
        retrieved = 0.0 if ask.embedding is None else oracle.similarity(world, row, ask.embedding)
        outputs = world.outputs(ask.user_id, row, retrieved)
        weighted = sum((weights[name] * outputs[name] for name in weights), 0.0)
        expected.append((row, weighted if ranked else retrieved))
    assert listed(answer) == sorted(expected, key=lambda one: (-one[1], one[0]))
    unknown = [name for name in dict.fromkeys(names) if oracle.row_of(world, name) is None]
    assert list(answer.unknown_item_ids) == unknown
    assert answer.shortfall is None


def test_similar_items_are_the_nearest_that_are_allowed(folder: Path) -> None:
    outcomes: Counter[str] = Counter()

    @settings(max_examples=400)
    @given(data=st.data(), seed=WORLDS, mode=st.sampled_from(sorted(random_world.MODES)))
    def run(data: st.DataObject, seed: int, mode: str) -> None:
        world = random_world.make(seed, folder)
        ids = st.integers(0, world.size).map("i{}".format)
        request = pb.FindSimilarItemsRequest(
            item_id=data.draw(ids),
            limit=data.draw(st.sampled_from((0, 1, 5, 100))),
            excluded_item_ids=data.draw(st.lists(ids, max_size=5)),
            filter=data.draw(st.one_of(st.none(), FILTERS)),
        )
        request.retrieval.exact = data.draw(st.booleans())
        check.find_similar_items_request(request)
        query, options = convert.similar_query(request), convert.similar_options(request)
        row = oracle.row_of(world, request.item_id)
        if row is None:
            with pytest.raises(ItemNotFound):
                world.funnels[mode].retrieve(query, options, Budget(1_000))
            outcomes["unknown"] += 1
            return
        answer = world.funnels[mode].retrieve(query, options, Budget(1_000))
        limit = request.limit or 20
        excluded = {row, *oracle.rows_of(world, request.excluded_item_ids)}
        allowed = allowed_rows(world, request, excluded)
        found = answer.items.rows.tolist()
        assert len(set(found)) == len(found) == min(limit, len(allowed))
        assert set(found) <= set(allowed)
        point = world.vectors[row].astype(float)
        scores = [oracle.similarity(world, item, point) for item in found]
        assert answer.items.scores.tolist() == scores
        if request.retrieval.exact or mode in ("scan", "rows"):
            assert found == oracle.nearest(world, point, allowed, limit)
        assert (answer.shortfall is None) == (len(found) == limit)
        assert answer.cold_start is None
        outcomes["short" if answer.shortfall else "full"] += 1

    run()
    assert set(outcomes) == {"unknown", "short", "full"}


def allowed_rows(
    world: World, request: pb.FindSimilarItemsRequest, excluded: set[int]
) -> list[int]:
    return [
        row
        for row in range(world.size)
        if row not in excluded
        and (not request.HasField("filter") or oracle.matches(world, request.filter, row))
    ]
