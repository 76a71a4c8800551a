"""Conditions on item attributes as people write them: `year>=1990`, `genres:Drama`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from shortlist_client.cli.features import value_from_text
from shortlist_client.errors import InvalidValue
from shortlist_client.filters import Attribute, Filter, Scalar, all_of, attribute
from shortlist_client.results import FieldInfo, ValueType

OPERATORS: Mapping[str, Callable[[Attribute, Scalar], Filter]] = {
    "=": Attribute.equals,
    "!=": lambda attribute, value: ~attribute.equals(value),
    ">": Attribute.above,
    ">=": Attribute.at_least,
    "<": Attribute.below,
    "<=": Attribute.at_most,
    ":": Attribute.contains,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition, its value still a text."""

    attribute: str
    operator: str
    """One of OPERATORS."""
    value: str


def filter_from_conditions(
    conditions: Sequence[Condition], declared: Sequence[FieldInfo], *, flag: str
) -> Filter:
    """Return the filter for items of which all conditions hold.

    Values take the types that the bundle declares, those of a list's elements where it declares a
    list. Values of attributes that it does not declare stay text: the server refuses them by name.

    Args:
        conditions: 1 or more.
        declared: The bundle's item attributes.
        flag: The option that the conditions come from, for errors.

    Raises:
        InvalidValue: A value cannot be read as its type.
    """
    types = {field.name: field.type for field in declared}
    return all_of(*(_filter(condition, types, flag) for condition in conditions))


def _filter(condition: Condition, types: Mapping[str, ValueType], flag: str) -> Filter:
    kind = types.get(condition.attribute, ValueType.STRING)
    element = ValueType(kind.removesuffix("_LIST"))
    try:
        # No list, since the type is that of an element.
        value = cast(Scalar, value_from_text(condition.value, element))
    except (KeyError, ValueError) as error:
        raise InvalidValue.about(
            f"{flag} {condition.attribute}{condition.operator}{condition.value}",
            reason="INVALID_VALUE",
            expected=f"{element.lower()}, as the bundle declares {condition.attribute}",
            got=repr(condition.value),
        ) from error
    return OPERATORS[condition.operator](attribute(condition.attribute), value)
