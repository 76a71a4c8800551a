"""What a model is told of a conversation: data, each text one clean line of bounded length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shortlist_server.catalog.catalog import ItemTable
from shortlist_server.conversation.attributes import Attributes
from shortlist_server.conversation.intent import Action, Intent
from shortlist_server.conversation.prompt import ConversePrompt
from shortlist_server.conversation.reply import told as condition_told
from shortlist_server.conversation.state import (
    TASTE_CHARS_MAX,
    TEXT_BYTES_MAX,
    AnsweredTurn,
    Conversation,
)
from shortlist_server.funnel.types import Answer
from shortlist_server.llm.prompt import TITLE_CHARS_MAX, clean, described

TURNS_TOLD = 6
REPLY_CHARS_TOLD = 300
ITEMS_TOLD = 10
"""Most items of those that the user likes or does not want."""


class Told:
    """What is told in one turn. Items have handles, which say nothing of their ids."""

    def __init__(
        self, prompt: ConversePrompt, catalog: ItemTable, conversation: Conversation
    ) -> None:
        """Give each item of the last turns, that is still there, a handle."""
        self._prompt = prompt
        self._catalog = catalog
        self.conversation = conversation
        self._turns = conversation.turns[-TURNS_TOLD:]
        shown = dict.fromkeys(item for turn in self._turns for item in turn.item_ids)
        there = [item for item in shown if catalog.row(item) is not None]
        self.handles: Mapping[str, str] = {
            f"i{number:02d}": item for number, item in enumerate(there, 1)
        }
        """Ids by handle."""
        self._handle_of = {item: handle for handle, item in self.handles.items()}

    def title(self, row: int) -> str:
        """Return what an item is called: its title, else its id."""
        title = described(self._catalog, row, title=self._prompt.title, attributes=())
        return str(title.get("title") or clean(self._catalog.item_id(row), TITLE_CHARS_MAX))

    def for_intent(self, text: str, attributes: Attributes) -> dict[str, Any]:
        """Return what a model needs to understand a turn."""
        conversation = self.conversation
        return {
            "attributes": [attribute.told() for attribute in attributes.values()],
            "taste": clean(conversation.taste, TASTE_CHARS_MAX),
            "conditions": [
                condition_told(one)
                for one in conversation.conditions
                if one.attribute in attributes
            ],
            "liked": self._titles(conversation.liked),
            "rejected": self._titles(conversation.rejected),
            "turns": [self._turn(turn, whole=turn is self._turns[-1]) for turn in self._turns],
            "text": clean(text, TEXT_BYTES_MAX),
        }

    def for_reply(self, text: str, intent: Intent, answer: Answer) -> dict[str, Any]:
        """Return what a model needs to word the reply: of the items, those of the answer alone."""
        items = []
        for place, row in enumerate(answer.items.rows.tolist()):
            item = self._item(row)
            if intent.action is Action.EXPLAIN:
                item["predicted"] = {
                    name: round(float(values[place]), 2)
                    for name, values in answer.items.outputs.items()
                }
            items.append(item)
        subjects = self._titles(intent.subjects) if intent.action is Action.SWAP else []
        return {
            "turns": [
                {
                    "text": clean(turn.text, TEXT_BYTES_MAX),
                    "reply": clean(turn.reply, REPLY_CHARS_TOLD),
                }
                for turn in self._turns[-2:]
            ],
            "action": intent.action.value,
            "replaced": subjects,
            "taste": intent.taste,
            "conditions": [condition_told(one) for one in intent.conditions],
            "without_effect": [one.attribute for one in intent.dropped],
            "items": items,
            "text": clean(text, TEXT_BYTES_MAX),
        }

    def _turn(self, turn: AnsweredTurn, *, whole: bool) -> dict[str, Any]:
        """Return a turn; of its items the titles, and for the last one, all that is shown."""
        items = []
        for item in turn.item_ids:
            row = self._catalog.row(item)
            if row is not None:
                shown = self._item(row) if whole else {"title": self.title(row)}
                items.append({"handle": self._handle_of[item], **shown})
        return {
            "text": clean(turn.text, TEXT_BYTES_MAX),
            "reply": clean(turn.reply, REPLY_CHARS_TOLD),
            "items": items,
        }

    def _item(self, row: int) -> dict[str, Any]:
        shown = described(
            self._catalog, row, title=self._prompt.title, attributes=self._prompt.attributes
        )
        return {"title": self.title(row), **shown}

    def _titles(self, item_ids: tuple[str, ...]) -> list[str]:
        rows = self._catalog.rows(item_ids[-ITEMS_TOLD:]).tolist()
        return [self.title(row) for row in rows]
