"""Prompts as data: templates with versions, and item and user text made fit to be put in."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from string import Template
from typing import Any

from shortlist_server.funnel.stages import Catalog
from shortlist_server.llm.language_model import Message

TEXTS = ("system", "user", "whole", "subset", "reasons")
TEMPLATE_BYTES_MAX = 64 << 10
ATTRIBUTES_MAX = 8
"""Attributes of an item that are shown where the template names none."""
TITLE_CHARS_MAX = 200
TEXT_CHARS_MAX = 300
SEARCH_CHARS_MAX = 1_000
LIST_ENTRIES_MAX = 10
LEAK_CHARS_MIN = 24
"""Shorter sentences of a prompt may be said by chance."""


class PromptInvalid(ValueError):
    """A template is none. Who knows where it is from says so in an error of his own."""


@dataclass(frozen=True, kw_only=True)
class RerankPrompt:
    """How a language model is asked to put items in order."""

    version: str
    """`rerank@` and the first 12 digits of the SHA-256 of the template."""
    title: str
    """The item attribute that is an item's title."""
    attributes: tuple[str, ...] | None
    """Other item attributes that are shown, in order; None: the first of those that there are."""
    system: str
    user: str
    whole: str
    subset: str
    reasons: str

    def messages(
        self, data: Mapping[str, Any], *, count: int, subset: bool, reasons: bool
    ) -> tuple[Message, ...]:
        """Return what a model is told.

        Args:
            data: What it is to judge by; texts in it as `clean` gives them.
            count: Number of candidates.
            subset: Whether it may leave some out.
            reasons: Whether it is to say why.
        """
        parts = [self.user, self.subset if subset else self.whole]
        if reasons:
            parts.append(self.reasons)
        text = "\n".join(part.strip() for part in parts)
        filled = Template(text).safe_substitute(data=data_block(data), count=count)
        return (Message(role="system", text=self.system), Message(role="user", text=filled))

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """The sentences of the prompt that nobody says by chance, in lower case."""
        return telling_sentences(f"{self.system} {self.whole} {self.subset} {self.reasons}")


@dataclass(frozen=True, kw_only=True)
class RatingPrompt:
    """How a language model is asked to predict ratings."""

    version: str
    """`rating@` and the first 12 digits of the SHA-256 of the template."""
    title: str
    """The item attribute that is an item's title."""
    attributes: tuple[str, ...] | None
    """Other item attributes that are shown, in order; None: the first of those that there are."""
    system: str
    user: str

    def messages(self, data: Mapping[str, Any], *, count: int) -> tuple[Message, ...]:
        """Return what a model is told.

        Args:
            data: What it is to judge by; texts in it as `clean` gives them.
            count: Number of items.
        """
        filled = Template(self.user).safe_substitute(data=data_block(data), count=count)
        return (Message(role="system", text=self.system), Message(role="user", text=filled))


@lru_cache(maxsize=16)
def rating_prompt(text: str = "") -> RatingPrompt:
    """Read a template; the package's own where the text is empty.

    Raises:
        PromptInvalid: it is not one; the message says what is wrong, not where it is from.
    """
    text = text or packaged("rating.toml")
    fields = read_template(text, ("system", "user", "title"))
    return RatingPrompt(
        version=version_of("rating", text),
        title=fields["title"],
        attributes=fields["attributes"],
        system=fields["system"].strip(),
        user=fields["user"].strip(),
    )


@lru_cache(maxsize=16)
def rerank_prompt(text: str = "") -> RerankPrompt:
    """Read a template; the package's own where the text is empty.

    Raises:
        PromptInvalid: it is not one; the message says what is wrong, not where it is from.
    """
    text = text or packaged("rerank.toml")
    fields = read_template(text, (*TEXTS, "title"))
    return RerankPrompt(
        version=version_of("rerank", text),
        title=fields["title"],
        attributes=fields["attributes"],
        **{name: fields[name].strip() for name in TEXTS},
    )


def read_template(text: str, names: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a template: these, each a text, and `attributes`, names or None.

    Raises:
        PromptInvalid: it is not one; the message says what is wrong, not where it is from.
    """
    if (size := len(text.encode())) > TEMPLATE_BYTES_MAX:
        raise PromptInvalid(f"expected at most {TEMPLATE_BYTES_MAX} bytes, got {size}")
    try:
        fields = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PromptInvalid(f"expected TOML: {error}") from error
    if unknown := sorted(set(fields) - {*names, "attributes"}):
        expected = ", ".join((*names, "attributes"))
        raise PromptInvalid(f"expected the fields {expected}, got {unknown[0]!r}")
    for name in names:
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise PromptInvalid(f"{name}: expected a text, got {fields.get(name)!r:.40}")
    attributes = fields.get("attributes")
    if attributes is not None and not (
        isinstance(attributes, list) and all(isinstance(name, str) for name in attributes)
    ):
        raise PromptInvalid(f"attributes: expected a list of names, got {attributes!r:.40}")
    if "$data" not in fields["user"] and "${data}" not in fields["user"]:
        raise PromptInvalid("user: expected $data where the items go, got none")
    return {**fields, "attributes": None if attributes is None else tuple(attributes)}


def version_of(name: str, text: str) -> str:
    """Return the version of a template: its name, and the first 12 digits of its SHA-256."""
    return f"{name}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def packaged(name: str) -> str:
    """Return the text of a template that comes with the package."""
    return (resources.files(__package__) / "prompts" / name).read_text(encoding="utf-8")


def data_block(data: Mapping[str, Any]) -> str:
    """Return data as JSON without the marks that delimit it: the block ends where it ends."""
    block = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return block.replace("<", "\\u003c").replace(">", "\\u003e")


def telling_sentences(text: str) -> tuple[str, ...]:
    """Return the sentences of a prompt that nobody says by chance, in lower case."""
    parts = (part.strip().casefold() for part in re.split(r"[.!?:;]", " ".join(text.split())))
    return tuple(part for part in parts if len(part) >= LEAK_CHARS_MIN)


def clean(text: str, chars_max: int) -> str:
    """Return a text as one line without control, format and private characters, cut to a length."""
    # Four times as much is looked at as is kept: a text of a megabyte costs no more than a page.
    text = text[: 4 * chars_max]
    if not text.isprintable():
        text = "".join(map(_printable, text))
    text = " ".join(text.split())
    return text if len(text) <= chars_max else text[: chars_max - 1].rstrip() + "…"


def _printable(char: str) -> str:
    if char.isprintable():
        return char
    return "" if unicodedata.category(char) == "Cf" else " "


def shown_value(value: Any) -> Any:
    """Return the value of an attribute as a prompt shows it: numbers as they are, texts clean and
    cut, lists of at most ten entries.
    """
    if isinstance(value, str):
        return clean(value, TEXT_CHARS_MAX)
    if isinstance(value, Sequence):
        return [shown_value(entry) for entry in value[:LIST_ENTRIES_MAX]]
    return round(value, 4) if isinstance(value, float) else value


def described(
    catalog: Catalog, row: int, *, title: str, attributes: Sequence[str] | None
) -> dict[str, Any]:
    """Return an item as a model is shown it: what it is called, and the chosen attributes.

    Args:
        catalog: The items.
        row: Row of the item.
        title: The attribute that is its title.
        attributes: Other attributes, in order; None: the first of those that there are.
    """
    names = catalog.attribute_names
    shown: dict[str, Any] = {}
    if title in names and isinstance(called := catalog.attribute(title, row), str):
        shown["title"] = clean(called, TITLE_CHARS_MAX)
    if attributes is None:
        attributes = [name for name in names if name != title][:ATTRIBUTES_MAX]
    values = {
        clean(name, TEXT_CHARS_MAX): shown_value(value)
        for name in attributes
        if name in names and (value := catalog.attribute(name, row)) is not None
    }
    return {**shown, "attributes": values} if values else shown
