"""The attributes of a catalogue as a model is told of them, and as conditions name them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from shortlist_server.catalog.catalog import ItemTable
from shortlist_server.conversation.state import VALUES_MAX, Comparison, Condition
from shortlist_server.funnel.filter import (
    AllOf,
    AnyOf,
    Contains,
    Filter,
    IsIn,
    NoneOf,
    Range,
    Scalar,
)
from shortlist_server.llm.prompt import TITLE_CHARS_MAX, clean

SAMPLE_MAX = 1_000
"""Items that are looked at to learn what values there are."""
KNOWN_VALUES_MAX = 50
"""A text attribute with more values than these, as a title, has none worth naming."""
INT64_MAX = 2**63 - 1
ORDERED = ("string", "int64", "double")


class ConditionUnfit(ValueError):
    """A condition does not fit the catalogue; the message says why, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """An attribute, and what values items have for it, as far as a sample of them tells."""

    name: str
    type: str
    """`string`, `int64`, ... or, of several values, `string_list`, ..."""
    known: Mapping[str, str] = field(default_factory=dict)
    """Values of a text attribute that has few, most frequent first, by themselves in lower case."""
    low: float | None = None
    high: float | None = None
    """Of a number: the least and the greatest value seen."""

    @property
    def element_type(self) -> str:
        """The type of one value."""
        return self.type.removesuffix("_list")

    @property
    def is_list(self) -> bool:
        """Whether an item has several values."""
        return self.type.endswith("_list")

    def told(self) -> dict[str, Any]:
        """Return what a model is told of it."""
        told: dict[str, Any] = {"name": clean(self.name, TITLE_CHARS_MAX), "type": self.type}
        if self.known:
            told["values"] = [clean(value, TITLE_CHARS_MAX) for value in self.known.values()]
        if self.low is not None:
            told["from"], told["to"] = self.low, self.high
        return told

    def fitted(self, comparison: Comparison, values: Iterable[Any]) -> Condition:
        """Return a condition on this attribute.

        Args:
            comparison: How it is compared.
            values: What with: of its type, or in words.

        Raises:
            ConditionUnfit: a value is not of the type, or it cannot be compared so.
        """
        read = tuple(dict.fromkeys(self._value(value) for value in values))
        bound = comparison in (Comparison.AT_LEAST, Comparison.AT_MOST)
        if bound and (self.is_list or self.type not in ORDERED):
            raise ConditionUnfit(f"{comparison.value} does not fit its type, {self.type}")
        count_max = 1 if bound else VALUES_MAX
        if not 1 <= len(read) <= count_max:
            raise ConditionUnfit(f"expected 1..{count_max} values, got {len(read)}")
        return Condition(attribute=self.name, comparison=comparison, values=read)

    def _value(self, value: Any) -> Scalar:
        kind = self.element_type
        if (
            kind == "string"
            and isinstance(value, str)
            and 0 < len(value.strip()) <= TITLE_CHARS_MAX
        ):
            return self.known.get(value.strip().casefold(), value.strip())
        if kind == "bool":
            if isinstance(value, str):
                value = {"true": True, "false": False}.get(value.strip().casefold())
            if isinstance(value, bool):
                return value
        elif kind in ("int64", "double") and (number := _number(value)) is not None:
            if kind == "double":
                return float(number)
            if number == int(number) and abs(number) <= INT64_MAX:
                return int(number)
        raise ConditionUnfit(f"a value is not of its type, {kind}")

    def filter_of(self, condition: Condition) -> Filter:
        """Return the filter of a condition on this attribute."""
        values = condition.values
        match condition.comparison:
            case Comparison.AT_LEAST:
                return Range(attribute=self.name, low=values[0])
            case Comparison.AT_MOST:
                return Range(attribute=self.name, high=values[0])
        any_of: Filter = IsIn(attribute=self.name, values=values)
        if self.is_list:
            any_of = AnyOf(tuple(Contains(attribute=self.name, value=value) for value in values))
        return any_of if condition.comparison is Comparison.IS else NoneOf((any_of,))


def _number(value: Any) -> int | float | None:
    """Return the finite number that a value is, or says; None for none."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return int(value)
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # A double holds no larger whole numbers, and float() would raise for the largest.
    return value if abs(value) <= 2**1000 else None


Attributes: TypeAlias = Mapping[str, Attribute]
"""By name."""


def attributes_of(catalog: ItemTable) -> Attributes:
    """Return the attributes of a catalogue, with what values a sample of its items has."""
    alive = catalog.alive
    rows = [
        row
        for row in range(0, catalog.row_count, max(1, catalog.row_count // SAMPLE_MAX))
        if alive is None or alive.mask[row]
    ]
    return {
        name: _attribute(catalog, name, kind, rows)
        for name, kind in catalog.attribute_types.items()
    }


def _attribute(catalog: ItemTable, name: str, kind: str, rows: Iterable[int]) -> Attribute:
    cells = [cell for row in rows if (cell := catalog.attribute(name, row)) is not None]
    values: list[Any] = (
        [value for cell in cells for value in cell]  # type: ignore[union-attr]
        if kind.endswith("_list")
        else list(cells)
    )
    element = kind.removesuffix("_list")
    if element == "string":
        counted = Counter(values)
        if len(counted) > KNOWN_VALUES_MAX:
            return Attribute(name=name, type=kind)
        known: dict[str, str] = {}
        for value, _ in counted.most_common():
            known.setdefault(value.casefold(), value)
        return Attribute(name=name, type=kind, known=known)
    if element in ("int64", "double") and values:
        return Attribute(name=name, type=kind, low=min(values), high=max(values))
    return Attribute(name=name, type=kind)


def fitted(
    attributes: Attributes, name: str, comparison: Comparison, values: Iterable[Any]
) -> Condition:
    """Return a condition as it fits the catalogue; see `Attribute.fitted`.

    Raises:
        ConditionUnfit: it does not.
    """
    if (attribute := attributes.get(name)) is None:
        raise ConditionUnfit("the items have no such attribute")
    return attribute.fitted(comparison, values)


def filter_of(attributes: Attributes, conditions: Iterable[Condition]) -> Filter | None:
    """Return the filter of conditions that fit the catalogue; None where there are none."""
    parts = tuple(attributes[one.attribute].filter_of(one) for one in conditions)
    return AllOf(parts) if parts else None
