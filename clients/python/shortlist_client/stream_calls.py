"""The calls whose answers come one by one: what is sent, and how they are read, as in `calls`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from functools import partial

from shortlist.v1 import recommendation_pb2

from shortlist_client import responses, results
from shortlist_client.call import (
    Call,
    StreamCall,
    checked_request_id,
    own_timeout_s,
    with_arguments_of,
)
from shortlist_client.calls import recommend
from shortlist_client.errors import InvalidRequestError, ShortlistError
from shortlist_client.options import RecommendRequest
from shortlist_client.values import invalid


@with_arguments_of(recommend)
def stream_recommend(
    call: Call[
        recommendation_pb2.RecommendRequest,
        recommendation_pb2.RecommendResponse,
        results.Recommendations,
    ],
) -> StreamCall[
    recommendation_pb2.StreamRecommendRequest,
    recommendation_pb2.StreamRecommendResponse,
    results.StreamedRecommendations,
]:
    """Return the list as soon as it is ranked, and again whenever it has been refined.

    Each list is whole in itself and takes the place of the one before; the last is what `recommend`
    would return. The call begins at once and ends with the last list, or when the stream is closed.
    """
    return StreamCall(
        method=lambda stubs: stubs.recommendation.StreamRecommend,
        request=recommendation_pb2.StreamRecommendRequest(request=call.request),
        read=responses.streamed_from_proto,
        request_id=call.request_id,
        timeout_s=call.timeout_s,
    )


def recommend_batch(
    requests: Iterable[RecommendRequest],
    *,
    timeout_s: float | None = None,
    request_id: str | None = None,
) -> StreamCall[
    recommendation_pb2.BatchRecommendRequest,
    recommendation_pb2.BatchRecommendResponse,
    tuple[int, results.Recommendations | ShortlistError],
]:
    """Return the answers to many requests, each with the index of its request, as they are ready.

    In no order; each request is answered once. The error of one request takes the place of its
    answer and is not raised; what ends the whole call is. The call begins at once and ends with the
    last answer, or when the stream is closed.

    Args:
        requests: What `recommend` would be asked, 1..1,024 times.
        timeout_s: Deadline of the whole call. None: the client's, which is meant for one request.
        request_id: Id of the call.

    Raises:
        ShortlistError: See `shortlist_client.errors`. A request that the wire cannot hold is
            refused before anything is sent, by its index: `requests[3].limit`.
    """
    if isinstance(requests, RecommendRequest) or not isinstance(requests, Iterable):
        raise invalid("requests", "a list of RecommendRequest", requests)
    call_id = checked_request_id(request_id)
    return StreamCall(
        method=lambda stubs: stubs.recommendation.BatchRecommend,
        request=recommendation_pb2.BatchRecommendRequest(
            requests=[_row(row, f"requests[{index}]") for index, row in enumerate(requests)]
        ),
        read=partial(responses.row_from_proto, request_id=call_id),
        request_id=call_id,
        timeout_s=own_timeout_s(timeout_s),
    )


def _row(row: RecommendRequest, field: str) -> recommendation_pb2.RecommendRequest:
    if not isinstance(row, RecommendRequest):
        raise invalid(field, "a RecommendRequest", row)
    try:
        # Its fields are the arguments: a test compares them.
        call = recommend(**{part.name: getattr(row, part.name) for part in fields(row)})
    except InvalidRequestError as error:
        raise error.about(
            f"{field}.{error.field}", reason=error.reason, expected=error.expected, got=error.got
        ) from None
    return call.request
