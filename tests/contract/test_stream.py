"""StreamRecommend over a real socket: the ranked list first, its refinement after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from altered_funnel import altered
from shortlist.v1 import bundle_pb2, bundle_pb2_grpc
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_server.generation import Generation

USER = types.Query(user=types.UserQuery(id="u1"))


def request_of(diversity: float, **fields: Any) -> pb.RecommendRequest:
    selection = types.SelectionOptions(
        diversity=diversity,
        caps=[types.Cap(attribute="genres", item_count_max=6)],
        pinned_items=[types.PinnedItem(item_id="i20", position=2)],
        exploration=types.Exploration(temperature=0.3, seed=11),
    )
    return pb.RecommendRequest(query=USER, limit=10, selection=selection, **fields)


def streamed(stub: Stub, request: pb.RecommendRequest) -> list[pb.StreamRecommendResponse]:
    return list(stub.StreamRecommend(pb.StreamRecommendRequest(request=request), timeout=10))


def ids(response: pb.RecommendResponse) -> list[str]:
    return [item.id for item in response.items]


def test_the_first_list_is_the_plain_one_and_the_last_that_of_recommend(stub: Stub) -> None:
    first, last = streamed(stub, request_of(0.6))
    plain = stub.Recommend(request_of(0.0), timeout=10)
    diverse = stub.Recommend(request_of(0.6), timeout=10)
    assert (first.refinement, first.last) == ("", False)
    assert (last.refinement, last.last) == ("diversity", True)
    assert list(first.response.items) == list(plain.items)
    assert list(last.response.items) == list(diverse.items)
    assert ids(plain) != ids(diverse)
    stages = [[stage.name for stage in one.response.info.stages] for one in (first, last)]
    begin = ["admission", "query", "retrieval", "ranking"]
    assert stages == [
        [*begin, "select", "response"],
        [*begin, "diversity", "select", "response"],
    ]
    assert first.response.info.request_id == last.response.info.request_id


def test_without_diversity_there_is_one_list(stub: Stub) -> None:
    (only,) = streamed(stub, request_of(0.0))
    assert (only.refinement, only.last) == ("", True)
    assert list(only.response.items) == list(stub.Recommend(request_of(0.0), timeout=10).items)


def test_both_lists_are_drawn_with_one_seed(stub: Stub) -> None:
    request = request_of(0.5)
    request.selection.exploration.ClearField("seed")
    first, last = streamed(stub, request)
    seed = first.response.info.seed
    assert last.response.info.seed == seed
    request.selection.exploration.seed = seed
    assert list(stub.Recommend(request, timeout=10).items) == list(last.response.items)


class Encoder:
    """The real encoder; diversity, which asks it for directions, waits."""

    def __init__(self, own: Any) -> None:
        self._own = own
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.step_count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def directions(self, rows: Any) -> Any:
        self.step_count += 1
        self.begun.set()
        assert self.go_on.wait(timeout=20)
        return self._own.directions(rows)


@pytest.fixture
def stalled(
    tiny_bundle: Path, generation: Generation, server: Any
) -> Iterator[tuple[Encoder, grpc.Channel]]:
    """A server whose diversity waits, and a channel to it."""
    encoder = Encoder(generation.funnel._encoder)
    running = type(server)(tiny_bundle, altered(generation, encoder=encoder))
    with grpc.insecure_channel(running.target) as channel:
        yield encoder, channel
    encoder.go_on.set()
    running.stop()


def test_the_first_list_is_there_before_its_refinement_is_done(
    stalled: tuple[Encoder, grpc.Channel],
) -> None:
    encoder, channel = stalled
    call = Stub(channel).StreamRecommend(
        pb.StreamRecommendRequest(request=request_of(0.6)), timeout=20
    )
    assert len(next(call).response.items) == 10
    assert not encoder.go_on.is_set()
    encoder.go_on.set()
    assert next(call).last


def test_a_deadline_between_the_lists_ends_the_stream_in_its_status(
    stalled: tuple[Encoder, grpc.Channel],
) -> None:
    _, channel = stalled
    call = Stub(channel).StreamRecommend(
        pb.StreamRecommendRequest(request=request_of(0.6)), timeout=0.5
    )
    assert not next(call).last
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_stream_whose_caller_has_gone_is_not_refined(
    generation: Generation, stalled: tuple[Encoder, grpc.Channel]
) -> None:
    encoder, channel = stalled
    stub, bundle = Stub(channel), bundle_pb2_grpc.BundleServiceStub(channel)
    call = stub.StreamRecommend(pb.StreamRecommendRequest(request=request_of(0.6)), timeout=20)
    next(call)
    assert encoder.begun.wait(timeout=10)
    call.cancel()
    for _ in range(3):
        bundle.GetActiveBundle(bundle_pb2.GetActiveBundleRequest(), timeout=10)
    encoder.go_on.set()
    begun = encoder.step_count
    assert len(stub.Recommend(request_of(0.0), timeout=10).items) == 10
    assert encoder.step_count <= begun + 1  # what had begun may end


def test_a_refinement_takes_no_place_from_calls_without_a_list_and_is_not_refused(
    tiny_bundle: Path, generation: Generation, server: Any
) -> None:
    encoder = Encoder(generation.funnel._encoder)
    altered_generation = altered(generation, encoder=encoder)
    running = type(server)(tiny_bundle, altered_generation, compute_threads=1, waiting_max=0)
    with grpc.insecure_channel(running.target) as channel:
        stub = Stub(channel)
        call = stub.StreamRecommend(pb.StreamRecommendRequest(request=request_of(0.6)), timeout=20)
        assert not next(call).last
        assert encoder.begun.wait(timeout=10)
        other = stub.Recommend.future(request_of(0.0), timeout=20)
        # It is in, behind the refinement: one more call is refused.
        while running.compute.admitted_count == 0:
            assert not other.done()
        with pytest.raises(grpc.RpcError) as caught:
            stub.Recommend(request_of(0.0), timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        encoder.go_on.set()
        assert next(call).last
        assert len(other.result().items) == 10
    running.stop()
