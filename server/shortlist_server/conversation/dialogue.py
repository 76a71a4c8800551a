"""A turn from top to bottom: understand, ask the funnel, reply. Read this first.

The language model understands and words; it never chooses an item. Where it fails, the turn is
answered without it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from shortlist_server.catalog.catalog import ItemTable
from shortlist_server.conversation.asked import Turn, asked, by_words, settled, without_words
from shortlist_server.conversation.attributes import Attributes
from shortlist_server.conversation.intent import (
    Action,
    Intent,
    intent_schema,
    plain_intent,
    read_intent,
)
from shortlist_server.conversation.model_run import ModelRun, ModelUse
from shortlist_server.conversation.prompt import converse_prompt
from shortlist_server.conversation.reply import Piece, Reply, plain_reply
from shortlist_server.conversation.state import AnsweredTurn, Conversation
from shortlist_server.conversation.told import Told
from shortlist_server.errors import NotConfigured, TextEmbedderUnavailable
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options, Text
from shortlist_server.funnel.types import Answer, Degradation, Query, StageReport
from shortlist_server.llm.language_model import LanguageModel

AskFunnel: TypeAlias = Callable[[Query, Options], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueOptions:
    """How a language model is asked."""

    template: str = ""
    """The prompt; empty: the package's own."""
    intent_share: float = 0.4
    """Share of the budget by whose end the turn must be understood."""
    reply_share: float = 0.95
    """Share of the budget by whose end the reply must be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """What a turn asks for."""

    intent: Intent


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the funnel answered."""

    answer: Answer
    options: Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of a turn."""

    conversation: Conversation
    reply: str
    by_model: bool
    degraded: tuple[Degradation, ...]
    stages: tuple[StageReport, ...]
    use: ModelUse | None
    """None where there is no model."""


Part: TypeAlias = Understood | Found | Piece | Ended


class Dialogue:
    """Answers turns."""

    def __init__(self, model: LanguageModel | None, options: DialogueOptions) -> None:
        """Take the model, if there is one, and how it is asked.

        Raises:
            PromptInvalid: the template is none.
        """
        self._model = model
        self._options = options
        self._prompt = converse_prompt(options.template)

    async def turn(
        self,
        turn: Turn,
        conversation: Conversation,
        *,
        catalog: ItemTable,
        attributes: Attributes,
        ask_funnel: AskFunnel,
        has_texts: bool,
        budget: Budget,
    ) -> AsyncGenerator[Part, None]:
        """Answer a turn: what was understood, the items, the reply in pieces, the end.

        Args:
            turn: What the caller sent.
            conversation: What came of the turns before.
            catalog: The items.
            attributes: Those of the items.
            ask_funnel: Runs the funnel over the same items. What it raises ends the turn.
            has_texts: Whether it finds items by their texts.
            budget: The caller's time.
        """
        told = Told(self._prompt, catalog, conversation)
        run = ModelRun(self._model, self._prompt, budget)
        intent = settled(await self._intent(run, turn, told, attributes), conversation)
        yield Understood(intent=intent)
        query, options = asked(turn, intent, conversation, catalog, attributes, has_texts=has_texts)
        answer, options = await self._found(run, query, options, ask_funnel)
        yield Found(answer=answer, options=options)
        rows = answer.items.rows.tolist()
        plain = plain_reply(
            self._prompt,
            intent,
            [told.title(row) for row in rows],
            [told.title(row) for row in catalog.rows(intent.subjects).tolist()],
            searched=has_texts,
        )
        reply = Reply(self._prompt.sentences)
        words = self._replied(run, reply, lambda: told.for_reply(turn.text, intent, answer))
        async with aclosing(words) as pieces:
            async for piece in pieces:
                yield piece
        by_model = "reply" not in run.failed
        if not by_model:
            yield Piece(text=plain, replaces=bool(reply.text))
        said = reply.text if by_model else plain
        item_ids = tuple(catalog.item_id(row) for row in rows)
        if intent.action is Action.EXPLAIN:
            # The list that the user has before him is still the one before.
            item_ids = conversation.last_item_ids
        ended = AnsweredTurn(text=turn.text, reply=said, item_ids=item_ids)
        yield Ended(
            conversation=conversation.after(
                ended,
                # Words that nobody understood, as "why?" may be, are no taste to go on with.
                taste=(intent.by_model and intent.taste) or conversation.taste or intent.taste,
                conditions=intent.conditions,
                liked=intent.liked,
                rejected=intent.rejected,
            ),
            reply=said,
            by_model=by_model,
            degraded=tuple(run.degraded),
            stages=tuple(run.stages),
            use=run.use(),
        )

    async def _found(
        self, run: ModelRun, query: Query, options: Options, ask_funnel: AskFunnel
    ) -> tuple[Answer, Options]:
        """Return what the funnel answers, and what it was asked in the end: by words, if it can."""
        if not query.text:
            return await ask_funnel(query, options), options
        try:
            answer = await ask_funnel(query, options)
        except (TextEmbedderUnavailable, NotConfigured) as error:
            # Nothing embeds the words, and nothing is known of the user.
            run.search_failed(error)
        else:
            missed = [one for one in answer.degraded if one.source == Text.kind]
            if not missed:
                if answer.shortfall is None:
                    return answer, options
                # Few items have a text, or few of those fit: others that suit the user fill up.
                options = replace(options, sources=by_words(options.limit, options.limit))
                return await ask_funnel(query, options), options
            run.degraded += missed
        query, options = without_words(query, options)
        return await ask_funnel(query, options), options

    async def _intent(
        self, run: ModelRun, turn: Turn, told: Told, attributes: Attributes
    ) -> Intent:
        """Return what a turn asks for, in the model's reading where there is one."""
        with run.stage("intent"):
            model, deadline_s = run.asked("intent", self._options.intent_share)
            completion = await model.complete(
                self._prompt.messages("intent", told.for_intent(turn.text, attributes)),
                intent_schema(),
                deadline_s=deadline_s,
                prompt_version=self._prompt.version,
            )
            run.spent("intent", completion.usage, completion.cost)
            intent = read_intent(completion.value, told.handles, attributes)
            run.violations |= intent.violations
            return intent
        return plain_intent(turn.text, told.conversation, attributes)

    async def _replied(
        self, run: ModelRun, reply: Reply, data: Callable[[], dict[str, Any]]
    ) -> AsyncGenerator[Piece, None]:
        """Yield the model's reply as it is said."""
        with run.stage("reply"):
            model, deadline_s = run.asked("reply", self._options.reply_share)
            messages = self._prompt.messages("reply", data())
            stream = model.stream(
                messages,
                deadline_s=deadline_s,
                on_cost=lambda usage, cost: run.spent("reply", usage, cost),
            )
            async with aclosing(stream) as parts:  # type: ignore[type-var]
                async for piece in reply.pieces(parts):
                    yield piece
            if reply.too_long:
                run.violations |= {"too_long"}
