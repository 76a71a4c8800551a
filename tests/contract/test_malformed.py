"""Bytes that are no message: every method refuses them by name, and answers the next caller."""

from __future__ import annotations

import random
from collections import Counter

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from shortlist.v1 import bundle_pb2, catalog_pb2, recommendation_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_server.access.api_keys import Scope
from shortlist_server.rpc.access import METHOD_SCOPES

EVERY_METHOD = [
    method
    for file in (recommendation_pb2, bundle_pb2, catalog_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
OF_ADMINS = [
    method
    for method in EVERY_METHOD
    if METHOD_SCOPES[f"/{method.containing_service.full_name}/{method.name}"] == (Scope.ADMIN,)
]
METHODS = [method for method in EVERY_METHOD if method not in OF_ADMINS]
NOT_TO_BE = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}


def end_of(channel: grpc.Channel, method: object, data: bytes) -> grpc.RpcError | None:
    path = f"/{method.containing_service.full_name}/{method.name}"
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    call = make(path, request_serializer=bytes, response_deserializer=bytes)
    try:
        answer = call(data, timeout=10)
        if method.server_streaming:
            list(answer)
    except grpc.RpcError as error:
        return error
    return None


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_bytes_that_are_no_message_are_refused_by_name(
    channel: grpc.Channel, method: object
) -> None:
    error = end_of(channel, method, b"\xff\xff\xff\xff")
    assert error is not None
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details().startswith("request: expected a message of the method's type, got ")
    assert "INVALID_VALUE" in str(error.trailing_metadata())


@pytest.mark.parametrize("method", OF_ADMINS, ids=lambda method: method.name)
def test_what_only_admins_may_call_is_refused_before_it_is_read(
    channel: grpc.Channel, method: object
) -> None:
    error = end_of(channel, method, b"\xff\xff\xff\xff")
    assert error is not None
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_arbitrary_bytes_are_no_fault_of_the_server(
    channel: grpc.Channel, stub: Stub, method: object
) -> None:
    draw = random.Random(method.name)
    ends: Counter[grpc.StatusCode] = Counter()
    for _ in range(100):
        error = end_of(channel, method, draw.randbytes(draw.randint(0, 60)))
        ends[grpc.StatusCode.OK if error is None else error.code()] += 1
    assert not NOT_TO_BE & set(ends), ends
    assert ends[grpc.StatusCode.INVALID_ARGUMENT] > 20
    query = types.Query(user=types.UserQuery(id="u1"))
    assert len(stub.Recommend(pb.RecommendRequest(query=query, limit=3), timeout=10).items) == 3


@pytest.mark.parametrize(
    "path",
    [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_bytes_that_are_no_message_to_grpcs_own_services_are_unknown(
    channel: grpc.Channel, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    call = channel.stream_stream(path, request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b"\xff\xff\xff\xff"]), timeout=10))
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert not [key for key, _ in caught.value.trailing_metadata() or () if "details" in key]
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert [record for record in caplog.records if record.exc_info] == []
