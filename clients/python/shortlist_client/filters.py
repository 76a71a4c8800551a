"""Which items may be in an answer: conditions on their attributes, joined by `&`, `|` and `~`.

    nineties = attribute("year").between(1990, 1999)
    drama = attribute("genres").contains("Drama")
    client.recommend(user="42", filter=nineties & drama & ~attribute("title").equals("Heat"))

An item without a value for an attribute fulfils no condition on it, and so is matched where the
condition stands under `~`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeAlias

Scalar: TypeAlias = str | int | float | bool
Bound: TypeAlias = Literal["at_least", "above", "at_most", "below"]


def attribute(name: str) -> Attribute:
    """Return an item attribute of the bundle, to make a condition of."""
    return Attribute(name)


def all_of(*filters: Filter) -> Filter:
    """Return a filter for the items that all of these match, 1 or more: `&` for many."""
    return _joined(AllOf, filters)


def any_of(*filters: Filter) -> Filter:
    """Return a filter for the items that at least one of these matches, 1 or more: `|` for many."""
    return _joined(AnyOf, filters)


def none_of(*filters: Filter) -> Filter:
    """Return a filter for the items that none of these matches, 1 or more."""
    return ~any_of(*filters)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An item attribute. Its methods are the conditions that can be put on it.

    Values are of the attribute's type; an int will do for a double. What the bundle does not
    declare, and values of another type, are for the server to refuse: UnknownAttribute,
    AttributeTypeMismatch.
    """

    name: str

    def equals(self, value: Scalar) -> Filter:
        """Match items with this value: of a string, int64, double or bool attribute."""
        return Equals(self.name, value)

    def is_in(self, values: Collection[Scalar]) -> Filter:
        """Match items with one of these values of one type, 1..10,000."""
        return IsIn(self.name, values if isinstance(values, str | bytes) else tuple(values))

    def between(self, least: Scalar, greatest: Scalar) -> Filter:
        """Match items with a value in this range, both ends included."""
        return Range(self.name, (("at_least", least), ("at_most", greatest)))

    def at_least(self, value: Scalar) -> Filter:
        """Match items with this value or a larger one. Texts are compared by code points."""
        return Range(self.name, (("at_least", value),))

    def above(self, value: Scalar) -> Filter:
        """Match items with a larger value."""
        return Range(self.name, (("above", value),))

    def at_most(self, value: Scalar) -> Filter:
        """Match items with this value or a smaller one."""
        return Range(self.name, (("at_most", value),))

    def below(self, value: Scalar) -> Filter:
        """Match items with a smaller value."""
        return Range(self.name, (("below", value),))

    def contains(self, value: Scalar) -> Filter:
        """Match items whose list holds this value: of a multi-valued attribute."""
        return Contains(self.name, value)

    def exists(self) -> Filter:
        """Match items that have a value. An empty list is one."""
        return Exists(self.name)

    def __repr__(self) -> str:
        return f"attribute({self.name!r})"

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} is no condition yet: add .equals(...), .at_least(...), ...")


class Filter:
    """Conditions on the attributes of items: made by `attribute(...)`, joined by `&`, `|`, `~`.

    Equal filters compare and hash as equal; their repr is the Python that makes them.
    """

    __slots__ = ()

    def __and__(self, other: Filter) -> Filter:
        return all_of(self, other) if isinstance(other, Filter) else NotImplemented

    def __or__(self, other: Filter) -> Filter:
        return any_of(self, other) if isinstance(other, Filter) else NotImplemented

    def __invert__(self) -> Filter:
        match self:
            case NoneOf(filters):
                return any_of(*filters)
            case AnyOf(filters):
                return NoneOf(filters)
        return NoneOf((self,))

    def __bool__(self) -> NoReturn:
        # `a and b` would quietly be b, and `not a` False.
        raise TypeError("a filter is neither true nor false: join filters by & | ~, not and or not")


@dataclass(frozen=True, slots=True, repr=False)
class AllOf(Filter):
    """All of these match."""

    filters: tuple[Filter, ...]

    def __repr__(self) -> str:
        return " & ".join(map(_inner, self.filters)) or "all_of()"


@dataclass(frozen=True, slots=True, repr=False)
class AnyOf(Filter):
    """At least one of these matches."""

    filters: tuple[Filter, ...]

    def __repr__(self) -> str:
        return " | ".join(map(_inner, self.filters)) or "any_of()"


@dataclass(frozen=True, slots=True, repr=False)
class NoneOf(Filter):
    """None of these matches."""

    filters: tuple[Filter, ...]

    def __repr__(self) -> str:
        if len(self.filters) == 1:
            return f"~{_inner(self.filters[0])}"
        return f"~({AnyOf(self.filters)!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Equals(Filter):
    """An attribute has this value."""

    attribute: str
    value: Scalar

    def __repr__(self) -> str:
        return f"attribute({self.attribute!r}).equals({self.value!r})"


@dataclass(frozen=True, slots=True, repr=False)
class IsIn(Filter):
    """An attribute has one of these values."""

    attribute: str
    values: tuple[Scalar, ...] | str | bytes
    """A string is refused when it is sent: its letters are hardly what is meant."""

    def __repr__(self) -> str:
        values = list(self.values) if isinstance(self.values, tuple) else self.values
        return f"attribute({self.attribute!r}).is_in({values!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Range(Filter):
    """An attribute lies between bounds."""

    attribute: str
    bounds: tuple[tuple[Bound, Scalar], ...]
    """One, or `at_least` and `at_most`. Not fields of their own: a bound that is None by mistake
    must be refused, not taken for one that is absent."""

    def __repr__(self) -> str:
        if len(self.bounds) == 1:
            ((name, value),) = self.bounds
            return f"attribute({self.attribute!r}).{name}({value!r})"
        least, greatest = (value for _, value in self.bounds)
        return f"attribute({self.attribute!r}).between({least!r}, {greatest!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Contains(Filter):
    """A multi-valued attribute holds this value."""

    attribute: str
    value: Scalar

    def __repr__(self) -> str:
        return f"attribute({self.attribute!r}).contains({self.value!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Exists(Filter):
    """The item has a value for an attribute."""

    attribute: str

    def __repr__(self) -> str:
        return f"attribute({self.attribute!r}).exists()"


def _joined(kind: type[AllOf | AnyOf], filters: Iterable[Filter]) -> Filter:
    # Flat, since a chain of many `&` would otherwise be deeper than the server admits.
    parts: list[Filter] = []
    for part in filters:
        if isinstance(part, AllOf | AnyOf) and isinstance(part, kind):
            parts.extend(part.filters)
        else:
            parts.append(part)
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


def _inner(part: Filter) -> str:
    return f"({part!r})" if isinstance(part, AllOf | AnyOf) else repr(part)
