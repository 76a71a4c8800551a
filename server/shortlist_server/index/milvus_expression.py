"""Filters as expressions of Milvus, over the fields that attributes are stored in.

Texts are stored as their numbers in the sorted vocabulary of their column (`AttributeColumn`): a
comparison of integers, with nothing to quote, and the order of texts is that of their numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from shortlist_server.funnel.filter import (
    AllOf,
    AnyOf,
    Contains,
    Exists,
    Filter,
    IsIn,
    NoneOf,
    Range,
    Scalar,
)
from shortlist_server.index.filters import AttributeColumn

ROW = "row"
"""The field of the row that an item has in the bundle: the primary key."""
NOTHING = f"{ROW} < 0"
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def field_names(attributes: Iterable[str]) -> dict[str, str]:
    """Return the field that each attribute is stored in, by name of the attribute.

    Args:
        attributes: In the bundle's order. Any texts, of which a field's name is to remind.
    """
    return {
        name: f"a{position}_{re.sub('[^A-Za-z0-9]+', '_', name)[:64]}"
        for position, name in enumerate(attributes)
    }


def expression(filter_: Filter, columns: Mapping[str, AttributeColumn]) -> str:
    """Return the expression of a filter, which matches what `AttributeFilters.mask` does.

    No part of it is unknown for an item without a value, as SQL's comparisons with NULL are: a
    condition says first that there is one. So "none of" is right however Milvus negates the
    unknown.

    Args:
        filter_: A filter that was checked against the columns.
        columns: By name of the attribute, in the bundle's order.
    """
    names = field_names(columns)
    return _expression(filter_, lambda attribute: (names[attribute], columns[attribute]))


def without(rows: Iterable[int]) -> str:
    """Return the expression of all rows but some, of which there must be one or more."""
    return f"{ROW} not in [{','.join(map(str, rows))}]"


_Look = Callable[[str], tuple[str, AttributeColumn]]


def _expression(filter_: Filter, look: _Look) -> str:
    match filter_:
        case AllOf():
            return _list(filter_.filters, " and ", look)
        case AnyOf():
            return _list(filter_.filters, " or ", look)
        case NoneOf():
            return f"(not {_list(filter_.filters, ' or ', look)})"
    name, column = look(filter_.attribute)
    if isinstance(filter_, Exists):
        return f"({name} is not null)" if column.valid is not None else f"({ROW} >= 0)"
    parts = [f"{name} is not null"] if column.valid is not None else []
    match filter_:
        case IsIn():
            parts.append(_one_of(name, column, filter_.values))
        case Contains():
            stored = _stored(column, (filter_.value,))
            # Of a list: Milvus Lite takes no negative number by itself.
            parts.append(f"array_contains_any({name}, [{stored[0]}])" if stored else NOTHING)
        case Range():
            parts += _bounds(name, column, filter_)
    return f"({' and '.join(parts)})"


def _list(filters: Iterable[Filter], joint: str, look: _Look) -> str:
    return f"({joint.join(_expression(part, look) for part in filters)})"


def _one_of(name: str, column: AttributeColumn, values: Iterable[Scalar]) -> str:
    values = list(values)
    parts = []
    if column.element_kind == "int64" and INT64_MIN in values:
        # Its literal is a sign and a number that is one too large.
        parts.append(f"{name} < {INT64_MIN + 1}")
        values = [value for value in values if value != INT64_MIN]
    stored = _stored(column, values)
    if len(stored) > 1 and column.element_kind != "bool":
        parts.append(f"{name} in [{','.join(stored)}]")
    else:
        parts += [f"{name} == {value}" for value in stored]
    return f"({' or '.join(parts)})" if parts else NOTHING


def _stored(column: AttributeColumn, values: Iterable[Any]) -> list[str]:
    """Return what some values are stored as, written as literals, without those that no item
    has.
    """
    match column.element_kind:
        case "string":
            codes = [column.code_of(text) for text in values]
            return [str(code) for code in codes if not isinstance(code, str)]
        case "int64":
            return [str(int(value)) for value in values if INT64_MIN <= value <= INT64_MAX]
        case "bool":
            return ["true" if value else "false" for value in values]
    return [_double(value) for value in values if math.isfinite(value)]


def _double(value: float) -> str:
    # In a list, what compares -0.0 with 0.0 may find that they differ.
    return repr(float(value) + 0.0)


def _bounds(name: str, column: AttributeColumn, wanted: Range) -> list[str]:
    low, high = wanted.low, wanted.high
    low_included, high_included = wanted.low_included, wanted.high_included
    if column.element_kind == "string":
        first, end = column.codes_between(low, low_included, high, high_included)
        return [f"{name} >= {first}", f"{name} < {end}"] if first < end else [NOTHING]
    parts: list[str] = []
    for bound, sign in (
        (low, ">=" if low_included else ">"),
        (high, "<=" if high_included else "<"),
    ):
        if bound is not None:
            parts.append(_compared(name, column, sign, bound))
    return parts


def _compared(name: str, column: AttributeColumn, sign: str, bound: Any) -> str:
    if column.element_kind == "double":
        if math.isfinite(bound):
            return f"{name} {sign} {_double(bound)}"
        holds = bound == (-math.inf if sign.startswith(">") else math.inf)
        return f"{ROW} >= 0" if holds else NOTHING
    # Of integers, bounds that are not included can be written as such that are, and then all that
    # 64 bits hold fit, but for the least.
    bound = int(bound)
    if sign.startswith(">"):
        least = bound + (sign == ">")
        if least > INT64_MAX:
            return NOTHING
        return f"{name} >= {least}" if least > INT64_MIN else f"{ROW} >= 0"
    end = bound + (sign == "<=")
    if end <= INT64_MIN:
        return NOTHING
    return f"{name} < {end}" if end <= INT64_MAX else f"{ROW} >= 0"
