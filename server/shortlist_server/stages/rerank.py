"""Has a language model put the ranked candidates in order. Implements `funnel.stages.Reranker`."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shortlist_server.funnel.reranking import Reranked
from shortlist_server.funnel.stages import Catalog, RerankQuery
from shortlist_server.funnel.types import DegradedReason
from shortlist_server.llm.item_order import ItemOrder, order_schema, read_order, vote
from shortlist_server.llm.language_model import (
    Completion,
    LanguageModel,
    LanguageModelError,
)
from shortlist_server.llm.prompt import (
    SEARCH_CHARS_MAX,
    TEXT_CHARS_MAX,
    RerankPrompt,
    clean,
    described,
    rerank_prompt,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankerOptions:
    """How a language model is asked."""

    template: str = ""
    """A prompt that goes before the bundle's; empty: the bundle's, else the package's own."""
    history_count: int = 20
    """Most events of the user's history that it is shown: the newest."""


class LlmReranker:
    """Asks a language model for the order of candidates, and takes it only if it is one."""

    def __init__(self, model: LanguageModel, options: RerankerOptions) -> None:
        """Take the model that is asked, and how.

        Raises:
            PromptInvalid: the options' template is none.
        """
        self._model = model
        self._options = options
        rerank_prompt(options.template)

    async def rerank(self, ask: RerankQuery) -> Reranked:
        """Return the candidates in its order, or say why the order that they have stands."""
        if why := _nothing_to_ask(ask):
            return Reranked(plan=why)
        if ask.deadline_s <= 0:
            return Reranked(
                plan="no time was left to ask", failure=DegradedReason.LLM_BUDGET_EXCEEDED
            )
        try:
            return await self._asked(ask)
        except Exception as error:
            # A list is not lost to a fault in what only refines it.
            return Reranked(plan="it failed", failure=DegradedReason.FAILED, cause=error)

    async def _asked(self, ask: RerankQuery) -> Reranked:
        prompt = rerank_prompt(self._options.template or ask.template)
        ids = [ask.catalog.item_id(row) for row in ask.rows.tolist()]
        seed = _seed_of(ids) if ask.options.seed is None else ask.options.seed
        told = self._told(ask, prompt)
        shuffles = _shuffles(len(ids), seed, ask.options.passes)
        # All are awaited, so that none is left behind; a cancelled call cancels each.
        answers = await asyncio.gather(
            *(self._answer(ask, prompt, told, shuffle) for shuffle in shuffles),
            return_exceptions=True,
        )
        return self._made(ask, prompt, seed, shuffles, answers)

    async def _answer(
        self,
        ask: RerankQuery,
        prompt: RerankPrompt,
        told: tuple[dict[str, Any], list[dict[str, Any]]],
        shuffle: Sequence[int],
    ) -> tuple[ItemOrder, Completion]:
        """Ask once.

        Args:
            ask: What is asked.
            prompt: How.
            told: What is known of the user, and each candidate as it is shown.
            shuffle: The order in which they are shown.
        """
        profile, described = told
        handles = _handles(len(shuffle))
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
        query, catalog = ask.query, ask.catalog
        history: list[dict[str, Any]] = []
        first = max(0, len(query.history_rows) - self._options.history_count)
        for position in range(first, len(query.history_rows)):
            entry = _described(catalog, int(query.history_rows[position]), prompt)
            if query.history:
                event = query.history[position]
                if event.rating is not None:
                    entry["rating"] = round(event.rating, 2)
                if event.action:
                    entry["action"] = clean(event.action, TEXT_CHARS_MAX)
            history.append(entry)
        profile: dict[str, Any] = {"history": history}
        examples = query.example_rows[: self._options.history_count].tolist()
        if examples:
            profile["like"] = [_described(catalog, row, prompt) for row in examples]
        if query.text:
            profile["search"] = clean(query.text, SEARCH_CHARS_MAX)
        return profile, [_described(catalog, row, prompt) for row in ask.rows.tolist()]

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
        failure, why = _failure(errors, violations)
        passes = f", {len(orders)} of {len(shuffles)} passes" if len(shuffles) > 1 else ""
        return Reranked(
            plan=f"{self._model.identity}, {prompt.version}{passes}" if orders else why,
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
    query = ask.query
    if not len(query.history_rows) and not len(query.example_rows) and not query.text:
        return "nothing is known of the user that it could judge by"
    if not ask.catalog.attribute_names:
        return "the items have no attributes that it could read"
    return ""


def _failure(
    errors: Sequence[LanguageModelError], violations: Sequence[str]
) -> tuple[DegradedReason, str]:
    """Return why no answer is taken: the first error, else what was wrong with the answers."""
    if errors:
        return DegradedReason[errors[0].reason], str(errors[0])
    wrong = ", ".join(violations)
    return DegradedReason.LLM_INVALID_OUTPUT, f"its order is not one of the candidates: {wrong}"


def _described(catalog: Catalog, row: int, prompt: RerankPrompt) -> dict[str, Any]:
    return described(catalog, row, title=prompt.title, attributes=prompt.attributes)


def _handles(count: int) -> list[str]:
    width = max(2, len(str(count)))
    return [f"c{number:0{width}d}" for number in range(1, count + 1)]


def _seed_of(item_ids: Sequence[str]) -> int:
    """Return a seed that depends on which items there are, not on their order: what is asked again
    is then the same to the letter, and a kept answer is found.
    """
    text = "\0".join(sorted(item_ids))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _shuffles(count: int, seed: int, passes: int) -> list[list[int]]:
    """Return the orders in which candidates are shown, as positions by rank: the second is the
    first from behind, so that what stood early stands late.
    """
    first = list(range(count))
    random.Random(seed).shuffle(first)
    return [first, first[::-1]][:passes]
