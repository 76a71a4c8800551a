"""RecommendationService: check, convert, funnel, convert."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import recommendation_pb2_grpc, types_pb2

from shortlist_server.catalog.catalog import BundleCatalog
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.funnel import Funnel
from shortlist_server.funnel.types import Answer, Outcome, StageReport
from shortlist_server.rpc import check, convert
from shortlist_server.rpc.interceptors import current_request_id
from shortlist_server.runtime.compute import ComputePool

Response = TypeVar(
    "Response",
    pb.RecommendResponse,
    pb.RetrieveResponse,
    pb.RankResponse,
    pb.FindSimilarItemsResponse,
)
Context = grpc.aio.ServicerContext[Any, Any]


class RecommendationService(recommendation_pb2_grpc.RecommendationServiceServicer):
    """Answers from one bundle."""

    def __init__(
        self,
        *,
        funnel: Funnel,
        catalog: BundleCatalog,
        identity: types_pb2.BundleId,
        compute: ComputePool,
        default_timeout_s: float,
    ) -> None:
        """Take the parts of one bundle and the threads to compute in."""
        self._funnel = funnel
        self._catalog = catalog
        self._identity = identity
        self._compute = compute
        self._default_timeout_s = default_timeout_s

    async def Recommend(
        self, request: pb.RecommendRequest, context: Context
    ) -> pb.RecommendResponse:
        """Run the whole funnel."""
        budget = self._budget(context)
        check.recommend_request(request)
        query, options = convert.query(request.query), convert.recommend_options(request)
        answer = await self._compute.run(self._funnel.recommend, query, options, budget)
        return self._filled(pb.RecommendResponse(), answer, budget)

    async def Retrieve(self, request: pb.RetrieveRequest, context: Context) -> pb.RetrieveResponse:
        """Return candidates only."""
        budget = self._budget(context)
        check.retrieve_request(request)
        query, options = convert.query(request.query), convert.retrieve_options(request)
        answer = await self._compute.run(self._funnel.retrieve, query, options, budget)
        return self._filled(pb.RetrieveResponse(), answer, budget)

    async def Rank(self, request: pb.RankRequest, context: Context) -> pb.RankResponse:
        """Score the items that the caller names."""
        budget = self._budget(context)
        check.rank_request(request)
        query, options = convert.query(request.query), convert.rank_options(request)
        answer = await self._compute.run(
            self._funnel.rank, query, tuple(request.item_ids), options, budget
        )
        response = pb.RankResponse(unknown_item_ids=answer.unknown_item_ids)
        return self._filled(response, answer, budget)

    async def FindSimilarItems(
        self, request: pb.FindSimilarItemsRequest, context: Context
    ) -> pb.FindSimilarItemsResponse:
        """Return the items nearest to one item."""
        budget = self._budget(context)
        check.find_similar_items_request(request)
        query, options = convert.similar_query(request), convert.similar_options(request)
        answer = await self._compute.run(self._funnel.retrieve, query, options, budget)
        return self._filled(pb.FindSimilarItemsResponse(), answer, budget)

    def _budget(self, context: Context) -> Budget:
        remaining = context.time_remaining()
        return Budget(self._default_timeout_s if remaining is None else remaining)

    def _filled(self, response: Response, answer: Answer, budget: Budget) -> Response:
        begin_ns = budget.now_ns()
        convert.add_items(answer, self._catalog, response.items)
        last = StageReport(
            name="response",
            duration_ns=budget.now_ns() - begin_ns,
            items_in=len(response.items),
            items_out=len(response.items),
            outcome=Outcome.OK,
            plan=f"{len(answer.attributes)} attributes",
        )
        convert.fill_info(answer, last, self._identity, current_request_id.get(), response.info)
        return response
