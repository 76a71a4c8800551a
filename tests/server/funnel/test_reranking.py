"""What becomes of a language model's order: the list keeps every promise that it made before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.filter import Contains
from shortlist_server.funnel.options import (
    Cap,
    Exploration,
    Options,
    Pin,
    Replay,
    RerankOptions,
    SelectionOptions,
)
from shortlist_server.funnel.reranking import Reranked
from shortlist_server.funnel.select import ordered, reordered
from shortlist_server.funnel.types import Answer, DegradedReason, Outcome, Query, User
from shortlist_server.generation import Generation

USER = Query(subject=User(id="u1"))


def asked(**changes: Any) -> Options:
    return Options(**{"limit": 10, "rerank": RerankOptions(candidate_count=6), **changes})


def run(generation: Generation, options: Options, order: Any = None) -> tuple[Answer, list[int]]:
    """Answer as if a language model had given its order of what it was shown; returns also that."""
    funnel = generation.funnel
    ranked = funnel.ranked(USER, options, Budget(10))
    shown = funnel.to_rerank(ranked).rows
    if order is None:
        return funnel.selected(ranked), shown.tolist()
    rows = shown[order(len(shown))]
    return funnel.selected(ranked, Reranked(plan="said", rows=rows)), rows.tolist()


def backwards(count: int) -> Any:
    return np.arange(count)[::-1]


def rows_of(answer: Answer) -> list[int]:
    return answer.items.rows.tolist()


def test_the_shown_take_each_others_places_and_the_others_stay(generation: Generation) -> None:
    plain, shown = run(generation, asked())
    answer, order = run(generation, asked(), backwards)
    assert shown == rows_of(plain)[:6]
    assert order == shown[::-1]
    assert rows_of(answer) == [*order, *rows_of(plain)[6:]]
    assert answer.items.ranking_positions.tolist() == [5, 4, 3, 2, 1, 0, 6, 7, 8, 9]
    assert answer.items.rerank_positions is not None
    assert answer.items.rerank_positions.tolist() == [0, 1, 2, 3, 4, 5, -1, -1, -1, -1]
    assert dict(zip(rows_of(answer), answer.items.scores, strict=True)) == dict(
        zip(rows_of(plain), plain.items.scores, strict=True)
    )


def test_the_list_is_cut_after_the_order_is_made(generation: Generation) -> None:
    plain, _ = run(generation, asked())
    answer, order = run(generation, asked(limit=3), backwards)
    assert rows_of(answer) == order[:3]
    assert not set(order[:3]) & set(rows_of(plain)[:3])


def test_pinned_items_are_not_shown_and_keep_their_places(generation: Generation) -> None:
    pins = (Pin(item_id="i20", position=1), Pin(item_id="i21"))
    options = asked(selection=SelectionOptions(pins=pins), exclude_seen=False)
    answer, order = run(generation, options, backwards)
    catalog = generation.catalog
    assert [catalog.item_id(row) for row in rows_of(answer)[:2]] == ["i21", "i20"]
    assert rows_of(answer)[2:8] == order
    assert not {catalog.row("i20"), catalog.row("i21")} & set(order)


def test_filters_exclusions_and_the_least_score_hold(generation: Generation) -> None:
    plain, _ = run(generation, asked(limit=5))
    least = float(plain.items.scores[-1])
    options = asked(
        filter=Contains(attribute="genres", value="Drama", field="filter"),
        excluded_item_ids=["i3"],
        selection=SelectionOptions(score_min=least),
    )
    answer, order = run(generation, options, backwards)
    without, _ = run(generation, options)
    assert set(rows_of(answer)) == set(rows_of(without))
    assert set(order) <= set(rows_of(answer))
    assert (answer.items.scores >= least).all()


def test_caps_hold_after_the_order(generation: Generation) -> None:
    cap = SelectionOptions(caps=(Cap(attribute="genres", item_count_max=2),))
    answer, _ = run(generation, asked(selection=cap), backwards)
    genres = [
        genre
        for row in rows_of(answer)
        for genre in generation.catalog.attribute("genres", row) or ()
    ]
    assert max(genres.count(genre) for genre in set(genres)) <= 2


def test_diversity_comes_after_and_judges_by_the_new_order(generation: Generation) -> None:
    gentle = SelectionOptions(diversity=1e-9)
    answer, order = run(generation, asked(selection=gentle), backwards)
    # Next to no diversity: the list is in the order that was given.
    assert rows_of(answer)[:6] == order
    assert [stage.name for stage in answer.stages] == [
        "admission", "query", "retrieval", "ranking", "rerank", "diversity", "select",
    ]  # fmt: skip
    strong = SelectionOptions(diversity=0.8)
    other, _ = run(generation, asked(selection=strong), backwards)
    plain, _ = run(generation, asked(selection=strong))
    assert rows_of(other)[0] == order[0]
    assert rows_of(other) != rows_of(plain)


def test_exploration_comes_before(generation: Generation) -> None:
    drawn = SelectionOptions(exploration=Exploration(temperature=0.5, seed=3))
    plain, shown = run(generation, asked(selection=drawn))
    answer, order = run(generation, asked(selection=drawn), backwards)
    assert shown == rows_of(plain)[:6]
    assert rows_of(answer)[:6] == order
    assert answer.items.exploration_positions is not None
    assert answer.items.exploration_positions.tolist()[:6] == [5, 4, 3, 2, 1, 0]


def test_an_order_of_other_items_is_not_taken(generation: Generation) -> None:
    funnel = generation.funnel
    plain, shown = run(generation, asked())
    for rows in ([*shown[:-1], 59], shown[:-1], [*shown[:-1], shown[0]], [-1, *shown]):
        ranked = funnel.ranked(USER, asked(), Budget(10))
        wrong = Reranked(plan="said", rows=np.array(rows), reasons={shown[0]: "why"})
        answer = funnel.selected(ranked, wrong)
        assert rows_of(answer) == rows_of(plain)
        assert answer.items.rerank_positions is None
        assert [one.reason for one in answer.degraded] == [DegradedReason.LLM_INVALID_OUTPUT]
        assert answer.reranked is not None
        assert answer.reranked.reasons == {}


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (None, Outcome.SKIPPED),
        (DegradedReason.LLM_TIMEOUT, Outcome.OUT_OF_TIME),
        (DegradedReason.LLM_UNAVAILABLE, Outcome.FAILED),
    ],
)
def test_where_there_is_no_order_that_of_ranking_stands_and_the_stage_says_why(
    generation: Generation, failure: DegradedReason | None, outcome: Outcome
) -> None:
    funnel = generation.funnel
    ranked = funnel.ranked(USER, asked(), Budget(10))
    answer = funnel.selected(ranked, Reranked(plan="for a reason", failure=failure))
    assert rows_of(answer) == rows_of(run(generation, asked())[0])
    (stage,) = [stage for stage in answer.stages if stage.name == "rerank"]
    assert (stage.outcome, stage.plan) == (outcome, "for a reason")
    assert (stage.items_in, stage.items_out) == (6, 6)
    assert [(one.stage, one.reason) for one in answer.degraded] == (
        [("rerank", failure)] if failure else []
    )


def test_the_durations_of_the_stages_are_the_time_that_has_passed(generation: Generation) -> None:
    answer, _ = run(generation, asked(), backwards)
    begin = answer.stages[0].begin_ns
    assert sum(stage.duration_ns for stage in answer.stages) <= answer.stages[-1].end_ns - begin
    names = [stage.name for stage in answer.stages]
    rerank = answer.stages[names.index("rerank")]
    assert rerank.begin_ns == answer.stages[names.index("ranking")].end_ns


def replay_of(answer: Answer, generation: Generation, **changes: Any) -> Replay:
    assert answer.reranked is not None
    ids = tuple(generation.catalog.item_id(row) for row in answer.reranked.rows.tolist())
    return Replay(**{"reranked_item_ids": ids, **changes})


def test_a_replay_takes_the_order_from_the_log(generation: Generation) -> None:
    answer, _ = run(generation, asked(), backwards)
    options = asked(replay=replay_of(answer, generation))
    again = generation.funnel.recommend(USER, options, Budget(10))
    assert rows_of(again) == rows_of(answer)
    assert again.items.scores.tobytes() == answer.items.scores.tobytes()


def test_a_replay_of_other_candidates_says_that_the_order_does_not_fit(
    generation: Generation,
) -> None:
    answer, _ = run(generation, asked(), backwards)
    options = asked(replay=replay_of(answer, generation), excluded_item_ids=["i7", "i8", "i9"])
    without, shown = run(generation, asked(excluded_item_ids=["i7", "i8", "i9"]))
    assert answer.reranked is not None
    assert set(shown) != set(answer.reranked.rows.tolist())
    again = generation.funnel.recommend(USER, options, Budget(10))
    assert rows_of(again) == rows_of(without)
    assert [one.reason for one in again.degraded] == [DegradedReason.LLM_INVALID_OUTPUT]


def test_a_replay_leaves_out_what_was_left_out(generation: Generation) -> None:
    plain, _ = run(generation, asked())
    skipped = Replay(skipped_stages=frozenset({"rerank"}), reranked_item_ids=("i1",))
    for replay in (skipped, Replay()):
        again = generation.funnel.recommend(USER, asked(replay=replay), Budget(10))
        assert rows_of(again) == rows_of(plain)
        assert again.degraded == ()


@given(
    data=st.data(),
    scores=st.lists(st.integers(-3, 3), min_size=2, max_size=30),
    score_min=st.none() | st.integers(-3, 3),
    explored=st.booleans(),
)
def test_reordering_keeps_the_set_the_places_of_others_and_falling_keys(
    data: st.DataObject, scores: list[int], score_min: int | None, explored: bool
) -> None:
    rows = np.array(data.draw(st.permutations(range(len(scores)))), np.int64)
    order = ordered(
        rows,
        np.array(scores, float),
        score_min=score_min,
        exploration=Exploration(temperature=1.0) if explored else None,
        seed=1,
    )
    standing = rows[order.places].tolist()
    moved = data.draw(st.lists(st.sampled_from(standing), unique=True) if standing else st.just([]))
    new = reordered(order, rows, np.array(moved, np.int64))
    after = rows[new.places].tolist()
    assert sorted(after) == sorted(standing)
    assert [row for row in after if row in set(moved)] == moved
    assert all(
        was == now for was, now in zip(standing, after, strict=True) if was not in set(moved)
    )
    keys = new.keys[new.places]
    assert (keys[:-1] >= keys[1:]).all()
    assert new.scores.tolist() == order.scores.tolist()
    assert new.reranked is not None
    assert (new.reranked >= 0).sum() == len(moved)
