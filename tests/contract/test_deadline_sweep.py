"""Deadlines from 1 ms to 1 s over a real socket: each answer is right or DEADLINE_EXCEEDED."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from altered_funnel import AlteredSource, altered, kinds_of
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_server.generation import Generation

DEADLINES_S = np.geomspace(1e-3, 1.0, 25).tolist()
REPEATS = 3


@pytest.fixture(scope="module")
def slow(tiny_bundle: Path, generation: Generation, server: Any) -> Iterator[Stub]:
    """A server whose nearest source takes some milliseconds, and whose popularity waits for
    something else some more.
    """
    never = threading.Event()
    kinds = kinds_of(generation)
    changed = altered(
        generation,
        kinds={
            "nearest": AlteredSource(kinds["nearest"], lambda ask: bool(never.wait(0.004))),
            "popularity": AlteredSource(
                kinds["popularity"], lambda ask: bool(never.wait(0.04)), waits=True
            ),
        },
    )
    running = type(server)(tiny_bundle, changed)
    with grpc.insecure_channel(running.target) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        yield Stub(channel)
    running.stop()


def request_of(*, popular: bool = True, diversity: float = 0.5) -> pb.RecommendRequest:
    sources = [types.SourceOptions(nearest=types.NearestSource(), candidate_count=20)]
    if popular:
        sources.append(types.SourceOptions(popularity=types.PopularitySource(), candidate_count=20))
    return pb.RecommendRequest(
        query=types.Query(user=types.UserQuery(id="u1")),
        limit=20,
        sources=sources,
        selection=types.SelectionOptions(diversity=diversity),
        filter=types.Filter(exists=types.ExistsCondition(attribute="year")),
    )


def listed(response: pb.RecommendResponse) -> list[tuple[str, float]]:
    return [(item.id, item.score) for item in response.items]


def test_each_answer_is_right_or_its_deadline_exceeded(slow: Stub, stub: Stub) -> None:
    expected = {
        (popular, diverse): listed(
            stub.Recommend(request_of(popular=popular, diversity=0.5 * diverse), timeout=20)
        )
        for popular in (True, False)
        for diverse in (True, False)
    }
    assert len({tuple(answer) for answer in expected.values()}) == 4
    outcomes: Counter[str] = Counter()
    for deadline_s in DEADLINES_S * REPEATS:
        try:
            answer = slow.Recommend(request_of(), timeout=deadline_s)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017
            outcomes["exceeded"] += 1
            continue
        left_out = {(one.stage, one.source) for one in answer.info.degraded}
        assert left_out <= {("retrieval", "popularity"), ("diversity", "")}
        assert all(one.reason == types.DEGRADED_REASON_OUT_OF_TIME for one in answer.info.degraded)
        popular = ("retrieval", "popularity") not in left_out
        assert listed(answer) == expected[popular, ("diversity", "") not in left_out]
        if len(answer.items) < 20:
            assert answer.info.shortfall_reason == types.SHORTFALL_REASON_SOURCES_EXHAUSTED
        outcomes["degraded" if left_out else "whole"] += 1
    assert set(outcomes) == {"exceeded", "degraded", "whole"}


def test_each_list_of_a_stream_is_right_or_its_deadline_exceeded(slow: Stub, stub: Stub) -> None:
    request = pb.StreamRecommendRequest(request=request_of(popular=False))
    first, last = (listed(one.response) for one in stub.StreamRecommend(request, timeout=20))
    counts: Counter[int] = Counter()
    for deadline_s in DEADLINES_S:
        received = []
        try:
            for one in slow.StreamRecommend(request, timeout=deadline_s):
                received.append(one)  # noqa: PERF402  # those before the error count
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017
        for one in received:
            whole = one.last and not one.response.info.degraded
            assert listed(one.response) == (last if whole else first)
        counts[len(received)] += 1
    assert counts[0]
    assert counts[2]


def test_each_row_of_a_batch_is_right_or_its_deadline_exceeded(slow: Stub, stub: Stub) -> None:
    request = request_of(popular=False, diversity=0.0)
    expected = listed(stub.Recommend(request, timeout=20))
    batch = pb.BatchRecommendRequest(requests=[request] * 20)
    counts: set[int] = set()
    for deadline_s in DEADLINES_S:
        received = []
        try:
            for one in slow.BatchRecommend(batch, timeout=deadline_s):
                received.append(one)  # noqa: PERF402  # those before the error count
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: PT017
        assert [one.index for one in received] == list(range(len(received)))
        assert all(listed(one.response) == expected for one in received)
        counts.add(len(received))
    assert {0, 20} <= counts
    assert len(counts) > 2
