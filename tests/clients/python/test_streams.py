"""Answers that come one by one, from both clients."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from shortlist.v1 import errors_pb2, recommendation_pb2
from shortlist_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    Internal,
    InvalidValue,
    NotFound,
    OutOfRange,
    Overloaded,
    RecommendRequest,
    ShortlistError,
    UnknownItem,
    calls,
    stream_calls,
)

if TYPE_CHECKING:
    from tests.clients.python.conftest import Ask, FakeServer, Hang
    from tests.clients.python.conftest import Failure as FailureType

    MakeFailure = Callable[..., FailureType]

Code = grpc.StatusCode
ROWS = [RecommendRequest(user="42"), RecommendRequest(user="43", limit=3)]


def row(index: int, **fields: Any) -> recommendation_pb2.BatchRecommendResponse:
    fields = fields or {"response": recommendation_pb2.RecommendResponse()}
    return recommendation_pb2.BatchRecommendResponse(index=index, **fields)


def row_error(code: grpc.StatusCode, reason: str = "", **metadata: str) -> Any:
    number = errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason or 'UNSPECIFIED'}")
    return recommendation_pb2.RowError(
        code=code.value[0], message="what is wrong", reason=number, metadata=metadata
    )


def listed(refinement: str = "", *, last: bool = False) -> Any:
    return recommendation_pb2.StreamRecommendResponse(refinement=refinement, last=last)


def test_rows_are_sent_as_they_would_be_alone(ask: Ask, fake_server: FakeServer) -> None:
    ask("recommend_batch", ROWS, request_id="mine", timeout_s=30)
    sent = fake_server.received[0]
    expected = [calls.recommend(user="42").request, calls.recommend(user="43", limit=3).request]
    assert sent.request == recommendation_pb2.BatchRecommendRequest(requests=expected)
    assert sent.metadata["x-request-id"] == "mine"
    assert 20 < sent.time_remaining_s < 32


def test_a_row_has_the_fields_and_defaults_of_recommend_but_those_of_the_call() -> None:
    arguments = dict(inspect.signature(calls.recommend).parameters)
    del arguments["timeout_s"], arguments["request_id"]
    assert [(field.name, field.default) for field in dataclasses.fields(RecommendRequest)] == [
        (name, argument.default) for name, argument in arguments.items()
    ]
    annotations = {field.name: field.type for field in dataclasses.fields(RecommendRequest)}
    assert annotations == {name: argument.annotation for name, argument in arguments.items()}


def test_rows_come_in_the_order_of_their_answers_with_their_index(
    ask: Ask, fake_server: FakeServer
) -> None:
    fake_server.script([row(1), row(0)])
    answers = ask("recommend_batch", ROWS)
    assert [index for index, _ in answers] == [1, 0]


def test_the_error_of_a_row_is_returned_in_its_place_and_typed_like_that_of_a_call(
    ask: Ask, fake_server: FakeServer
) -> None:
    refused = row_error(
        Code.INVALID_ARGUMENT, "OUT_OF_RANGE", field="limit", expected="1..500", got="501"
    )
    fake_server.script(
        [
            row(0, error=refused),
            row(1, error=row_error(Code.NOT_FOUND, "UNKNOWN_ITEM")),
            row(2, error=row_error(Code.INVALID_ARGUMENT, "UNKNOWN_ITEM")),
            row(3, error=row_error(Code.RESOURCE_EXHAUSTED, "OVERLOADED")),
            row(4, error=row_error(Code.INTERNAL, "INTERNAL", request_id="theirs")),
            row(5, error=recommendation_pb2.RowError(code=5, reason=99)),  # type: ignore[arg-type]  # any number may come
            row(6, error=recommendation_pb2.RowError(code=99)),
            recommendation_pb2.BatchRecommendResponse(index=7),
            row(8),
        ]
    )
    answers = dict(ask("recommend_batch", ROWS, request_id="mine"))
    errors = [answers[index] for index in range(8)]
    assert [type(error) for error in errors] == [
        *(OutOfRange, NotFound, UnknownItem, Overloaded, Internal, NotFound),
        *(Internal, Internal),
    ]
    assert (errors[0].field, errors[0].expected, errors[0].got) == ("limit", "1..500", "501")
    assert (errors[0].code, errors[0].reason) == (Code.INVALID_ARGUMENT, "OUT_OF_RANGE")
    assert (errors[5].code, errors[5].reason) == (Code.NOT_FOUND, "")
    assert [error.request_id for error in errors] == ["mine"] * 4 + ["theirs"] + ["mine"] * 3
    assert not isinstance(answers[8], ShortlistError)


@pytest.mark.parametrize("reason", errors_pb2.ErrorReason.keys()[1:])
def test_a_row_and_a_call_make_the_same_error_of_every_reason(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure, reason: str
) -> None:
    name = reason.removeprefix("ERROR_REASON_")
    fake_server.script(
        failure(Code.INVALID_ARGUMENT, name), [row(0, error=row_error(Code.INVALID_ARGUMENT, name))]
    )
    with pytest.raises(ShortlistError) as caught:
        ask("recommend", user="42")
    ((_, error),) = ask("recommend_batch", ROWS)
    assert type(error) is type(caught.value)


def test_what_ends_the_whole_call_is_raised_after_the_answers_before_it(
    fake_server: FakeServer, failure: MakeFailure
) -> None:
    fake_server.script([row(0), failure(Code.INTERNAL, "INTERNAL", request_id="5f0c")])
    with Client(fake_server.target) as client:
        rows = client.recommend_batch(ROWS)
        assert next(rows)[0] == 0
        with pytest.raises(Internal, match="what is wrong") as caught:
            next(rows)
        assert caught.value.request_id == "5f0c"
        assert list(rows) == []


async def test_what_ends_the_whole_async_call_is_raised_after_the_answers_before_it(
    fake_server: FakeServer, failure: MakeFailure
) -> None:
    fake_server.script([row(0), failure(Code.INTERNAL, "INTERNAL", request_id="5f0c")])
    async with AsyncClient(fake_server.target) as client:
        rows = client.recommend_batch(ROWS)
        assert (await anext(rows))[0] == 0
        with pytest.raises(Internal, match="what is wrong") as caught:
            await anext(rows)
        assert caught.value.request_id == "5f0c"
        assert [row async for row in rows] == []


@pytest.mark.parametrize("method", ["recommend_batch", "stream_recommend"])
def test_a_stream_that_takes_too_long_ends_at_its_deadline(
    ask: Ask, fake_server: FakeServer, hang: Hang, method: str
) -> None:
    fake_server.script([hang])
    arguments = [ROWS] if method == "recommend_batch" else []
    with pytest.raises(DeadlineExceeded, match=r"gave no answer within 0\.05 s"):
        ask(method, *arguments, timeout_s=0.05)
    assert hang.given_up.wait(timeout=5)


def test_a_stream_is_tried_again_while_it_has_not_begun(
    ask: Ask, fake_server: FakeServer, failure: MakeFailure
) -> None:
    fake_server.script(failure(Code.UNAVAILABLE), [row(0)])
    assert len(ask("recommend_batch", ROWS)) == 1
    assert len(fake_server.received) == 2


def test_lists_come_as_they_are_refined(ask: Ask, fake_server: FakeServer) -> None:
    fake_server.script([listed(), listed("diversity", last=True)])
    answers = ask("stream_recommend", user="42", diversity=0.5, request_id="mine")
    assert [(answer.refinement, answer.last) for answer in answers] == [
        ("", False),
        ("diversity", True),
    ]
    sent = fake_server.received[0]
    expected = calls.recommend(user="42", diversity=0.5).request
    assert sent.request == recommendation_pb2.StreamRecommendRequest(request=expected)
    assert sent.metadata["x-request-id"] == "mine"


def test_closing_a_stream_ends_the_call_on_the_server(fake_server: FakeServer, hang: Hang) -> None:
    fake_server.script([listed(), hang])
    with Client(fake_server.target, timeout_s=30) as client:
        stream = client.stream_recommend(user="42")
        next(stream)
        stream.close()
        assert hang.given_up.wait(timeout=5)
        assert list(stream) == []
        stream.close()


def test_a_block_ends_its_stream(fake_server: FakeServer, hang: Hang) -> None:
    fake_server.script([row(0), hang])
    with Client(fake_server.target, timeout_s=30) as client:
        with client.recommend_batch(ROWS) as rows:
            next(rows)
        assert hang.given_up.wait(timeout=5)


def test_a_loop_that_is_left_ends_its_stream(fake_server: FakeServer, hang: Hang) -> None:
    fake_server.script([row(0), hang])
    with Client(fake_server.target, timeout_s=30) as client:
        for _ in client.recommend_batch(ROWS):
            break
        assert hang.given_up.wait(timeout=5)


def test_a_stream_closed_by_another_thread_ends_for_the_one_that_waits(
    fake_server: FakeServer, hang: Hang
) -> None:
    fake_server.script([hang])
    got: list[object] = []
    with Client(fake_server.target, timeout_s=30) as client:
        stream = client.stream_recommend(user="42")
        waiting = threading.Thread(target=lambda: got.append(list(stream)))
        waiting.start()
        assert fake_server.called.wait(timeout=5)
        stream.close()
        waiting.join(timeout=5)
    assert got == [[]]


async def test_closing_an_async_stream_ends_the_call_on_the_server(
    fake_server: FakeServer, hang: Hang
) -> None:
    fake_server.script([listed(), hang])
    async with AsyncClient(fake_server.target, timeout_s=30) as client:
        async with client.stream_recommend(user="42") as stream:
            await anext(stream)
        assert await asyncio.to_thread(hang.given_up.wait, 5)
        assert [answer async for answer in stream] == []
        await stream.aclose()


async def test_cancelling_the_task_that_waits_ends_the_call_on_the_server(
    fake_server: FakeServer, hang: Hang
) -> None:
    fake_server.script([hang])
    async with AsyncClient(fake_server.target, timeout_s=30) as client:
        stream = client.recommend_batch(ROWS)
        waiting = asyncio.create_task(anext(stream))
        assert await asyncio.to_thread(fake_server.called.wait, 5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asyncio.to_thread(hang.given_up.wait, 5)


def test_a_response_that_cannot_be_read_is_an_internal_error(
    ask: Ask, fake_server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    # A message of another type whose fields clash: `response` holds a string that is no message.
    fake_server.script([recommendation_pb2.FindSimilarItemsRequest(item_id="\x7f")])
    with pytest.raises(Internal) as caught:
        ask("stream_recommend", user="42", request_id="mine")
    assert caught.value.request_id == "mine"


def test_a_closed_client_begins_no_stream(fake_server: FakeServer) -> None:
    client = Client(fake_server.target)
    client.close()
    with pytest.raises(RuntimeError, match="the client is closed"):
        client.recommend_batch(ROWS)


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        (RecommendRequest(user="42"), "requests"),
        (7, "requests"),
        ([RecommendRequest(), {"user": "42"}], "requests[1]"),
        ([RecommendRequest(), RecommendRequest(limit="7")], "requests[1].limit"),  # type: ignore[arg-type]  # on purpose
        ([RecommendRequest(user=42)], "requests[0].query.user.id"),  # type: ignore[arg-type]  # on purpose
    ],
)
def test_a_row_that_the_wire_cannot_hold_is_refused_by_its_index(requests: Any, field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        stream_calls.recommend_batch(requests)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: expected ")
