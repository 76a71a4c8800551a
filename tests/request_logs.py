"""Request logs made without a server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.types import Outcome, StageReport
from shortlist_server.generation import Generation
from shortlist_server.observability.masking import Masking
from shortlist_server.observability.request_log import RequestLog, RequestLogOptions
from shortlist_server.rpc import convert, respond

RESPONSE_STAGE = StageReport(
    name="response",
    begin_ns=0,
    end_ns=1,
    duration_ns=1,
    items_in=0,
    items_out=0,
    outcome=Outcome.OK,
    plan="",
)
"""The stage that a server adds to those of the funnel."""


def user(name: str = "u1", **fields: Any) -> types.Query:
    return types.Query(user=types.UserQuery(id=name, **fields))


def response_of(request_id: str, count: int = 3) -> pb.RecommendResponse:
    """An answer that no bundle gave."""
    response = pb.RecommendResponse(info=types.AnswerInfo(request_id=request_id))
    response.info.bundle.CopyFrom(types.BundleId(name="none", version="1", sha256="0" * 64))
    for place in range(count):
        response.items.add(id=f"item-{place}", score=1 / (place + 3))
    return response


def answer(generation: Generation, request: Any, request_id: str = "mine") -> Any:
    """What a server of a bundle answers."""
    funnel, budget = generation.funnel, Budget(60)
    if isinstance(request, pb.FindSimilarItemsRequest):
        query, options = convert.similar_query(request), convert.similar_options(request)
        answered = funnel.retrieve(query, options, budget)
    elif isinstance(request, pb.RetrieveRequest):
        options = convert.retrieve_options(request)
        answered = funnel.retrieve(convert.query(request.query), options, budget)
    elif isinstance(request, pb.RankRequest):
        options, item_ids = convert.rank_options(request), tuple(request.item_ids)
        answered = funnel.rank(convert.query(request.query), item_ids, options, budget)
    else:
        options = convert.recommend_options(request)
        answered = funnel.recommend(convert.query(request.query), options, budget)
    response = pb.RecommendResponse()
    respond.add_items(answered, generation.catalog, response.items)
    identity = respond.bundle_id(generation.bundle.manifest, generation.bundle.sha256)
    respond.fill_info(answered, RESPONSE_STAGE, identity, request_id, response.info)
    return response


def write_log(
    folder: Path,
    exchanges: Iterable[tuple[Any, Any]],
    *,
    masking: Masking | None = None,
    **options: Any,
) -> RequestLog:
    """Log requests with their responses; returns the log, closed."""
    settings = {"waiting_max": 100_000, "masking": masking or Masking("keep"), **options}
    log = RequestLog(RequestLogOptions(folder=folder, **settings))
    for request, response in exchanges:
        log.record(request, response.items, response.info, 1_000)
    log.close()
    return log
