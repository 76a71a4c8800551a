"""The reply: a language model's words as far as they are fit to be said, else a plain one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shortlist_server.conversation.intent import Action, Intent
from shortlist_server.conversation.prompt import ConversePrompt
from shortlist_server.conversation.state import REPLY_CHARS_MAX, Comparison, Condition
from shortlist_server.llm.item_order import unfit
from shortlist_server.llm.language_model import LlmInvalidOutput
from shortlist_server.llm.prompt import clean

SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|\n+")
UNENDED_CHARS_MAX = 300
"""A sentence is said when it has ended; one longer than this, when it is as long."""
SIGNS = {
    Comparison.IS: ":",
    Comparison.IS_NOT: " ≠",
    Comparison.AT_LEAST: " ≥",
    Comparison.AT_MOST: " ≤",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of a reply."""

    text: str
    replaces: bool = False
    """Whether it takes the place of all before it."""


class ReplyUnfit(LlmInvalidOutput):
    """A model said what is not to be said.

    Attributes:
        violation: What: `link`, `prompt_shown`.
    """

    def __init__(self, violation: str) -> None:
        super().__init__(f"the reply is not fit to be said: {violation}")
        self.violation = violation


class Reply:
    """A model's reply, sentence by sentence: each is looked at before it is said."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """Begin with nothing said; `secrets` are texts, in lower case, that it may not repeat."""
        self._secrets = secrets
        self.text = ""
        """What was said so far."""
        self.too_long = False
        """Whether it was cut off since it went on and on."""

    async def pieces(self, stream: AsyncIterator[str]) -> AsyncIterator[Piece]:
        """Yield what is to be said of a stream.

        Raises:
            LanguageModelError: the stream broke off, said nothing, or what is not to be said.
        """
        waiting = ""
        async for part in stream:
            waiting += part
            *ended, waiting = SENTENCE_END.split(waiting)
            if len(waiting) > UNENDED_CHARS_MAX:
                ended.append(waiting)
                waiting = ""
            for piece in self._said(ended):
                yield piece
            if self.too_long:
                return
        for piece in self._said([waiting]):
            yield piece
        if not self.text:
            raise LlmInvalidOutput("expected a reply, got none")

    def _said(self, sentences: Sequence[str]) -> Iterator[Piece]:
        for sentence in sentences:
            said = clean(sentence, REPLY_CHARS_MAX)
            if not said:
                continue
            piece = f" {said}" if self.text else said
            if len(self.text) + len(piece) > REPLY_CHARS_MAX:
                self.too_long = True
                return
            # With what stands before: a sentence of the prompt may be in two of these.
            if violation := unfit(self.text + piece, self._secrets):
                raise ReplyUnfit(violation)
            self.text += piece
            yield Piece(text=piece)


def plain_reply(
    prompt: ConversePrompt,
    intent: Intent,
    titles: Sequence[str],
    subject_titles: Sequence[str],
    *,
    searched: bool,
) -> str:
    """Return what is said without a model.

    Args:
        prompt: Holds the texts.
        intent: What the turn asked for.
        titles: Those of the items that are shown.
        subject_titles: Those of the items that the turn is about.
        searched: Whether items are found by the taste in words.
    """
    if not titles:
        return prompt.plain("plain_nothing")
    items, subjects = ", ".join(titles), ", ".join(subject_titles)
    match intent.action:
        case Action.SWAP:
            text = prompt.plain("plain_swap", items=items, subjects=subjects)
        case Action.EXPLAIN:
            text = prompt.plain(
                "plain_explain", items=items, why=_why(prompt, intent, searched=searched)
            )
        case Action.RECOMMEND:
            text = prompt.plain("plain_recommend", items=items)
    return clean(text, REPLY_CHARS_MAX)


def _why(prompt: ConversePrompt, intent: Intent, *, searched: bool) -> str:
    if not intent.conditions:
        return prompt.plain("why_taste" if searched and intent.taste else "why_others")
    conditions = "; ".join(map(in_signs, intent.conditions))
    return prompt.plain("why_conditions", conditions=conditions)


def in_signs(condition: Condition) -> str:
    """Return a condition for people, in no language: `year ≤ 1990`."""
    values = ", ".join(str(value) for value in condition.values)
    return f"{condition.attribute}{SIGNS[condition.comparison]} {values}"


def told(condition: Condition) -> dict[str, Any]:
    """Return a condition as a model is told of it, and as it would say it itself."""
    return {
        "attribute": condition.attribute,
        "comparison": condition.comparison.value,
        "values": [
            str(value).lower() if isinstance(value, bool) else clean(str(value), 200)
            for value in condition.values
        ],
    }
