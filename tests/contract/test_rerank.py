"""Re-ranking over a real socket, on a server that has no language model."""

from __future__ import annotations

from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub

USER = types.Query(user=types.UserQuery(id="u1"))
RERANK = types.RerankOptions(candidate_count=5)


def test_without_a_language_model_the_order_of_ranking_stands(stub: Stub) -> None:
    plain = stub.Recommend(pb.RecommendRequest(query=USER, limit=8), timeout=10)
    request = pb.RecommendRequest(query=USER, limit=8, rerank=RERANK)
    answer = stub.Recommend(request, timeout=10)
    assert list(answer.items) == list(plain.items)
    (degraded,) = answer.info.degraded
    assert (degraded.stage, degraded.reason) == (
        "rerank",
        types.DEGRADED_REASON_LLM_UNAVAILABLE,
    )
    assert "the server has no language model" in degraded.message
    assert not answer.info.HasField("rerank")
    stages = {stage.name: stage for stage in answer.info.stages}
    assert stages["rerank"].outcome == types.STAGE_OUTCOME_FAILED
    lists = list(stub.StreamRecommend(pb.StreamRecommendRequest(request=request), timeout=10))
    assert [(one.refinement, one.last) for one in lists] == [("", False), ("rerank", True)]
    assert all(list(one.response.items) == list(plain.items) for one in lists)
    batch = stub.BatchRecommend(pb.BatchRecommendRequest(requests=[request]), timeout=10)
    (row,) = batch
    assert list(row.response.items) == list(plain.items)
    assert [one.reason for one in row.response.info.degraded] == [degraded.reason]


def test_debug_says_what_was_asked_with_its_defaults(stub: Stub) -> None:
    request = pb.RecommendRequest(query=USER, rerank=types.RerankOptions(seed=4), debug=True)
    asked = stub.Recommend(request, timeout=10).info.answered_query.rerank
    assert asked == types.RerankOptions(candidate_count=20, passes=1, seed=4)
    plain = stub.Recommend(pb.RecommendRequest(query=USER, debug=True), timeout=10)
    assert not plain.info.answered_query.HasField("rerank")
