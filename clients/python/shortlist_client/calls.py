"""The calls of the service: what is sent, and how the answer is read. Nothing here does any I/O.

`Client` and `AsyncClient` turn each of these functions into a method of the same arguments, and so
differ only in how they send. The docstrings here are those of their methods.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
from shortlist.v1 import bundle_pb2, recommendation_pb2, types_pb2
from shortlist.v1.bundle_pb2_grpc import BundleServiceStub
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

from shortlist_client import convert, results
from shortlist_client.errors import InvalidValue
from shortlist_client.queries import FeatureValue, Query, User
from shortlist_client.values import count, flag, number, text, texts

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ResultT = TypeVar("ResultT")
MethodT = TypeVar("MethodT", bound=Callable[..., Any])


class Stubs:
    """The generated stubs over one channel, blocking or asyncio."""

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None:
        self.recommendation = RecommendationServiceStub(channel)
        self.bundle = BundleServiceStub(channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[RequestT, ResponseT, ResultT]):
    """One call, ready to be sent."""

    method: Callable[[Stubs], grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]]
    request: RequestT
    read: Callable[[ResponseT], ResultT]
    """Turns the response into the result."""
    request_id: str
    timeout_s: float | None
    """None: the client's own."""


def recommend(
    query: Query | None = None,
    *,
    user: User | str | None = None,
    limit: int | None = None,
    candidate_count: int | None = None,
    ef: int | None = None,
    exact: bool = False,
    excluded_item_ids: Collection[str] = (),
    exclude_seen: bool = True,
    attributes: Collection[str] = (),
    context: Mapping[str, FeatureValue] | None = None,
    output_weights: Mapping[str, float] | None = None,
    strict: bool = False,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[
    recommendation_pb2.RecommendRequest,
    recommendation_pb2.RecommendResponse,
    results.Recommendations,
]:
    """Return the few items that suit a query best: retrieval, exclusions, ranking, selection.

    Args:
        query: A User, Items or an Embedding.
        user: A user's id, or a User; instead of `query`.
        limit: Number of items wanted, 1..500. None: 20.
        candidate_count: Number of candidates retrieved and then ranked, 1..4,096 and at least
            `limit`. None: 200, or `limit` if that is more.
        ef: Beam width of the graph search, 1..4,096: larger finds more of the true neighbours and
            takes longer. None leaves it, and the choice between graph search and exact scan, to the
            server.
        exact: Compare every item, so that no neighbour can be missed. Not together with `ef`.
        excluded_item_ids: Items that must not be in the answer, at most 100,000.
        exclude_seen: Whether items that the user has already seen are left out.
        attributes: Names of the item attributes to return; `["*"]` returns all.
        context: Features of the situation, by the name that the bundle declares under `context.`.
        output_weights: Weights of the ranker's outputs in the ranking score. Outputs not named
            weigh 0; none at all means the bundle's own weights.
        strict: Refuse unknown features, items and attributes, instead of listing them in
            `info.warnings`.
        timeout_s: Deadline of this call, retries included. None: the client's.
        request_id: Id of this request in the server's logs and answer, printable ASCII. None: a new
            one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.recommendation.Recommend,
        request=recommendation_pb2.RecommendRequest(
            query=convert.query_to_proto(query, user, context),
            limit=count(limit, "limit"),
            retrieval=_retrieval(candidate_count, ef, exact),
            exclusions=convert.exclusions_to_proto(excluded_item_ids, seen=exclude_seen),
            attributes=texts(attributes, "attributes"),
            output_weights=convert.weights_to_proto(output_weights),
            strict=flag(strict, "strict"),
        ),
        read=convert.recommendations_from_proto,
        request_id=_checked_request_id(request_id),
        timeout_s=_own_timeout_s(timeout_s),
    )


def retrieve(
    query: Query | None = None,
    *,
    user: User | str | None = None,
    candidate_count: int | None = None,
    ef: int | None = None,
    exact: bool = False,
    excluded_item_ids: Collection[str] = (),
    exclude_seen: bool = True,
    attributes: Collection[str] = (),
    context: Mapping[str, FeatureValue] | None = None,
    strict: bool = False,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[
    recommendation_pb2.RetrieveRequest, recommendation_pb2.RetrieveResponse, results.Candidates
]:
    """Return candidates only, best retrieval score first: no ranking.

    Args:
        query: A User, Items or an Embedding.
        user: A user's id, or a User; instead of `query`.
        candidate_count: Number of items wanted, 1..4,096. None: 200.
        ef: As for `recommend`, like all that follows.
        exact: Compare every item.
        excluded_item_ids: Items that must not be in the answer.
        exclude_seen: Whether items that the user has already seen are left out.
        attributes: Names of the item attributes to return.
        context: Features of the situation.
        strict: Refuse what is unknown.
        timeout_s: Deadline of this call.
        request_id: Id of this request.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.recommendation.Retrieve,
        request=recommendation_pb2.RetrieveRequest(
            query=convert.query_to_proto(query, user, context),
            retrieval=_retrieval(candidate_count, ef, exact),
            exclusions=convert.exclusions_to_proto(excluded_item_ids, seen=exclude_seen),
            attributes=texts(attributes, "attributes"),
            strict=flag(strict, "strict"),
        ),
        read=convert.candidates_from_proto,
        request_id=_checked_request_id(request_id),
        timeout_s=_own_timeout_s(timeout_s),
    )


def rank(
    query: Query | None = None,
    *,
    item_ids: Collection[str],
    user: User | str | None = None,
    excluded_item_ids: Collection[str] = (),
    attributes: Collection[str] = (),
    context: Mapping[str, FeatureValue] | None = None,
    output_weights: Mapping[str, float] | None = None,
    strict: bool = False,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[recommendation_pb2.RankRequest, recommendation_pb2.RankResponse, results.Ranking]:
    """Score the items named, best first: no retrieval. Predicts ratings where the ranker does.

    Args:
        query: A User, Items or an Embedding.
        item_ids: The items to score, 1..4,096. Seen items are scored like any other; unknown ones
            come back in `unknown_item_ids`.
        user: A user's id, or a User; instead of `query`.
        excluded_item_ids: Items that must not be among `item_ids`.
        attributes: As for `recommend`, like all that follows.
        context: Features of the situation.
        output_weights: Weights of the ranker's outputs in the ranking score.
        strict: Refuse what is unknown.
        timeout_s: Deadline of this call.
        request_id: Id of this request.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.recommendation.Rank,
        request=recommendation_pb2.RankRequest(
            query=convert.query_to_proto(query, user, context),
            item_ids=texts(item_ids, "item_ids"),
            excluded_item_ids=texts(excluded_item_ids, "excluded_item_ids"),
            attributes=texts(attributes, "attributes"),
            output_weights=convert.weights_to_proto(output_weights),
            strict=flag(strict, "strict"),
        ),
        read=convert.ranking_from_proto,
        request_id=_checked_request_id(request_id),
        timeout_s=_own_timeout_s(timeout_s),
    )


def find_similar_items(
    item_id: str,
    *,
    limit: int | None = None,
    candidate_count: int | None = None,
    ef: int | None = None,
    exact: bool = False,
    excluded_item_ids: Collection[str] = (),
    attributes: Collection[str] = (),
    strict: bool = False,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> Call[
    recommendation_pb2.FindSimilarItemsRequest,
    recommendation_pb2.FindSimilarItemsResponse,
    results.SimilarItems,
]:
    """Return the items nearest to one item, in the space of the item embeddings.

    Args:
        item_id: The item. NotFound if the bundle does not know it.
        limit: Number of items wanted, 1..500. None: 20.
        candidate_count: Number of items searched for before `limit` cuts the list.
        ef: As for `recommend`, like all that follows.
        exact: Compare every item.
        excluded_item_ids: Items that must not be in the answer. The item itself never is.
        attributes: Names of the item attributes to return.
        strict: Refuse what is unknown.
        timeout_s: Deadline of this call.
        request_id: Id of this request.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.recommendation.FindSimilarItems,
        request=recommendation_pb2.FindSimilarItemsRequest(
            item_id=text(item_id, "item_id"),
            limit=count(limit, "limit"),
            retrieval=_retrieval(candidate_count, ef, exact),
            excluded_item_ids=texts(excluded_item_ids, "excluded_item_ids"),
            attributes=texts(attributes, "attributes"),
            strict=flag(strict, "strict"),
        ),
        read=convert.similar_items_from_proto,
        request_id=_checked_request_id(request_id),
        timeout_s=_own_timeout_s(timeout_s),
    )


def get_active_bundle(
    *, timeout_s: float | None = None, request_id: str | None = None
) -> Call[
    bundle_pb2.GetActiveBundleRequest, bundle_pb2.GetActiveBundleResponse, results.BundleInfo
]:
    """Return what is being served: identity, size, features and attributes of the bundle.

    Args:
        timeout_s: Deadline of this call. None: the client's.
        request_id: Id of this request. None: a new one.

    Raises:
        ShortlistError: See `shortlist_client.errors`.
    """
    return Call(
        method=lambda stubs: stubs.bundle.GetActiveBundle,
        request=bundle_pb2.GetActiveBundleRequest(),
        read=convert.bundle_from_proto,
        request_id=_checked_request_id(request_id),
        timeout_s=_own_timeout_s(timeout_s),
    )


def checked_timeout_s(timeout_s: float) -> float:
    """Return the deadline itself.

    Raises:
        InvalidValue: It is not a finite number above 0.
    """
    if number(timeout_s, "timeout_s") <= 0:
        raise InvalidValue.about(
            "timeout_s", reason="INVALID_VALUE", expected="more than 0", got=f"{timeout_s}"
        )
    return timeout_s


def presented_as(build: Callable[..., Any]) -> Callable[[MethodT], MethodT]:
    """Give a client's method the name, docstring and arguments that `help` and editors show."""
    signature = inspect.signature(build)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)

    def present(method: MethodT) -> MethodT:
        method.__name__ = method.__qualname__ = build.__name__
        method.__doc__ = build.__doc__
        method.__dict__["__signature__"] = signature.replace(
            parameters=[itself, *signature.parameters.values()],
            return_annotation=inspect.Signature.empty,
        )
        return method

    return present


def _retrieval(
    candidate_count: int | None, ef: int | None, exact: bool
) -> types_pb2.RetrievalOptions:
    return types_pb2.RetrievalOptions(
        candidate_count=count(candidate_count, "retrieval.candidate_count"),
        ef=count(ef, "retrieval.ef"),
        exact=flag(exact, "retrieval.exact"),
    )


def _checked_request_id(request_id: str | None) -> str:
    if request_id is None:
        # Made here, not by the server, so that an error which never reached it, or came back from
        # somewhere in between, has an id to look for as well.
        return os.urandom(16).hex()
    if not request_id or not request_id.isascii() or not request_id.isprintable():
        raise InvalidValue.about(
            "request_id",
            reason="INVALID_VALUE",
            expected="printable ASCII, as gRPC metadata is",
            got=ascii(request_id),
        )
    return request_id


def _own_timeout_s(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else checked_timeout_s(timeout_s)
