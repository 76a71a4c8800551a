"""A server that has a language model put candidates in order: a stub, which a real SDK asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import llm_behaviours as behave
from conftest import RunningServer
from google.protobuf.duration_pb2 import Duration
from llm_providers import url
from llm_stub import LlmStub, reverse_handles
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_server.generation import Generation

PROVIDERS = ("gemini", "openai-compatible")
USER = types.Query(user=types.UserQuery(id="u1"))
SHOWN = 6
SHORT = Duration(nanos=400_000_000)
CALL_S = 30


class World:
    """A server, the language model that it asks, and a channel to the server."""

    def __init__(self, provider: str, bundle: Path, generation: Generation, **llm: Any) -> None:
        self.llm = LlmStub()
        settings = {
            "provider": provider,
            "model": "m-1",
            "base_url": url(provider, self.llm),
            # Behaviours follow each other: none may be spared the next request.
            "cache_bytes": 0,
            "breaker_calls": 10_000,
            "breaker_calls_min": 10_000,
            "price_input_million": 1_000,
            "price_output_million": 2_000,
            **llm,
        }
        self.server = RunningServer(bundle, generation, llm=settings, metrics_listen="127.0.0.1:0")
        self._channel = grpc.insecure_channel(self.server.target)
        self.stub = Stub(self._channel)

    def close(self) -> None:
        self._channel.close()
        self.server.stop()
        self.llm.close()

    def ready(self, *behaviours: behave.Behaviour) -> None:
        self.llm.asked.clear()
        self.llm.rule = reverse_handles("order")
        self.llm.behave(*behaviours or (behave.answer(),))

    def ask(self, how: str, **fields: Any) -> pb.RecommendResponse:
        """The last list of a call."""
        request = request_of(**fields)
        if how == "Recommend":
            return self.stub.Recommend(request, timeout=CALL_S)
        *before, last = self.stub.StreamRecommend(
            pb.StreamRecommendRequest(request=request), timeout=CALL_S
        )
        assert [(one.refinement, one.last) for one in before] == [("", False)]
        assert (last.refinement, last.last) == ("rerank", True)
        assert titles(before[0].response) == titles(self.plain())
        return last.response

    def counted(self, violation: str) -> float:
        """How often answers were wrong in this way, by the metrics."""
        metrics = self.server.metrics
        assert metrics is not None
        name = "shortlist_rerank_violations_total"
        return metrics.registry.get_sample_value(name, {"kind": violation}) or 0.0

    def plain(self) -> pb.RecommendResponse:
        request = request_of()
        request.ClearField("rerank")
        return self.stub.Recommend(request, timeout=CALL_S)

    def shown(self, call: int = -1) -> list[str]:
        """Titles in the order in which the model was shown them."""
        return [one["title"] for one in self.llm.asked[call].data["candidates"]]


def request_of(**rerank: Any) -> pb.RecommendRequest:
    return pb.RecommendRequest(
        query=USER,
        limit=10,
        attributes=["title"],
        rerank=types.RerankOptions(**{"candidate_count": SHOWN, **rerank}),
    )


def titles(response: pb.RecommendResponse) -> list[str]:
    return [item.attributes["title"].string_value for item in response.items]
