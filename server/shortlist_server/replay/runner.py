"""Answers logged requests by the code that serves, without a transport."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import DecodeError
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2

from shortlist_server.errors import DeadlineExceeded, ShortlistError
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.funnel import Funnel
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Answer, Query
from shortlist_server.generation import Generation
from shortlist_server.observability.log_row import LogRow
from shortlist_server.replay.decisions import as_logged
from shortlist_server.replay.unmasking import Unmasking
from shortlist_server.rpc import check, convert, respond

BUDGET_S = 3_600.0
"""No request is late in a replay; the deadline that it had is not applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a bundle answers to a logged request."""

    item_ids: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    """float64, parallel to `item_ids`."""
    duration_ns: int = 0
    error: str = ""
    """Why there is no answer; empty where there is one."""
    masked: tuple[str, ...] = ()
    """Fields of the request that the log does not have as they were sent: it was not replayed."""


@dataclass(frozen=True, slots=True)
class _Method:
    """How one kind of request is answered."""

    message: Callable[[], Any]
    check: Callable[[Any], None]
    query: Callable[[Any], Query]
    options: Callable[[Any], Options]
    run: Callable[[Funnel, Any, Query, Options, Budget], Answer]


_METHODS = {
    "recommend": _Method(
        pb.RecommendRequest,
        check.recommend_request,
        lambda request: convert.query(request.query),
        convert.recommend_options,
        lambda funnel, request, query, options, budget: funnel.recommend(query, options, budget),
    ),
    "retrieve": _Method(
        pb.RetrieveRequest,
        check.retrieve_request,
        lambda request: convert.query(request.query),
        convert.retrieve_options,
        lambda funnel, request, query, options, budget: funnel.retrieve(query, options, budget),
    ),
    "rank": _Method(
        pb.RankRequest,
        check.rank_request,
        lambda request: convert.query(request.query),
        convert.rank_options,
        lambda funnel, request, query, options, budget: funnel.rank(
            query, tuple(request.item_ids), options, budget
        ),
    ),
    "find_similar_items": _Method(
        pb.FindSimilarItemsRequest,
        check.find_similar_items_request,
        convert.similar_query,
        convert.similar_options,
        lambda funnel, request, query, options, budget: funnel.retrieve(query, options, budget),
    ),
}


class Replayer:
    """One bundle that answers logged requests."""

    def __init__(self, generation: Generation, *, key: bytes | None = None) -> None:
        """Take the bundle.

        Args:
            generation: The bundle, loaded.
            key: The secret of a log whose ids are hashed; None leaves such rows out.
        """
        self._generation = generation
        self._unmasking = (
            None
            if key is None
            else Unmasking(
                key,
                user_ids=generation.catalog.user_ids,
                item_ids=generation.bundle.item_ids,
            )
        )

    @property
    def generation(self) -> Generation:
        """The bundle."""
        return self._generation

    def answered(self, row: LogRow) -> bool:
        """Whether this bundle is the one that answered when the row was logged."""
        return row.bundle_sha256 == self._generation.bundle.sha256

    def request(self, row: LogRow) -> tuple[Any, tuple[str, ...]]:
        """Return a logged request, and the fields of it that are not as they were sent.

        Raises:
            ValueError: its kind is unknown, or the row is damaged.
        """
        if (method := _METHODS.get(row.kind)) is None:
            raise ValueError(f"kind: expected {', '.join(_METHODS)}, got {row.kind!r}")
        request = method.message()
        try:
            request.ParseFromString(row.request)
        except DecodeError as error:
            raise ValueError(f"the row is damaged: {error}") from error
        masked = row.masked
        if masked and self._unmasking is not None:
            masked = self._unmasking.restore(request, masked)
        return request, masked

    def answer(self, row: LogRow, *, rerank: bool = True) -> Replayed:
        """Answer a logged request; a request that cannot be answered says why.

        Args:
            row: The request.
            rerank: Whether the logged order of a language model is applied; else the order of
                ranking stands.
        """
        info = types_pb2.AnswerInfo()
        try:
            request, masked = self.request(row)
            info.ParseFromString(row.info)
        except DecodeError as error:
            return Replayed(error=f"the row is damaged: {error}")
        except ValueError as error:
            return Replayed(error=str(error))
        if masked:
            return Replayed(masked=masked)
        try:
            method, same_bundle = _METHODS[row.kind], self.answered(row)
            return self._answer(method, request, info, same_bundle=same_bundle, rerank=rerank)
        except DeadlineExceeded:
            # There is time enough: sources were left out as in the log, and no other has answered.
            return Replayed(error="the sources that answered in the log do not apply here")
        except ShortlistError as error:
            return Replayed(error=str(error))
        except Exception as error:
            # As in the server, a fault in answering one request is no end of the others.
            return Replayed(error=f"fault: {error!r}")

    def _answer(
        self,
        method: _Method,
        request: Any,
        info: types_pb2.AnswerInfo,
        *,
        same_bundle: bool,
        rerank: bool,
    ) -> Replayed:
        catalog = self._generation.catalog
        budget = Budget(BUDGET_S)
        method.check(request)
        query = method.query(request)
        options = as_logged(
            method.options(request), info, same_bundle=same_bundle, catalog_size=catalog.size
        )
        if not rerank:
            options = replace(options, rerank=None)
        answer = method.run(self._generation.funnel, request, query, options, budget)
        response = pb.RecommendResponse()
        respond.add_items(answer, catalog, response.items)
        spent_ns = budget.now_ns() - budget.begin_ns
        return Replayed(
            item_ids=tuple(item.id for item in response.items),
            scores=tuple(item.score for item in response.items),
            duration_ns=spent_ns,
        )
