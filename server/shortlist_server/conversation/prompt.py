"""How a model is asked in a conversation, and what is said without it: a template, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from string import Template
from typing import Any

from shortlist_server.llm.language_model import Message
from shortlist_server.llm.prompt import (
    data_block,
    packaged,
    read_template,
    telling_sentences,
    version_of,
)

TEXTS = (
    *("title", "intent", "reply", "user"),
    *("plain_recommend", "plain_swap", "plain_explain", "plain_nothing"),
    *("why_conditions", "why_taste", "why_others"),
)


@dataclass(frozen=True, kw_only=True)
class ConversePrompt:
    """A template; see `llm/prompts/converse.toml`."""

    version: str
    """`converse@` and the first 12 digits of the SHA-256 of the template."""
    title: str
    attributes: tuple[str, ...] | None
    texts: Mapping[str, str]

    def messages(self, use: str, data: Mapping[str, Any]) -> tuple[Message, ...]:
        """Return what a model is told for `intent` or `reply`; texts in the data as `clean` gives
        them.
        """
        filled = Template(self.texts["user"]).safe_substitute(data=data_block(data))
        return (
            Message(role="system", text=self.texts[use]),
            Message(role="user", text=filled),
        )

    def plain(self, name: str, **values: str) -> str:
        """Return a text that is said without a model."""
        return Template(self.texts[name]).safe_substitute(values)

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """The sentences of the prompt that nobody says by chance, in lower case."""
        return telling_sentences(f"{self.texts['intent']} {self.texts['reply']}")


@lru_cache(maxsize=16)
def converse_prompt(text: str = "") -> ConversePrompt:
    """Read a template; the package's own where the text is empty.

    Raises:
        PromptInvalid: it is not one; the message says what is wrong, not where it is from.
    """
    text = text or packaged("converse.toml")
    fields = read_template(text, TEXTS)
    return ConversePrompt(
        version=version_of("converse", text),
        title=fields["title"].strip(),
        attributes=fields["attributes"],
        texts={name: fields[name].strip() for name in TEXTS},
    )
