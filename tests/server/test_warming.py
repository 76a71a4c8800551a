"""How hard a server is asked for many users; the server here answers by a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import recommendation_pb2_grpc
from shortlist.v1 import types_pb2 as types
from shortlist_server.errors import ConfigError
from shortlist_server.warming import Tally, WarmOptions, warm

ASKED = types.RerankInfo(prompt="rerank@1", input_token_count=7, price=0.5)
Script = Callable[[int, Any], Any]


class Servicer(recommendation_pb2_grpc.RecommendationServiceServicer):
    """Does what the script says of each call, the first being 0."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def Recommend(self, request: pb.RecommendRequest, context: Any) -> Any:  # noqa: N802
        self.calls.append((request.query.user.id, dict(context.invocation_metadata())))
        await self._script(len(self.calls) - 1, context)
        return pb.RecommendResponse(info=types.AnswerInfo(rerank=ASKED))


async def always(call: int, context: Any) -> None:
    """Answer."""


async def requests(count: int) -> AsyncIterator[pb.RecommendRequest]:
    for number in range(count):
        yield pb.RecommendRequest(query=types.Query(user=types.UserQuery(id=f"u{number}")))


async def warmed(script: Any, count: int, **options: Any) -> tuple[Tally, Servicer, list[float]]:
    servicer, server = Servicer(script), grpc.aio.server()
    recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    try:
        chosen = WarmOptions(**{"target": f"127.0.0.1:{port}", "concurrency": 1, **options})
        tally = await warm(requests(count), chosen, sleep=sleep)
    finally:
        await server.stop(0)
    return tally, servicer, pauses


def run(script: Any, count: int, **options: Any) -> tuple[Tally, Servicer, list[float]]:
    return asyncio.run(warmed(script, count, **options))


def test_users_are_asked_for_no_faster_than_allowed() -> None:
    tally, servicer, pauses = run(always, 4, per_second=0.001)
    assert (tally.user_count, tally.asked_count, tally.price) == (4, 4, 2.0)
    assert [user for user, _ in servicer.calls] == ["u0", "u1", "u2", "u3"]
    # Of 1,000 s each, less than what has passed since.
    assert pauses[0] == 0
    assert [round(pause, -3) for pause in pauses[1:]] == [1_000, 2_000, 3_000]


def test_the_calls_say_who_they_are() -> None:
    _, servicer, _ = run(always, 2, api_key="sl_key")
    ids = [metadata["x-request-id"] for _, metadata in servicer.calls]
    assert ids == ["prewarm/0", "prewarm/1"]
    assert {metadata["authorization"] for _, metadata in servicer.calls} == {"Bearer sl_key"}


async def busy_at_first(call: int, context: Any) -> None:
    if call < 2:
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=Duration(seconds=7 + call, nanos=500_000_000)))
        status = Status(code=8, message="busy", details=[detail])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")


def test_a_server_with_too_much_to_do_is_asked_again_when_it_says() -> None:
    tally, servicer, pauses = run(busy_at_first, 1)
    assert len(servicer.calls) == 3
    assert pauses[1:] == [7.5, 8.5]
    assert (tally.asked_count, tally.failed_count) == (1, 0)


async def always_busy(call: int, context: Any) -> None:
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")


def test_it_is_not_asked_for_ever() -> None:
    tally, servicer, pauses = run(always_busy, 5, failures_max=2)
    assert len(servicer.calls) == 8
    assert [pause for pause in pauses if pause >= 1][:3] == [1, 2, 4]
    assert dict(tally.failed) == {"RESOURCE_EXHAUSTED": 2}
    assert "stopped after 2 failures in a row, the last: RESOURCE_EXHAUSTED: busy" in tally.stopped


async def refused(call: int, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "expected a key")


def test_who_is_refused_asks_for_nobody_else() -> None:
    with pytest.raises(ConfigError, match="expected a key"):
        run(refused, 5)


async def every_other(call: int, context: Any) -> None:
    if call % 2:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")


def test_failures_that_are_not_in_a_row_do_not_stop_it() -> None:
    tally, _, _ = run(every_other, 6, failures_max=2)
    assert (tally.asked_count, tally.failed_count, tally.stopped) == (3, 3, "")
    assert "3 failed (INVALID_ARGUMENT 3)" in tally.as_text()
