"""Conditions on item attributes, as values; `index/filters.py` evaluates them over columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
    match filter_:
        case AllOf():
            return _list("all_of", filter_.filters, AllOf)
        case AnyOf():
            return _list("any_of", filter_.filters, AnyOf)
        case NoneOf():
            # None of a, b is the same as none of (any of a, b).
            return f"none_of({','.join(_parts(filter_.filters, AnyOf))})"
        case IsIn():
            values = ",".join(sorted({_literal(value) for value in filter_.values}))
            return f"{_literal(filter_.attribute)} in [{values}]"
        case Range():
            low = "" if filter_.low is None else _literal(filter_.low)
            high = "" if filter_.high is None else _literal(filter_.high)
            opening = "[" if filter_.low_included else "("
            closing = "]" if filter_.high_included else ")"
            return f"{_literal(filter_.attribute)} range {opening}{low},{high}{closing}"
        case Contains():
            return f"{_literal(filter_.attribute)} contains {_literal(filter_.value)}"
        case Exists():
            return f"{_literal(filter_.attribute)} exists"


def _list(name: str, filters: tuple[Filter, ...], kind: type[AllOf | AnyOf]) -> str:
    parts = _parts(filters, kind)
    return parts[0] if len(parts) == 1 else f"{name}({','.join(parts)})"


def _parts(filters: tuple[Filter, ...], kind: type[AllOf | AnyOf]) -> list[str]:
    texts: set[str] = set()
    for part in filters:
        if isinstance(part, kind):
            texts.update(_parts(part.filters, kind))
        else:
            texts.add(canonical(part))
    return sorted(texts)


def _literal(value: Scalar) -> str:
    # A double that is whole is written like the integer it equals, with which it compares as equal.
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return json.dumps(value, ensure_ascii=False)
