"""What the contract tests share: stubs to the tiny world, and errors taken apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from shortlist.v1 import bundle_pb2_grpc, errors_pb2, recommendation_pb2_grpc


@pytest.fixture(scope="session")
def stub(channel: grpc.Channel) -> recommendation_pb2_grpc.RecommendationServiceStub:
    return recommendation_pb2_grpc.RecommendationServiceStub(channel)


@pytest.fixture(scope="session")
def bundle_stub(channel: grpc.Channel) -> bundle_pb2_grpc.BundleServiceStub:
    return bundle_pb2_grpc.BundleServiceStub(channel)


@dataclass(frozen=True)
class Refusal:
    """How a call ended that was refused."""

    code: grpc.StatusCode
    message: str
    info: ErrorInfo
    violations: list[BadRequest.FieldViolation]


def refusal_of(method: Any, request: Any, **options: Any) -> Refusal:
    """Call a method that must fail, and take its error apart."""
    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=options.pop("timeout", 10), **options)
    return take_apart(caught.value)


def take_apart(error: Any) -> Refusal:
    status = Status()
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    info, violations = ErrorInfo(), BadRequest()
    for detail in status.details:
        for message in (info, violations):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    return Refusal(error.code(), error.details(), info, list(violations.field_violations))


@pytest.fixture(scope="session")
def refuse() -> Any:
    return refusal_of


@pytest.fixture(scope="session")
def refusal_in() -> Any:
    """Takes apart the error of a call that must fail."""

    def run(call: Callable[[], Any]) -> Refusal:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        return take_apart(caught.value)

    return run


@pytest.fixture(scope="session")
def check_refused(stub: recommendation_pb2_grpc.RecommendationServiceStub) -> Any:
    """Checks that a call is refused as INVALID_ARGUMENT: its reason and field, a part of what it
    expected, and the beginning of what it got.
    """

    def check(call: tuple[str, Any], reason: str, field: str, expected: str, got: str) -> None:
        method, request = call
        refusal = refusal_of(getattr(stub, method), request)
        assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert refusal.info.domain == "shortlist"
        assert refusal.info.metadata["field"] == field
        assert expected in refusal.info.metadata["expected"]
        assert refusal.info.metadata["got"].startswith(got)
        assert refusal.message.startswith(f"{field}: expected ")
        assert [violation.field for violation in refusal.violations] == [field]
        assert errors_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}")

    return check


@pytest.fixture(params=["Recommend", "StreamRecommend"])
def how(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
