"""Requests as messages, in few words: each is the name of a method with what it is sent."""

from __future__ import annotations

from typing import Any, TypeAlias

from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types

Call: TypeAlias = tuple[str, Any]

USER = types.Query(user=types.UserQuery(id="u1"))
NAN = float("nan")
LONG = "é" * 129
EXISTS = types.Filter(exists=types.ExistsCondition(attribute="year"))
KINDS = "one of all_of, any_of, none_of, equals, is_in, range, contains, exists"


def recommend(**fields: Any) -> Call:
    return "Recommend", pb.RecommendRequest(**({"query": USER} | fields))


def rerank(**fields: Any) -> Call:
    return recommend(rerank=types.RerankOptions(**fields))


def filtered(**kind: Any) -> Call:
    return recommend(filter=types.Filter(**kind))


def equals(attribute: str, **held: Any) -> Call:
    return filtered(equals=types.EqualsCondition(attribute=attribute, value=types.Value(**held)))


def contains(attribute: str, **held: Any) -> Call:
    return filtered(
        contains=types.ContainsCondition(attribute=attribute, value=types.Value(**held))
    )


def is_in(attribute: str, **held: Any) -> Call:
    return filtered(is_in=types.InCondition(attribute=attribute, values=types.Value(**held)))


def between(attribute: str, **bounds: Any) -> Call:
    held = {name: types.Value(int64_value=bound) for name, bound in bounds.items()}
    return filtered(range=types.RangeCondition(attribute=attribute, **held))  # type: ignore[arg-type]


def joined(kind: str, *parts: types.Filter) -> types.Filter:
    return types.Filter(**{kind: types.FilterList(filters=parts)})  # type: ignore[arg-type]


def nested(levels: int) -> types.Filter:
    inner = EXISTS
    for _ in range(levels - 1):
        inner = joined("none_of", inner)
    return inner


def sources(*messages: types.SourceOptions, **fields: Any) -> Call:
    return recommend(sources=messages, **fields)


def popularity(**fields: Any) -> types.SourceOptions:
    return types.SourceOptions(popularity=types.PopularitySource(**fields))


def caller(*item_ids: str) -> types.SourceOptions:
    return types.SourceOptions(caller=types.CallerSource(item_ids=item_ids))


NEAREST = types.SourceOptions(nearest=types.NearestSource())


def select(limit: int = 20, **fields: Any) -> Call:
    return recommend(limit=limit, selection=types.SelectionOptions(**fields))


def cap(attribute: str = "year", most: int = 1) -> types.Cap:
    return types.Cap(attribute=attribute, item_count_max=most)


def pin(item_id: str = "i1", **fields: Any) -> types.PinnedItem:
    return types.PinnedItem(item_id=item_id, **fields)


def texts(*values: str) -> types.StringList:
    return types.StringList(values=values)


TEXT = types.Value(string_value="new")
