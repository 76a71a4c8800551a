"""Filters of messages to those of the funnel."""

from __future__ import annotations

from typing import Any

from shortlist.v1 import types_pb2

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

LISTS: dict[str, type[AllOf | AnyOf | NoneOf]] = {
    "all_of": AllOf,
    "any_of": AnyOf,
    "none_of": NoneOf,
}


def filter_or_none(message: Any, name: str, field: str | None = None) -> Filter | None:
    """Return the filter in a field of a message; None where it is not set.

    Args:
        message: The message that may hold it.
        name: Name of its field.
        field: Path of the field in the request, for errors; its name where None.
    """
    return filter_from(getattr(message, name), field or name) if message.HasField(name) else None


def filter_from(message: types_pb2.Filter, field: str) -> Filter:
    """Return a filter that was checked in the funnel's terms; `field` is its path, for errors."""
    kind = message.WhichOneof("kind")
    assert kind is not None
    body: Any = getattr(message, kind)
    where = f"{field}.{kind}"
    if kind in LISTS:
        return LISTS[kind](
            tuple(
                filter_from(part, f"{where}.filters[{position}]")
                for position, part in enumerate(body.filters)
            )
        )
    match kind:
        case "equals":
            return IsIn(attribute=body.attribute, values=(value_of(body.value),), field=where)
        case "is_in":
            values = getattr(body.values, body.values.WhichOneof("kind")).values
            return IsIn(attribute=body.attribute, values=tuple(values), field=where)
        case "range":
            return _range(body, where)
        case "contains":
            return Contains(attribute=body.attribute, value=value_of(body.value), field=where)
    return Exists(attribute=body.attribute, field=where)


def value_of(value: types_pb2.Value) -> Scalar:
    """Return the one value that a Value holds."""
    kind = value.WhichOneof("kind")
    assert kind is not None
    held: Scalar = getattr(value, kind)
    return held


def _range(body: types_pb2.RangeCondition, where: str) -> Range:
    low = "at_least" if body.HasField("at_least") else "above" if body.HasField("above") else None
    high = "at_most" if body.HasField("at_most") else "below" if body.HasField("below") else None
    return Range(
        attribute=body.attribute,
        low=None if low is None else value_of(getattr(body, low)),
        low_included=low != "above",
        high=None if high is None else value_of(getattr(body, high)),
        high_included=high != "below",
        field=where,
    )
