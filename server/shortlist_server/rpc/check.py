"""Requests as callers send them: is every field in its range? Plain functions, one for each
request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from shortlist_server.errors import FieldRequired, InvalidValue, OutOfRange

if TYPE_CHECKING:
    from shortlist.v1 import recommendation_pb2, types_pb2

LIMIT_MAX = 500
CANDIDATES_MAX = 4_096
ATTRIBUTES_MAX = 256
FEATURES_MAX = 256
EXAMPLES_MAX = 1_000
HISTORY_MAX = 1_000
EXCLUSIONS_MAX = 100_000
ID_BYTES_MAX = 256
ACTION_BYTES_MAX = 64
MAGNITUDE_MAX = 1e15
"""Largest magnitude of a component or a weight: products and sums of them stay finite."""


def recommend_request(request: recommendation_pb2.RecommendRequest) -> None:
    """Check a RecommendRequest.

    Raises:
        RequestError: a field is out of its range; the error names it.
    """
    query(request.query if request.HasField("query") else None)
    _in_range("limit", request.limit, LIMIT_MAX, default="20")
    _retrieval(request.retrieval)
    _enough_candidates(request.retrieval.candidate_count, request.limit or 20)
    _exclusions("exclusions.item_ids", request.exclusions.item_ids)
    _attributes(request.attributes)
    _weights(request.output_weights)


def retrieve_request(request: recommendation_pb2.RetrieveRequest) -> None:
    """Check a RetrieveRequest; raises like `recommend_request`."""
    query(request.query if request.HasField("query") else None)
    _retrieval(request.retrieval)
    _exclusions("exclusions.item_ids", request.exclusions.item_ids)
    _attributes(request.attributes)


def rank_request(request: recommendation_pb2.RankRequest) -> None:
    """Check a RankRequest; raises like `recommend_request`."""
    query(request.query if request.HasField("query") else None)
    if not request.item_ids:
        raise FieldRequired("item_ids", expected=f"1..{CANDIDATES_MAX} ids", got="none")
    _count("item_ids", len(request.item_ids), CANDIDATES_MAX)
    _ids("item_ids", request.item_ids)
    _exclusions("excluded_item_ids", request.excluded_item_ids)
    _attributes(request.attributes)
    _weights(request.output_weights)


def find_similar_items_request(request: recommendation_pb2.FindSimilarItemsRequest) -> None:
    """Check a FindSimilarItemsRequest; raises like `recommend_request`."""
    if not request.item_id:
        raise FieldRequired("item_id", expected="the id of an item", got="none")
    _ids("item_id", [request.item_id])
    _in_range("limit", request.limit, LIMIT_MAX, default="20")
    _retrieval(request.retrieval)
    _enough_candidates(request.retrieval.candidate_count, request.limit or 20)
    _exclusions("excluded_item_ids", request.excluded_item_ids)
    _attributes(request.attributes)


def query(message: types_pb2.Query | None) -> None:
    """Check a Query; raises like `recommend_request`."""
    kind = None if message is None else message.WhichOneof("kind")
    if message is None or kind is None:
        raise FieldRequired("query", expected="one of user, items, embedding", got="none")
    _features("query.context", message.context)
    if kind == "user":
        _user(message.user)
    elif kind == "items":
        if not message.items.item_ids:
            raise FieldRequired(
                "query.items.item_ids", expected=f"1..{EXAMPLES_MAX} ids", got="none"
            )
        _count("query.items.item_ids", len(message.items.item_ids), EXAMPLES_MAX)
        _ids("query.items.item_ids", message.items.item_ids)
    else:
        _embedding(message.embedding.values)


def _user(user: types_pb2.UserQuery) -> None:
    _text("query.user.id", user.id, ID_BYTES_MAX)
    _features("query.user.features", user.features)
    _count("query.user.history", len(user.history), HISTORY_MAX)
    for position, event in enumerate(user.history):
        where = f"query.user.history[{position}]"
        _id(f"{where}.item_id", event.item_id)
        _text(f"{where}.action", event.action, ACTION_BYTES_MAX)
        if not math.isfinite(event.rating):
            raise InvalidValue(f"{where}.rating", expected="a finite number", got=str(event.rating))
        if not 0 <= event.time.nanos < 10**9:
            raise InvalidValue(
                f"{where}.time.nanos", expected="0..999999999", got=str(event.time.nanos)
            )


def _embedding(values: Sequence[float]) -> None:
    for position, value in enumerate(values):
        where = f"query.embedding.values[{position}]"
        if not math.isfinite(value):
            raise InvalidValue(where, expected="a finite number", got=str(value))
        if abs(value) > MAGNITUDE_MAX:
            raise OutOfRange(
                where, expected=f"at most {MAGNITUDE_MAX:g} in magnitude", got=f"{value:g}"
            )


def _features(field: str, features: Mapping[str, types_pb2.Value]) -> None:
    _count(field, len(features), FEATURES_MAX)
    for name, value in features.items():
        where = f'{field}["{name}"]'
        kind = value.WhichOneof("kind")
        if kind is None:
            raise InvalidValue(where, expected="a value of one kind", got="a Value without a kind")
        numbers: Iterable[float] = ()
        if kind == "double_value":
            numbers = (value.double_value,)
        elif kind == "double_list":
            numbers = value.double_list.values
        for number in numbers:
            if not math.isfinite(number):
                raise InvalidValue(where, expected="a finite number", got=str(number))


def _retrieval(options: types_pb2.RetrievalOptions) -> None:
    _in_range("retrieval.candidate_count", options.candidate_count, CANDIDATES_MAX, default="200")
    _in_range("retrieval.ef", options.ef, CANDIDATES_MAX, default="the server's choice")
    if options.exact and options.ef:
        raise InvalidValue(
            "retrieval.ef",
            expected="0 where retrieval.exact is set: an exact scan has no ef",
            got=str(options.ef),
        )


def _enough_candidates(candidate_count: int, limit: int) -> None:
    if candidate_count and candidate_count < limit:
        raise OutOfRange(
            "retrieval.candidate_count",
            expected=f"at least limit, which is {limit}",
            got=str(candidate_count),
        )


def _exclusions(field: str, item_ids: Sequence[str]) -> None:
    _count(field, len(item_ids), EXCLUSIONS_MAX)
    _ids(field, item_ids)


def _attributes(names: Sequence[str]) -> None:
    _count("attributes", len(names), ATTRIBUTES_MAX)


def _weights(weights: Mapping[str, float]) -> None:
    for name, weight in weights.items():
        where = f'output_weights["{name}"]'
        if not math.isfinite(weight):
            raise InvalidValue(where, expected="a finite number", got=str(weight))
        if abs(weight) > MAGNITUDE_MAX:
            raise OutOfRange(
                where, expected=f"at most {MAGNITUDE_MAX:g} in magnitude", got=f"{weight:g}"
            )


def _in_range(field: str, value: int, maximum: int, *, default: str) -> None:
    if not 0 <= value <= maximum:
        raise OutOfRange(field, expected=f"1..{maximum}, or 0 for {default}", got=str(value))


def _count(field: str, count: int, maximum: int) -> None:
    if count > maximum:
        raise OutOfRange(field, expected=f"at most {maximum} entries", got=str(count))


def _ids(field: str, item_ids: Sequence[str]) -> None:
    # A text has at most as many bytes as four times its characters: one pass over the lengths
    # clears most lists.
    if all(0 < len(item_id) <= ID_BYTES_MAX // 4 for item_id in item_ids):
        return
    for position, item_id in enumerate(item_ids):
        _id(f"{field}[{position}]", item_id)


def _id(field: str, item_id: str) -> None:
    if not item_id:
        raise FieldRequired(
            field, expected=f"1..{ID_BYTES_MAX} bytes of UTF-8", got="an empty text"
        )
    _text(field, item_id, ID_BYTES_MAX)


def _text(field: str, text: str, maximum: int) -> None:
    if len(text) > maximum // 4 and (size := len(text.encode())) > maximum:
        raise OutOfRange(field, expected=f"at most {maximum} bytes of UTF-8", got=f"{size} bytes")
