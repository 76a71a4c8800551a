"""RecommendationService: check, convert, funnel, convert."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import grpc
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import recommendation_pb2_grpc, types_pb2

from shortlist_server.errors import FieldRequired
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.stages import Rater, Reranker
from shortlist_server.funnel.types import Answer
from shortlist_server.observability.current_call import current_request_id
from shortlist_server.rpc import access, check, convert
from shortlist_server.rpc.funnel_calls import FunnelCalls
from shortlist_server.rpc.generations import Generations
from shortlist_server.rpc.row_error import fill_row_error
from shortlist_server.rpc.shadow import Shadow
from shortlist_server.rpc.snapshot import Snapshot, snapshot_of
from shortlist_server.rpc.write_answer import write_answer
from shortlist_server.runtime.compute import ComputePool

logger = logging.getLogger(__name__)

Request = pb.RecommendRequest | pb.RetrieveRequest | pb.RankRequest | pb.FindSimilarItemsRequest
Response = TypeVar(
    "Response",
    pb.RecommendResponse,
    pb.RetrieveResponse,
    pb.RankResponse,
    pb.FindSimilarItemsResponse,
)
Context = grpc.aio.ServicerContext[Any, Any]


class Recorder(Protocol):
    """Keeps requests with their answers, for replay."""

    def record(
        self, request: Request, items: Any, info: types_pb2.AnswerInfo, duration_ns: int
    ) -> None:
        """Keep a request, if it is among those to be kept; must return at once."""


class RecommendationService(recommendation_pb2_grpc.RecommendationServiceServicer):
    """Answers each request from one snapshot."""

    def __init__(
        self,
        *,
        generations: Callable[[], Generations],
        compute: ComputePool,
        default_timeout_s: float,
        recorder: Recorder | None = None,
        observe: Callable[[Answer, str], None] | None = None,
        shadow: Shadow | None = None,
        reranker: Reranker | None = None,
        rater: Rater | None = None,
    ) -> None:
        """Take what requests are answered from, and the threads to compute in.

        Args:
            generations: Returns what a request that arrives now is answered from.
            compute: Where the funnel runs.
            default_timeout_s: Budget of calls without a deadline.
            recorder: Keeps requests; None where they are not kept.
            observe: Told of each answer, and of the label of the bundle that gave it.
            shadow: Answers recommendations, too; None where none does.
            reranker: Has a language model put candidates in order; None where there is none.
            rater: Has a language model predict ratings; None where there is none.
        """
        self._generations = generations
        self._compute = compute
        self._calls = FunnelCalls(compute, reranker, rater)
        self._default_timeout_s = default_timeout_s
        self._recorder = recorder
        self._observe = observe
        self._shadow = shadow

    async def Recommend(
        self, request: pb.RecommendRequest, context: Context
    ) -> pb.RecommendResponse:
        """Run the whole funnel."""
        budget = self._budget(context)
        access.check_details(request)
        check.recommend_request(request)
        at = await self._snapshot(request, budget)
        query, options = convert.query(request.query), convert.recommend_options(request)
        answer = await self._calls.recommend(at.funnel, query, options, budget)
        response = self._filled(at, request, pb.RecommendResponse(), answer, options, budget)
        # A shadow asks no language model: its list would differ by that alone.
        if self._shadow is not None and options.rerank is None:
            self._shadow.watch(at, query, options, answer)
        return response

    async def StreamRecommend(
        self, request: pb.StreamRecommendRequest, context: Context
    ) -> AsyncIterator[pb.StreamRecommendResponse]:
        """Run the whole funnel; send the list when it is ranked, and again when it is refined."""
        budget = self._budget(context)
        if not request.HasField("request"):
            raise FieldRequired("request", expected="a RecommendRequest", got="none")
        asked = request.request
        access.check_details(asked)
        check.recommend_request(asked)
        at = await self._snapshot(asked, budget)
        query, options = convert.query(asked.query), convert.recommend_options(asked)
        async for step in self._calls.stream(at.funnel, query, options, budget):
            message = pb.StreamRecommendResponse(refinement=step.refinement, last=step.last)
            self._filled(
                at, asked if step.last else None, message.response, step.answer, options, budget
            )
            yield message

    async def BatchRecommend(
        self, request: pb.BatchRecommendRequest, context: Context
    ) -> AsyncIterator[pb.BatchRecommendResponse]:
        """Run the whole funnel for each row, behind the single calls."""
        call = self._budget(context, rows=len(request.requests))
        check.batch_recommend_request(request)
        access.charge_rows(len(request.requests))
        request_id = current_request_id.get()
        for index, row in enumerate(request.requests):
            call.check("batch")
            message = pb.BatchRecommendResponse(index=index)
            row_id = f"{request_id}/{index}"
            try:
                access.check_details(row)
                check.recommend_request(row)
                query, options = convert.query(row.query), convert.recommend_options(row)
                budget = Budget(min(call.left_s, self._default_timeout_s))
                at = await self._snapshot(row, budget, row_id)
                answer = await self._calls.recommend(at.funnel, query, options, budget, behind=True)
                self._filled(at, row, message.response, answer, options, budget, request_id=row_id)
            except Exception as error:
                call.check("batch")
                fill_row_error(message.error, error, row_id)
            yield message

    async def Retrieve(self, request: pb.RetrieveRequest, context: Context) -> pb.RetrieveResponse:
        """Return candidates only."""
        budget = self._budget(context)
        access.check_details(request)
        check.retrieve_request(request)
        at = await self._snapshot(request, budget)
        query, options = convert.query(request.query), convert.retrieve_options(request)
        compute = self._compute.of(waits=at.funnel.waits(query, options))
        answer = await compute(at.funnel.retrieve, query, options, budget)
        return self._filled(at, request, pb.RetrieveResponse(), answer, options, budget)

    async def Rank(self, request: pb.RankRequest, context: Context) -> pb.RankResponse:
        """Score the items that the caller names."""
        budget = self._budget(context)
        access.check_details(request)
        check.rank_request(request)
        at = await self._snapshot(request, budget)
        query, options = convert.query(request.query), convert.rank_options(request)
        answer = await self._calls.rank(at.funnel, query, tuple(request.item_ids), options, budget)
        response = pb.RankResponse(unknown_item_ids=answer.unknown_item_ids)
        return self._filled(at, request, response, answer, options, budget)

    async def FindSimilarItems(
        self, request: pb.FindSimilarItemsRequest, context: Context
    ) -> pb.FindSimilarItemsResponse:
        """Return the items nearest to one item."""
        budget = self._budget(context)
        access.check_details(request)
        check.find_similar_items_request(request)
        at = await self._snapshot(request, budget)
        query, options = convert.similar_query(request), convert.similar_options(request)
        answer = await self._compute.run(at.funnel.retrieve, query, options, budget)
        return self._filled(at, request, pb.FindSimilarItemsResponse(), answer, options, budget)

    async def _snapshot(self, request: Request, budget: Budget, request_id: str = "") -> Snapshot:
        """Return what a request is answered from: the bundle whose turn it is, as it stands at the
        revision that the request asks for.
        """
        # Asked about an item, not for a user.
        user_id = "" if isinstance(request, pb.FindSimilarItemsRequest) else request.query.user.id
        label, serving = self._generations().choose(
            label=request.bundle_label,
            user_id=user_id,
            request_id=request_id or current_request_id.get(),
        )
        at = await snapshot_of(serving, request.min_revision, budget)
        return at if at.label == label else replace(at, label=label)

    def _budget(self, context: Context, *, rows: int = 1) -> Budget:
        remaining = context.time_remaining()
        return Budget(self._default_timeout_s * rows if remaining is None else remaining)

    def _filled(
        self,
        at: Snapshot,
        request: Request | None,
        response: Response,
        answer: Answer,
        options: Options,
        budget: Budget,
        *,
        request_id: str = "",
    ) -> Response:
        """Write an answer into a response, count it, and keep both where requests are kept;
        `request` is None where this is not the whole answer to it.
        """
        last = write_answer(at, answer, options, budget, response, request_id=request_id)
        if self._observe is not None and request is not None:
            self._observe(replace(answer, stages=(*answer.stages, last)), at.label)
        if self._recorder is not None and request is not None:
            spent_ns = budget.now_ns() - budget.begin_ns
            self._recorder.record(request, response.items, response.info, spent_ns)
        return response
