"""Conditions on item attributes, as values; `index/filters.py` evaluates them over columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of these match."""

    filters: tuple[Filter, ...]
    """1 or more."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these matches."""

    filters: tuple[Filter, ...]
    """1 or more."""


@dataclass(frozen=True, slots=True)
class NoneOf:
    """None of these matches."""

    filters: tuple[Filter, ...]
    """1 or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IsIn:
    """An attribute has one of these values; equality is one value."""

    attribute: str
    values: tuple[Scalar, ...]
    """1 or more, of one type."""
    field: str = "filter"
    """Where it stands in the request, for errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """An attribute lies between bounds, one or two of which are set."""

    attribute: str
    low: Scalar | None = None
    low_included: bool = True
    high: Scalar | None = None
    high_included: bool = True
    field: str = "filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contains:
    """A multi-valued attribute holds a value."""

    attribute: str
    value: Scalar
    field: str = "filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exists:
    """The item has a value for an attribute."""

    attribute: str
    field: str = "filter"


Condition: TypeAlias = IsIn | Range | Contains | Exists
Filter: TypeAlias = AllOf | AnyOf | NoneOf | Condition


def joined(wanted: Filter | None, unwanted: Filter | None) -> Filter | None:
    """Return the filter that matches what is wanted and not unwanted; None where both are None."""
    if unwanted is None:
        return wanted
    rest = NoneOf((unwanted,))
    return rest if wanted is None else AllOf((wanted, rest))


def canonical(filter_: Filter) -> str:
    """Return one text for all spellings of a filter that differ in order, repetition, nesting or
    superfluous lists: what masks are cached by.
    """
    return _form(filter_).text


@dataclass(frozen=True, slots=True)
class _Form:
    """A filter in canonical form."""

    text: str
    kind: str = ""
    """`all_of` or `any_of`; empty for what no list takes apart."""
    parts: Mapping[str, _Form] = field(default_factory=dict)
    """Of a list: its parts by their text, two or more."""


def _form(filter_: Filter) -> _Form:
    match filter_:
        case AllOf():
            return _list("all_of", filter_.filters)
        case AnyOf():
            return _list("any_of", filter_.filters)
        case NoneOf():
            # None of a, b is the same as none of (any of a, b).
            any_ = _list("any_of", filter_.filters)
            parts = sorted(any_.parts) if any_.kind == "any_of" else [any_.text]
            return _Form(f"none_of({','.join(parts)})")
    return _Form(_condition(filter_))


def _list(kind: str, filters: tuple[Filter, ...]) -> _Form:
    parts: dict[str, _Form] = {}
    for form in map(_form, filters):
        parts.update(form.parts if form.kind == kind else {form.text: form})
    if len(parts) == 1:
        return next(iter(parts.values()))
    return _Form(f"{kind}({','.join(sorted(parts))})", kind, parts)


def _condition(condition: Condition) -> str:
    name = _literal(condition.attribute)
    match condition:
        case IsIn():
            values = ",".join(sorted({_literal(value) for value in condition.values}))
            return f"{name} in [{values}]"
        case Range():
            low = "" if condition.low is None else _literal(condition.low)
            high = "" if condition.high is None else _literal(condition.high)
            opening = "[" if condition.low_included else "("
            closing = "]" if condition.high_included else ")"
            return f"{name} range {opening}{low},{high}{closing}"
        case Contains():
            return f"{name} contains {_literal(condition.value)}"
        case Exists():
            return f"{name} exists"


def _literal(value: Scalar) -> str:
    # A double that is whole is written like the integer it equals, with which it compares as equal.
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return json.dumps(value, ensure_ascii=False)
