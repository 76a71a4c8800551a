"""What a language model is told before it rates, and what is made of what it says. The model here
is a function.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options, RatingOptions
from shortlist_server.funnel.rating import Rated, Rating, applied
from shortlist_server.funnel.stages import RatingQuery
from shortlist_server.funnel.types import (
    DegradedReason,
    Event,
    Examples,
    Outcome,
    Query,
    Ranking,
    User,
)
from shortlist_server.generation import Generation
from shortlist_server.llm.language_model import Completion, LlmBlocked, Message, TokenUsage
from shortlist_server.llm.prompt import rating_prompt
from shortlist_server.stages.rating import LlmRater, RaterOptions

IDS = ("i3", "i4", "i5", "i6")


class Model:
    """Rates each item 3, or raises; remembers what it was told."""

    identity = "fake/one"

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.told: list[tuple[dict[str, Any], dict[str, Any]]] = []

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any], **options: Any
    ) -> Completion:
        text = messages[-1].text
        data = json.loads(text.partition("<data>")[2].partition("</data>")[0])
        self.told.append((data, options))
        if self._error is not None:
            raise self._error
        ratings = [{"handle": one["handle"], "rating": 3} for one in data["items"]]
        usage = TokenUsage(input_tokens=100, output_tokens=10)
        return Completion(value={"ratings": ratings}, usage=usage, cost=0.5)

    def stream(self, messages: Sequence[Message], *, deadline_s: float) -> Any:
        raise NotImplementedError


def ask_of(
    generation: Generation,
    subject: Any = None,
    deadline_s: float = 5.0,
    ids: Sequence[str] = IDS,
    **rating: Any,
) -> RatingQuery:
    options = Options(rating=RatingOptions(**rating))
    query = Query(subject=subject or User(id="u1"))
    named = generation.funnel.named(query, ids, options, Budget(100))
    return replace(generation.funnel.to_rate(named), deadline_s=deadline_s)


def rate(model: Any, ask: RatingQuery, **options: Any) -> Rated:
    return asyncio.run(LlmRater(model, RaterOptions(**options)).rate(ask))


def history(*ratings: float | None) -> tuple[Event, ...]:
    return tuple(
        Event(item_id=f"i{place + 10}", rating=rating) for place, rating in enumerate(ratings)
    )


def titles(told: Sequence[Mapping[str, Any]]) -> list[int]:
    return [int(one["title"].split()[1]) for one in told]


def test_rated_events_are_shown_before_others_in_the_order_they_happened(
    generation: Generation,
) -> None:
    model = Model()
    events = history(4.0, None, 2.0, 5.0, None, None)
    rate(model, ask_of(generation, User(id="u1", history=events)), history_count=4)
    ((data, _),) = model.told
    # The three that are rated, and the newest of the others.
    assert titles(data["history"]) == [10, 12, 13, 15]
    assert [one.get("rating") for one in data["history"]] == [4, 2, 5, None]


def test_of_rated_events_the_newest_are_shown(generation: Generation) -> None:
    model = Model()
    rate(
        model,
        ask_of(generation, User(id="u1", history=history(1.0, 2.0, 3.0, None))),
        history_count=2,
    )
    assert titles(model.told[0][0]["history"]) == [11, 12]


def test_a_history_of_the_bundle_has_no_ratings(generation: Generation) -> None:
    model = Model()
    rate(model, ask_of(generation))
    told = model.told[0][0]["history"]
    assert told
    assert all("rating" not in one for one in told)


def test_items_that_others_are_wanted_like_are_told(generation: Generation) -> None:
    model = Model()
    rate(model, ask_of(generation, Examples(item_ids=("i1", "i2"))))
    assert titles(model.told[0][0]["like"]) == [1, 2]


def test_who_names_the_items_in_another_order_asks_the_same(generation: Generation) -> None:
    model = Model()
    rate(model, ask_of(generation))
    rate(model, ask_of(generation, ids=IDS[::-1]))
    # What is of no use is not kept for the second.
    assert not any(how.pop("usable")({"ratings": []}) for _, how in model.told)
    first, second = model.told
    assert first == second
    assert titles(first[0]["items"]) != [3, 4, 5, 6]
    assert first[1] == {"deadline_s": 5.0, "prompt_version": rating_prompt().version}


def test_a_template_of_the_configuration_goes_first(generation: Generation) -> None:
    user = "<data>$data</data> for $count"
    template = f'title = "none"\nattributes = ["year"]\nsystem = "Rate."\nuser = "{user}"\n'
    model = Model()
    rated = rate(model, ask_of(generation), template=template)
    assert rated.prompt == rating_prompt(template).version != rating_prompt().version
    shown = model.told[0][0]["items"]
    assert all(set(one) <= {"handle", "attributes"} for one in shown)
    assert all(set(one.get("attributes", ())) <= {"year"} for one in shown)


def test_where_no_time_is_left_the_model_is_not_asked(generation: Generation) -> None:
    model = Model()
    rated = rate(model, ask_of(generation, deadline_s=0.0))
    assert (rated.failure, model.told) == (DegradedReason.LLM_BUDGET_EXCEEDED, [])


def test_the_share_and_the_timeout_bound_the_wait(generation: Generation) -> None:
    options = Options(rating=RatingOptions())
    named = generation.funnel.named(Query(subject=User(id="u1")), IDS, options, Budget(100))
    assert 79 < generation.funnel.to_rate(named).deadline_s <= 80
    short = replace(named, options=Options(rating=RatingOptions(timeout_s=0.25)))
    assert generation.funnel.to_rate(short).deadline_s == 0.25


def test_the_reason_of_an_error_is_told_with_what_it_cost(generation: Generation) -> None:
    error = LlmBlocked("held back", usage=TokenUsage(input_tokens=7, output_tokens=1))
    rated = rate(Model(error), ask_of(generation))
    assert (rated.failure, rated.plan) == (DegradedReason.LLM_BLOCKED, "held back")
    assert (rated.input_token_count, rated.output_token_count) == (7, 1)
    assert not rated.ratings


def test_a_fault_of_ours_loses_no_answer(generation: Generation) -> None:
    fault = RuntimeError("a bug")
    rated = rate(Model(fault), ask_of(generation))
    assert (rated.failure, rated.cause) == (DegradedReason.FAILED, fault)


def test_a_blend_has_the_weights_of_the_configuration(generation: Generation) -> None:
    rated = rate(Model(), ask_of(generation, blend=True), llm_weight=0.9, ranker_weight=0.1)
    assert (rated.llm_weight, rated.ranker_weight) == (0.9, 0.1)
    alone = rate(Model(), ask_of(generation), llm_weight=0.9, ranker_weight=0.1)
    assert (alone.llm_weight, alone.ranker_weight) == (1, 0)


def named(generation: Generation) -> Any:
    options = Options(limit=4, rating=RatingOptions(blend=True))
    return generation.funnel.named(Query(subject=User(id="u1")), IDS, options, Budget(100))


@pytest.mark.parametrize(
    "change",
    [
        lambda said: dict(list(said.items())[1:]),
        lambda said: {**said, 59: Rating(value=3)},
        lambda said: {**dict(list(said.items())[1:]), 59: Rating(value=3)},
        lambda said: {**said, next(iter(said)): Rating(value=5.5)},
        lambda said: {**said, next(iter(said)): Rating(value=float("nan"))},
    ],
    ids=["one less", "one more", "another", "out of bounds", "no number"],
)
def test_ratings_of_other_items_are_not_taken(generation: Generation, change: Any) -> None:
    ranked = named(generation)
    plain = generation.funnel.rated(named(generation))
    said = {row: Rating(value=3.0) for row in ranked.candidates.rows.tolist()}
    answer = generation.funnel.rated(ranked, Rated(plan="said", ratings=change(said)))
    assert [one.reason for one in answer.degraded] == [DegradedReason.LLM_INVALID_OUTPUT]
    assert answer.items.rows.tolist() == plain.items.rows.tolist()
    assert answer.items.scores.tolist() == plain.items.scores.tolist()
    assert answer.rated is not None
    assert not answer.rated.ratings
    (stage,) = (one for one in answer.stages if one.name == "rating")
    assert stage.outcome is Outcome.FAILED


def test_without_a_ranking_a_blend_is_the_rating_alone(generation: Generation) -> None:
    ranked = replace(named(generation), ranking=Ranking())
    values = {row: Rating(value=1.0 + row % 4) for row in ranked.candidates.rows.tolist()}
    said = Rated(plan="said", ratings=values, llm_weight=0.5, ranker_weight=0.5)
    scored, rated, degraded = applied(ranked, said)
    assert scored.scores is not None
    assert np.array_equal(scored.scores, [1.0 + row % 4 for row in ranked.candidates.rows])
    assert (rated.llm_weight, rated.ranker_weight) == (1, 0)
    assert not degraded
