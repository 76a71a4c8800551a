"""One call, ready to be sent: what `Client` and `AsyncClient` take from `calls`."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

import grpc
from shortlist.v1.bundle_pb2_grpc import BundleServiceStub
from shortlist.v1.catalog_pb2_grpc import CatalogServiceStub
from shortlist.v1.conversation_pb2_grpc import ConversationServiceStub
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

from shortlist_client.errors import InvalidValue
from shortlist_client.values import number

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ResultT = TypeVar("ResultT")
MethodT = TypeVar("MethodT", bound=Callable[..., Any])
FirstT = TypeVar("FirstT")
P = ParamSpec("P")


class Stubs:
    """The generated stubs over one channel, blocking or asyncio."""

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None:
        self.recommendation = RecommendationServiceStub(channel)
        self.bundle = BundleServiceStub(channel)
        self.catalog = CatalogServiceStub(channel)
        self.conversation = ConversationServiceStub(channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[RequestT, ResponseT, ResultT]):
    """A call of one response."""

    method: Callable[[Stubs], grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]]
    request: RequestT
    read: Callable[[ResponseT], ResultT]
    """Turns the response into the result."""
    request_id: str
    timeout_s: float | None
    """None: the client's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCall(Generic[RequestT, ResponseT, ResultT]):
    """A call of many responses."""

    method: Callable[[Stubs], grpc.UnaryStreamMultiCallable[RequestT, ResponseT]]
    request: RequestT
    read: Callable[[ResponseT], ResultT]
    """Turns each response into a result."""
    request_id: str
    timeout_s: float | None
    """None: the client's own."""


AnyCall: TypeAlias = Call[Any, Any, Any] | StreamCall[Any, Any, Any]


def checked_timeout_s(timeout_s: float) -> float:
    """Return the deadline itself.

    Raises:
        InvalidValue: It is not a finite number above 0.
    """
    if number(timeout_s, "timeout_s") <= 0:
        raise InvalidValue.about(
            "timeout_s", reason="INVALID_VALUE", expected="more than 0", got=f"{timeout_s}"
        )
    return timeout_s


def presented_as(build: Callable[..., Any]) -> Callable[[MethodT], MethodT]:
    """Give a client's method the name, docstring and arguments that `help` and editors show."""
    signature = inspect.signature(build)
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)

    def present(method: MethodT) -> MethodT:
        method.__name__ = method.__qualname__ = build.__name__
        method.__doc__ = build.__doc__
        method.__dict__["__signature__"] = signature.replace(
            parameters=[itself, *signature.parameters.values()],
            return_annotation=inspect.Signature.empty,
        )
        return method

    return present


def with_arguments_of(
    build: Callable[P, FirstT],
) -> Callable[[Callable[[FirstT], ResultT]], Callable[P, ResultT]]:
    """Let a function of what another returns take the other's arguments, and document them."""

    def derive(function: Callable[[FirstT], ResultT]) -> Callable[P, ResultT]:
        def derived(*args: P.args, **kwargs: P.kwargs) -> ResultT:
            return function(build(*args, **kwargs))

        functools.update_wrapper(derived, function)
        _, heading, arguments = (build.__doc__ or "").partition("    Args:\n")
        derived.__doc__ = f"{function.__doc__}\n{heading}{arguments}"
        derived.__dict__["__signature__"] = inspect.signature(build)
        return derived

    return derive


def checked_request_id(request_id: str | None) -> str:
    """Return the id itself, or a new one for None.

    Raises:
        InvalidValue: It is not printable ASCII.
    """
    if request_id is None:
        # Made here, not by the server, so that an error which never reached it, or came back from
        # somewhere in between, has an id to look for as well.
        return os.urandom(16).hex()
    if not request_id or not request_id.isascii() or not request_id.isprintable():
        raise InvalidValue.about(
            "request_id",
            reason="INVALID_VALUE",
            expected="printable ASCII, as gRPC metadata is",
            got=ascii(request_id),
        )
    return request_id


def own_timeout_s(timeout_s: float | None) -> float | None:
    """Return the deadline of one call, checked; None, which is the client's, for None."""
    return None if timeout_s is None else checked_timeout_s(timeout_s)
