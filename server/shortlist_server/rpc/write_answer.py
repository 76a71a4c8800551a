"""Writes an answer of the funnel into a response: its items, and what explains them."""

from __future__ import annotations

import logging
from typing import Any

from shortlist_server.errors import DeadlineExceeded, IndexUnavailable, TextEmbedderUnavailable
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Answer, Outcome, StageReport
from shortlist_server.observability.current_call import current_request_id, current_trace
from shortlist_server.rpc import respond
from shortlist_server.rpc.respond_query import (
    fill_answered_query,
    fill_rating_info,
    fill_rerank_info,
)
from shortlist_server.rpc.snapshot import Snapshot

logger = logging.getLogger(__name__)


def write_answer(
    at: Snapshot,
    answer: Answer,
    options: Options,
    budget: Budget,
    response: Any,
    *,
    request_id: str = "",
) -> StageReport:
    """Write an answer; log what failed in it, and trace it.

    Args:
        at: What was answered from.
        answer: The answer.
        options: What the caller chose.
        budget: His time.
        response: A message with `items` and `info`.
        request_id: That of the call where empty.

    Returns:
        The report of this last stage.

    Raises:
        DeadlineExceeded: there is no time to write it.
    """
    begin_ns = budget.now_ns()
    budget.check("response")
    request_id = request_id or current_request_id.get()
    respond.add_items(answer, at.catalog, response.items)
    end_ns = budget.now_ns()
    last = StageReport(
        name="response",
        begin_ns=begin_ns,
        end_ns=end_ns,
        duration_ns=end_ns - begin_ns,
        items_in=len(response.items),
        items_out=len(response.items),
        outcome=Outcome.OK,
        plan=f"{len(answer.attributes)} attributes",
    )
    respond.fill_info(answer, last, at.identity, request_id, response.info)
    response.info.catalog_revision = at.revision
    response.info.bundle_label = at.label
    if answer.reranked is not None and answer.reranked.prompt:
        fill_rerank_info(answer.reranked, at.catalog, response.info.rerank)
    if answer.rated is not None and answer.rated.prompt:
        fill_rating_info(answer.rated, at.catalog, response.info.rating)
    if options.debug:
        message = response.info.answered_query
        fill_answered_query(answer, options, budget.seconds, at.catalog, message)
    for degradation in answer.degraded:
        cause = degradation.cause
        if isinstance(cause, DeadlineExceeded | TextEmbedderUnavailable):
            # What a service does that is away, it does to every call: no traceback for each.
            logger.warning("%s %s: %s", request_id, degradation.message, cause)
        elif isinstance(cause, IndexUnavailable):
            logger.warning("%s %s: %s", request_id, degradation.message, cause.detail)
        elif cause is not None:
            logger.error("%s %s", request_id, degradation.message, exc_info=degradation.cause)
    if (trace := current_trace.get()) is not None:
        bundle = f"{at.identity.name} {at.identity.version}"
        trace.answered(request_id, answer, last, bundle)
    return last
