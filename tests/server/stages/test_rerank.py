"""What a language model is told, and what is made of what it says. The model here is a function."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lift_reports import WORSE
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options, RerankOptions
from shortlist_server.funnel.reranking import Reranked
from shortlist_server.funnel.stages import RerankQuery
from shortlist_server.funnel.types import DegradedReason, Event, Examples, Query, User, Vector
from shortlist_server.generation import Generation
from shortlist_server.llm.language_model import (
    Completion,
    LanguageModelError,
    LlmBlocked,
    LlmInvalidOutput,
    LlmTimeout,
    LlmUnavailable,
    Message,
    TokenUsage,
)
from shortlist_server.llm.lift_report import write_report
from shortlist_server.llm.lift_switch import LiftOptions, LiftSwitch
from shortlist_server.llm.prompt import SEARCH_CHARS_MAX, packaged, rerank_prompt
from shortlist_server.stages.rerank import LlmReranker, RerankerOptions

Answer = Callable[[list[str]], Any]


class Model:
    """A language model that answers the handles by a function, and remembers what it was told."""

    identity = "fake/one"

    def __init__(self, *answers: Answer | Exception, cost: float = 0.0, cached: bool = False):
        self._answers = list(answers)
        self._cost, self._cached = cost, cached
        self.told: list[tuple[Sequence[Message], Mapping[str, Any], dict[str, Any]]] = []

    async def complete(
        self, messages: Sequence[Message], schema: Mapping[str, Any], **options: Any
    ) -> Completion:
        self.told.append((messages, schema, options))
        answer = self._answers[min(len(self.told), len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        handles = [one["handle"] for one in data_of(messages)["candidates"]]
        usage = TokenUsage(input_tokens=100, output_tokens=10)
        value = {"order": answer(handles)}
        return Completion(value=value, usage=usage, cost=self._cost, cached=self._cached)

    def stream(self, messages: Sequence[Message], *, deadline_s: float) -> Any:
        raise NotImplementedError


def data_of(messages: Sequence[Message]) -> dict[str, Any]:
    text = messages[-1].text
    data: dict[str, Any] = json.loads(text.partition("<data>")[2].partition("</data>")[0])
    return data


def ask_of(
    generation: Generation, subject: Any = None, deadline_s: float = 5.0, **options: Any
) -> RerankQuery:
    chosen = RerankOptions(**{"candidate_count": 6, **options})
    funnel, query = generation.funnel, Query(subject=subject or User(id="u1"))
    ranked = funnel.ranked(query, Options(rerank=chosen), Budget(100))
    return replace(funnel.to_rerank(ranked), deadline_s=deadline_s)


def run(model: Any, ask: RerankQuery, **options: Any) -> Reranked:
    return asyncio.run(LlmReranker(model, RerankerOptions(**options)).rerank(ask))


def as_shown(handles: list[str]) -> list[str]:
    return handles


def by_title(model: Model, ask: RerankQuery, call: int = 0) -> list[int]:
    """The rows in the order in which the model was shown their titles."""
    titles = {ask.catalog.attribute("title", row): row for row in ask.rows.tolist()}
    return [titles[one["title"]] for one in data_of(model.told[call][0])["candidates"]]


def test_the_order_of_the_model_comes_back(generation: Generation) -> None:
    ask, model = ask_of(generation), Model(lambda handles: handles[::-1], cost=0.25)
    reranked = run(model, ask)
    assert reranked.rows.tolist() == by_title(model, ask)[::-1]
    assert sorted(reranked.rows.tolist()) == sorted(ask.rows.tolist())
    assert (reranked.model, reranked.prompt) == ("fake/one", rerank_prompt().version)
    assert (reranked.input_token_count, reranked.output_token_count) == (100, 10)
    assert (reranked.price, reranked.pass_count) == (0.25, 1)
    assert (reranked.failure, reranked.violations) == (None, ())


def test_the_model_is_told_the_history_newest_last_and_the_candidates(
    generation: Generation,
) -> None:
    history = (
        Event(item_id="i3", rating=4.5),
        Event(item_id="i4", action="watch\ned\x00"),
        Event(item_id="i5"),
    )
    model = Model(as_shown)
    run(model, ask_of(generation, User(id="u1", history=history)), history_count=2)
    ((messages, _, options),) = model.told
    data = data_of(messages)
    assert [one["title"] for one in data["history"]] == ["Film 4 é", "Film 5 é"]
    assert data["history"][0]["action"] == "watch ed"
    assert "rating" not in data["history"][1]
    first = data["candidates"][0]
    assert set(first) <= {"handle", "title", "attributes"}
    assert set(first["attributes"]) <= {"year", "genres"}
    assert [one["handle"] for one in data["candidates"]] == [f"c0{n}" for n in range(1, 7)]
    usable = options.pop("usable")
    assert options == {"deadline_s": 5.0, "prompt_version": rerank_prompt().version}
    handles = [one["handle"] for one in data["candidates"]]
    assert usable({"order": handles[::-1]})
    assert not usable({"order": handles[:-1]})
    model = Model(as_shown)
    run(model, ask_of(generation, User(id="u1", history=history)))
    assert data_of(model.told[0][0])["history"][0]["rating"] == 4.5


def test_nothing_that_names_the_user_or_an_item_is_told(generation: Generation) -> None:
    ask, model = ask_of(generation, User(id="u1", features={"age": 77.125})), Model(as_shown)
    run(model, ask)
    text = "\n".join(message.text for message in model.told[0][0])
    assert "u1" not in text
    assert "77.125" not in text
    for row in ask.rows.tolist():
        assert f'"{ask.catalog.item_id(row)}"' not in text


def test_items_that_others_are_wanted_like_are_told(generation: Generation) -> None:
    model = Model(as_shown)
    run(model, ask_of(generation, Examples(item_ids=("i1", "i2"))))
    data = data_of(model.told[0][0])
    assert [one["title"] for one in data["like"]] == ["Film 1 é", "Film 2 é"]
    assert data["history"] == []


def test_what_is_searched_for_in_words_is_told(generation: Generation) -> None:
    ask = ask_of(generation, User(id="nobody"))
    wanted = replace(ask.query, text="ship\nhits </data> iceberg" + "!" * 2_000)
    model = Model(as_shown)
    assert len(run(model, replace(ask, query=wanted)).rows)
    data = data_of(model.told[0][0])
    assert data["search"].startswith("ship hits </data> iceberg!")
    assert len(data["search"]) == SEARCH_CHARS_MAX
    assert data["history"] == []


def test_the_order_shown_goes_by_the_seed_and_else_by_the_candidates_alone(
    generation: Generation,
) -> None:
    ask = ask_of(generation)
    mixed = replace(ask, rows=ask.rows[::-1])
    shown = []
    for one in (ask, mixed, ask_of(generation, seed=1), ask_of(generation, seed=2)):
        model = Model(as_shown)
        shown.append((run(model, one).seed, by_title(model, one)))
    (own, first), (same, second), (given, third), (_, fourth) = shown
    assert (own, first == ask.rows.tolist()) == (same, False)
    # The same candidates in another order of ranking: the prompt must not give that away.
    assert sorted(first) == sorted(second)
    assert given == 1
    assert third != fourth


def test_the_same_candidates_are_asked_about_in_the_same_words(generation: Generation) -> None:
    texts = []
    for _ in range(2):
        model = Model(as_shown)
        run(model, ask_of(generation))
        texts.append([message.text for message in model.told[0][0]])
    assert texts[0] == texts[1]


def test_two_passes_show_the_candidates_from_both_ends_and_vote(generation: Generation) -> None:
    ask, model = ask_of(generation, passes=2), Model(as_shown)
    reranked = run(model, ask)
    first, second = by_title(model, ask, 0), by_title(model, ask, 1)
    assert first == second[::-1]
    # A model that likes what stands first likes nothing: the order of ranking stands.
    assert reranked.rows.tolist() == ask.rows.tolist()
    assert (reranked.pass_count, reranked.input_token_count) == (2, 200)


def test_of_two_passes_one_answer_is_enough(generation: Generation) -> None:
    ask, model = ask_of(generation, passes=2), Model(LlmTimeout("late"), as_shown)
    reranked = run(model, ask)
    assert reranked.rows.tolist() == by_title(model, ask, 1)
    assert (reranked.pass_count, reranked.failure) == (1, None)
    assert "1 of 2 passes" in reranked.plan


def test_what_a_subset_leaves_out_stands_behind_in_the_order_of_ranking(
    generation: Generation,
) -> None:
    ask, model = ask_of(generation, subset=True), Model(lambda handles: handles[4:1:-2])
    reranked = run(model, ask)
    shown = by_title(model, ask)
    named = [shown[4], shown[2]]
    rest = [row for row in ask.rows.tolist() if row not in named]
    assert reranked.rows.tolist() == [*named, *rest]
    assert reranked.left_out_count == 4


def test_reasons_come_back_by_row(generation: Generation) -> None:
    def reasoned(handles: list[str]) -> Any:
        return [{"handle": handle, "reason": f"Why {handle}."} for handle in handles]

    ask, model = ask_of(generation, reasons=True), Model(reasoned)
    reranked = run(model, ask)
    assert reranked.reasons == {
        row: f"Why c0{place}." for place, row in enumerate(by_title(model, ask), 1)
    }
    assert "one short sentence" in model.told[0][0][-1].text


@pytest.mark.parametrize(
    ("answer", "violations"),
    [
        (lambda handles: handles[1:], ("missing",)),
        (lambda handles: [*handles[1:], "c99"], ("foreign", "missing")),
        (lambda handles: [*handles, handles[0]], ("duplicate",)),
        (lambda handles: "c01", ("shape",)),
    ],
)
def test_an_answer_of_other_items_is_not_taken(
    generation: Generation, answer: Answer, violations: tuple[str, ...]
) -> None:
    reranked = run(Model(answer), ask_of(generation))
    assert not len(reranked.rows)
    assert reranked.failure is DegradedReason.LLM_INVALID_OUTPUT
    assert reranked.violations == violations
    # It was paid for all the same.
    assert reranked.input_token_count == 100


def test_a_kept_answer_costs_no_tokens(generation: Generation) -> None:
    reranked = run(Model(as_shown, cached=True), ask_of(generation))
    assert (reranked.pass_count, reranked.input_token_count, reranked.price) == (1, 0, 0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LlmTimeout("took 2 s"), DegradedReason.LLM_TIMEOUT),
        (LlmUnavailable("status 500"), DegradedReason.LLM_UNAVAILABLE),
        (LlmBlocked("by the filter"), DegradedReason.LLM_BLOCKED),
        (
            LlmInvalidOutput("cut off", usage=TokenUsage(input_tokens=7, output_tokens=1)),
            DegradedReason.LLM_INVALID_OUTPUT,
        ),
    ],
)
def test_errors_of_the_model_say_why(
    generation: Generation, error: LanguageModelError, reason: DegradedReason
) -> None:
    reranked = run(Model(error), ask_of(generation))
    assert (reranked.failure, reranked.plan) == (reason, str(error))
    assert not len(reranked.rows)
    assert reranked.input_token_count == (7 if error.usage else 0)


def test_a_fault_costs_nobody_his_list(generation: Generation) -> None:
    fault = ZeroDivisionError("a fault")
    reranked = run(Model(fault), ask_of(generation))
    assert (reranked.failure, reranked.cause) == (DegradedReason.FAILED, fault)


def test_the_model_is_not_asked_where_there_is_nothing_to_judge_by(generation: Generation) -> None:
    model = Model(as_shown)
    asks = [
        ask_of(generation, User(id="nobody")),
        ask_of(generation, Vector(values=generation.bundle.item_embeddings[0])),
        replace(ask_of(generation), rows=ask_of(generation).rows[:1]),
    ]
    for ask in asks:
        reranked = run(model, ask)
        assert (reranked.failure, reranked.prompt, len(reranked.rows)) == (None, "", 0)
        assert reranked.plan
    late = run(model, ask_of(generation, deadline_s=0.0))
    assert late.failure is DegradedReason.LLM_BUDGET_EXCEEDED
    assert model.told == []


class Hanging(Model):
    def __init__(self) -> None:
        super().__init__(as_shown)
        self.begun = asyncio.Event()
        self.cancelled = 0

    async def complete(self, *arguments: Any, **options: Any) -> Completion:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError


async def test_a_call_that_is_cancelled_cancels_both_passes(generation: Generation) -> None:
    model = Hanging()
    ask = ask_of(generation, passes=2)
    task = asyncio.create_task(LlmReranker(model, RerankerOptions()).rerank(ask))
    await model.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.cancelled == 2


TEMPLATE = """
title = "genres"
attributes = ["year", "no such"]
system = "Judge by the year, and by nothing else at all."
user = "<data>$data</data>"
whole = "All."
subset = "Some."
reasons = "Why?"
"""


def test_the_bundles_prompt_goes_before_the_packages_and_that_of_the_server_before_both(
    generation: Generation,
) -> None:
    ask, model = replace(ask_of(generation), template=TEMPLATE), Model(as_shown)
    reranked = run(model, ask)
    assert reranked.prompt == rerank_prompt(TEMPLATE).version
    candidates = data_of(model.told[0][0])["candidates"]
    assert {name for one in candidates for name in one.get("attributes", ())} == {"year"}
    assert "title" not in candidates[0]
    own = TEMPLATE.replace("All.", "Every one.")
    assert run(Model(as_shown), ask, template=own).prompt == rerank_prompt(own).version


def test_an_arm_that_the_lift_report_switches_off_is_not_asked(
    generation: Generation, tmp_path: Path
) -> None:
    arm = replace(WORSE, model=Model.identity, prompt=rerank_prompt().version)
    write_report(tmp_path / "lift.json", {arm.name: arm})
    lift = LiftSwitch(LiftOptions(file=tmp_path / "lift.json"))
    ask, model = ask_of(generation), Model(as_shown)
    reranker = LlmReranker(model, RerankerOptions(), lift)
    assert reranker.arms_off_count == 1
    reranked = asyncio.run(reranker.rerank(ask))
    assert reranked.failure is DegradedReason.LLM_SWITCHED_OFF
    assert (
        "NDCG@10 -0.2500 (-0.3750..-0.1250 at 0.95) by 400 requests of 200 users" in reranked.plan
    )
    assert (len(reranked.rows), reranked.prompt, model.told) == (0, "", [])
    # Another prompt is another arm.
    other = LlmReranker(model, RerankerOptions(template=own_template()), lift)
    assert asyncio.run(other.rerank(ask)).failure is None
    assert len(model.told) == 1


def own_template() -> str:
    return packaged("rerank.toml").replace("for one user", "for this user")
