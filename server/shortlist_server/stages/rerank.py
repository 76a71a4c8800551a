"""Has a language model put the ranked candidates in order. Implements `funnel.stages.Reranker`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shortlist_server.funnel.reranking import Reranked
from shortlist_server.funnel.stages import RerankQuery
from shortlist_server.funnel.types import DegradedReason
from shortlist_server.llm.item_order import ItemOrder, order_schema, read_order, vote
from shortlist_server.llm.language_model import (
    Completion,
    LanguageModel,
    LanguageModelError,
)
from shortlist_server.llm.lift_switch import LiftSwitch, why
from shortlist_server.llm.prompt import RerankPrompt, rerank_prompt
from shortlist_server.stages import told


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerOptions:
    """How a language model is asked."""

    template: str = ""
    """A prompt that goes before the bundle's; empty: the bundle's, else the package's own."""
    history_count: int = 20
    """Most events of the user's history that it is shown: the newest."""


class LlmReranker:
    """Asks a language model for the order of candidates, and takes it only if it is one."""

    def __init__(
        self, model: LanguageModel, options: RerankerOptions, lift: LiftSwitch | None = None
    ) -> None:
        """Take the model that is asked, how, and what switches it off; None where nothing does.

        Raises:
            PromptInvalid: the options' template is none.
        """
        self._model = model
        self._options = options
        self._lift = lift
        rerank_prompt(options.template)

    async def rerank(self, ask: RerankQuery) -> Reranked:
        """Return the candidates in its order, or say why the order that they have stands."""
        if nothing := _nothing_to_ask(ask):
            return Reranked(plan=nothing)
        if ask.deadline_s <= 0:
            return Reranked(
                plan="no time was left to ask", failure=DegradedReason.LLM_BUDGET_EXCEEDED
            )
        try:
            prompt = rerank_prompt(self._options.template or ask.template)
            if self._lift and (arm := self._lift.off(self._model.identity, prompt.version)):
                return Reranked(
                    plan=f"switched off by the lift report: {arm.model}, {arm.prompt}, {why(arm)}",
                    failure=DegradedReason.LLM_SWITCHED_OFF,
                )
            return await self._asked(ask, prompt)
        except Exception as error:
            # A list is not lost to a fault in what only refines it.
            return Reranked(plan="it failed", failure=DegradedReason.FAILED, cause=error)

    @property
    def arms_off_count(self) -> int:
        """Number of models with prompts that are switched off."""
        return 0 if self._lift is None else self._lift.off_count

    async def _asked(self, ask: RerankQuery, prompt: RerankPrompt) -> Reranked:
        ids = [ask.catalog.item_id(row) for row in ask.rows.tolist()]
        seed = told.seed_of(ids) if ask.options.seed is None else ask.options.seed
        shown = self._told(ask, prompt)
        shuffles = _shuffles(len(ids), seed, ask.options.passes)
        # All are awaited, so that none is left behind; a cancelled call cancels each.
        answers = await asyncio.gather(
            *(self._answer(ask, prompt, shown, shuffle) for shuffle in shuffles),
            return_exceptions=True,
        )
        return self._made(ask, prompt, seed, shuffles, answers)

    async def _answer(
        self,
        ask: RerankQuery,
        prompt: RerankPrompt,
        shown: tuple[dict[str, Any], list[dict[str, Any]]],
        shuffle: Sequence[int],
    ) -> tuple[ItemOrder, Completion]:
        """Ask once.

        Args:
            ask: What is asked.
            prompt: How.
            shown: What is known of the user, and each candidate as it is shown.
            shuffle: The order in which they are shown.
        """
        profile, described = shown
        handles = told.handles(len(shuffle))
        candidates = [
            {"handle": handle, **described[place]}
            for handle, place in zip(handles, shuffle, strict=True)
        ]
        options = ask.options

        def order_of(value: Mapping[str, Any]) -> ItemOrder:
            return read_order(value, handles, subset=options.subset, secrets=prompt.sentences)

        completion = await self._model.complete(
            prompt.messages(
                {**profile, "candidates": candidates},
                count=len(handles),
                subset=options.subset,
                reasons=options.reasons,
            ),
            order_schema(reasons=options.reasons),
            deadline_s=ask.deadline_s,
            prompt_version=prompt.version,
            usable=lambda value: order_of(value).positions is not None,
        )
        return order_of(completion.value), completion

    def _told(
        self, ask: RerankQuery, prompt: RerankPrompt
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return what is known of the user, and each candidate as it is shown."""
        count = self._options.history_count
        profile = told.profile(ask.query, ask.catalog, prompt, history_count=count)
        return profile, [told.item(ask.catalog, row, prompt) for row in ask.rows.tolist()]

    def _made(
        self,
        ask: RerankQuery,
        prompt: RerankPrompt,
        seed: int,
        shuffles: Sequence[Sequence[int]],
        answers: Sequence[tuple[ItemOrder, Completion] | BaseException],
    ) -> Reranked:
        """Return what the answers come to."""
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, LanguageModelError):
                raise answer
        given = [answer for answer in answers if not isinstance(answer, BaseException)]
        errors = [answer for answer in answers if isinstance(answer, LanguageModelError)]
        paid = [completion.usage for _, completion in given if not completion.cached]
        paid += [error.usage for error in errors if error.usage is not None]
        violations = sorted({name for order, _ in given for name in order.violations})
        count = len(ask.rows)
        orders: list[list[int]] = []
        reasons: dict[int, str] = {}
        for shuffle, answer in zip(shuffles, answers, strict=True):
            if isinstance(answer, BaseException) or answer[0].positions is None:
                continue
            orders.append([shuffle[position] for position in answer[0].positions])
            for position, reason in answer[0].reasons.items():
                reasons.setdefault(int(ask.rows[shuffle[position]]), reason)
        places, left_out_count = vote(orders, count) if orders else ([], 0)
        failure, problem = _failure(errors, violations)
        passes = f", {len(orders)} of {len(shuffles)} passes" if len(shuffles) > 1 else ""
        return Reranked(
            plan=f"{self._model.identity}, {prompt.version}{passes}" if orders else problem,
            rows=ask.rows[np.array(places, np.int64)],
            failure=None if orders else failure,
            reasons=reasons,
            left_out_count=left_out_count,
            prompt=prompt.version,
            model=self._model.identity,
            seed=seed,
            pass_count=len(orders),
            input_token_count=sum(usage.input_tokens for usage in paid),
            output_token_count=sum(usage.output_tokens for usage in paid),
            price=sum(completion.cost for _, completion in given)
            + sum(error.cost for error in errors),
            violations=tuple(violations),
        )


def _nothing_to_ask(ask: RerankQuery) -> str:
    """Return why there is nothing to ask; empty where there is."""
    if len(ask.rows) < 2:
        return "fewer than two candidates"
    return told.nothing_to_ask(ask.query, ask.catalog)


def _failure(
    errors: Sequence[LanguageModelError], violations: Sequence[str]
) -> tuple[DegradedReason, str]:
    """Return why no answer is taken: the first error, else what was wrong with the answers."""
    if errors:
        return DegradedReason[errors[0].reason], str(errors[0])
    wrong = ", ".join(violations)
    return DegradedReason.LLM_INVALID_OUTPUT, f"its order is not one of the candidates: {wrong}"


def _shuffles(count: int, seed: int, passes: int) -> list[list[int]]:
    """Return the orders in which candidates are shown, as positions by rank: the second is the
    first from behind, so that what stood early stands late.
    """
    first = told.shuffle(count, seed)
    return [first, first[::-1]][:passes]
