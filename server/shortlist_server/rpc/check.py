"""Requests as callers send them: is every field in its range? Plain functions, one for each
request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from shortlist_server.bundle.item_text import clean_text
from shortlist_server.errors import FieldRequired, InvalidValue, OutOfRange
from shortlist_server.rpc import check_options
from shortlist_server.rpc.check_values import (
    CANDIDATES_MAX,
    ID_BYTES_MAX,
    LIMIT_MAX,
    MAGNITUDE_MAX,
    count_at_most,
    finite,
    ids,
    in_range,
    one_id,
    text_at_most,
)

if TYPE_CHECKING:
    from shortlist.v1 import conversation_pb2, recommendation_pb2, types_pb2

ATTRIBUTES_MAX = 256
BATCH_MAX = 1_024
FEATURES_MAX = 256
EXAMPLES_MAX = 1_000
HISTORY_MAX = 1_000
EXCLUSIONS_MAX = 100_000
ACTION_BYTES_MAX = 64
TEXT_BYTES_MAX = 2_048


def recommend_request(request: recommendation_pb2.RecommendRequest) -> None:
    """Check a RecommendRequest.

    Raises:
        RequestError: a field is out of its range; the error names it.
    """
    query(request.query if request.HasField("query") else None)
    in_range("limit", request.limit, LIMIT_MAX, default="20")
    _retrieval(request.retrieval)
    _enough_candidates(request.retrieval.candidate_count, request.limit or 20)
    exclusions("exclusions.item_ids", request.exclusions.item_ids)
    filters(request)
    check_options.sources(
        request.sources, request.retrieval.candidate_count or max(200, request.limit)
    )
    check_options.selection(request.selection, request.limit or 20)
    if request.HasField("rerank"):
        check_options.rerank(request.rerank)
    attributes(request.attributes)
    _weights(request.output_weights)
    min_revision(request.min_revision)


def retrieve_request(request: recommendation_pb2.RetrieveRequest) -> None:
    """Check a RetrieveRequest; raises like `recommend_request`."""
    query(request.query if request.HasField("query") else None)
    _retrieval(request.retrieval)
    exclusions("exclusions.item_ids", request.exclusions.item_ids)
    filters(request)
    check_options.sources(request.sources, request.retrieval.candidate_count or 200)
    attributes(request.attributes)
    min_revision(request.min_revision)


def rank_request(request: recommendation_pb2.RankRequest) -> None:
    """Check a RankRequest; raises like `recommend_request`."""
    query(request.query if request.HasField("query") else None)
    if request.query.text:
        raise InvalidValue(
            "query.text", expected="none: no model of a bundle scores items by a text", got="a text"
        )
    if not request.item_ids:
        raise FieldRequired("item_ids", expected=f"1..{CANDIDATES_MAX} ids", got="none")
    count_at_most("item_ids", len(request.item_ids), CANDIDATES_MAX)
    ids("item_ids", request.item_ids)
    check_options.ranker(request)
    exclusions("excluded_item_ids", request.excluded_item_ids)
    attributes(request.attributes)
    _weights(request.output_weights)
    min_revision(request.min_revision)


def find_similar_items_request(request: recommendation_pb2.FindSimilarItemsRequest) -> None:
    """Check a FindSimilarItemsRequest; raises like `recommend_request`."""
    if not request.item_id:
        raise FieldRequired("item_id", expected="the id of an item", got="none")
    ids("item_id", [request.item_id])
    in_range("limit", request.limit, LIMIT_MAX, default="20")
    _retrieval(request.retrieval)
    _enough_candidates(request.retrieval.candidate_count, request.limit or 20)
    exclusions("excluded_item_ids", request.excluded_item_ids)
    if request.HasField("filter"):
        check_options.filter_("filter", request.filter)
    if request.similarity not in (0, 1, 2):
        raise InvalidValue(
            "similarity", expected="a value of Similarity", got=str(int(request.similarity))
        )
    attributes(request.attributes)
    min_revision(request.min_revision)


def min_revision(revision: int) -> None:
    """Check the revision that a request asks for; raises like `recommend_request`."""
    if revision < 0:
        raise OutOfRange("min_revision", expected="0 or more", got=str(revision))


def batch_recommend_request(request: recommendation_pb2.BatchRecommendRequest) -> None:
    """Check how many rows a BatchRecommendRequest has; each row is checked when its turn comes.

    Raises:
        RequestError: there are none, or too many.
    """
    if not request.requests:
        raise FieldRequired("requests", expected=f"1..{BATCH_MAX} requests", got="none")
    count_at_most("requests", len(request.requests), BATCH_MAX)


def query(message: types_pb2.Query | None) -> None:
    """Check a Query; raises like `recommend_request`."""
    kind = None if message is None else message.WhichOneof("kind")
    if message is None or (kind is None and not message.text):
        raise FieldRequired("query", expected="one of user, items, embedding, text", got="none")
    _text(message.text)
    values("query.context", message.context)
    if kind == "user":
        _user(message.user)
    elif kind == "items":
        if not message.items.item_ids:
            raise FieldRequired(
                "query.items.item_ids", expected=f"1..{EXAMPLES_MAX} ids", got="none"
            )
        count_at_most("query.items.item_ids", len(message.items.item_ids), EXAMPLES_MAX)
        ids("query.items.item_ids", message.items.item_ids)
    elif kind == "embedding":
        _embedding(message.embedding.values)


def _text(text: str) -> None:
    if not text:
        return
    text_at_most("query.text", text, TEXT_BYTES_MAX)
    if not clean_text(text):
        raise InvalidValue(
            "query.text", expected="words", got="nothing but white space and control characters"
        )


def _user(user: types_pb2.UserQuery) -> None:
    text_at_most("query.user.id", user.id, ID_BYTES_MAX)
    values("query.user.features", user.features)
    count_at_most("query.user.history", len(user.history), HISTORY_MAX)
    for position, event in enumerate(user.history):
        where = f"query.user.history[{position}]"
        one_id(f"{where}.item_id", event.item_id)
        text_at_most(f"{where}.action", event.action, ACTION_BYTES_MAX)
        finite(f"{where}.rating", event.rating)
        if not 0 <= event.time.nanos < 10**9:
            raise InvalidValue(
                f"{where}.time.nanos", expected="0..999999999", got=str(event.time.nanos)
            )


def _embedding(values: Sequence[float]) -> None:
    for position, value in enumerate(values):
        where = f"query.embedding.values[{position}]"
        finite(where, value)
        if abs(value) > MAGNITUDE_MAX:
            raise OutOfRange(
                where, expected=f"at most {MAGNITUDE_MAX:g} in magnitude", got=f"{value:g}"
            )


def values(field: str, features: Mapping[str, types_pb2.Value]) -> None:
    """Check values by name; raises like `recommend_request`."""
    count_at_most(field, len(features), FEATURES_MAX)
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
            finite(where, number)


def _retrieval(options: types_pb2.RetrievalOptions) -> None:
    in_range("retrieval.candidate_count", options.candidate_count, CANDIDATES_MAX, default="200")
    in_range("retrieval.ef", options.ef, CANDIDATES_MAX, default="the server's choice")
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


def exclusions(field: str, item_ids: Sequence[str]) -> None:
    """Check how many items are excluded; raises like `recommend_request`."""
    # `convert` checks each of them as it decodes them: twice would take long for 10,000.
    count_at_most(field, len(item_ids), EXCLUSIONS_MAX)


def filters(
    request: recommendation_pb2.RecommendRequest
    | recommendation_pb2.RetrieveRequest
    | conversation_pb2.ConverseRequest,
) -> None:
    """Check the filters of a request; raises like `recommend_request`."""
    if request.HasField("filter"):
        check_options.filter_("filter", request.filter)
    if request.exclusions.HasField("filter"):
        check_options.filter_("exclusions.filter", request.exclusions.filter)


def attributes(names: Sequence[str]) -> None:
    """Check the names of attributes to return; raises like `recommend_request`."""
    count_at_most("attributes", len(names), ATTRIBUTES_MAX)


def _weights(weights: Mapping[str, float]) -> None:
    for name, weight in weights.items():
        where = f'output_weights["{name}"]'
        finite(where, weight)
        if abs(weight) > MAGNITUDE_MAX:
            raise OutOfRange(
                where, expected=f"at most {MAGNITUDE_MAX:g} in magnitude", got=f"{weight:g}"
            )
