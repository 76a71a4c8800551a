"""Asks a running server for many users, slowly, and counts what its language model did."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import recommendation_pb2_grpc, types_pb2

from shortlist_server.errors import ConfigError
from shortlist_server.target import open_channel

Request: TypeAlias = pb.RecommendRequest | pb.RankRequest
Sleep: TypeAlias = Callable[[float], Awaitable[None]]
"""Waits for so many seconds."""

RETRIED = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
RETRIES_MAX = 3
PAUSE_S, PAUSE_S_MAX = 1.0, 60.0
"""Pause before a call is made again where the server names none, and the longest."""
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
"""No user would be answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmOptions:
    """Which server is asked, and how hard."""

    target: str
    """HOST:PORT."""
    credentials: grpc.ChannelCredentials | None = None
    """Those of TLS; None speaks plain text."""
    server_name: str | None = None
    api_key: str | None = None
    per_second: float = 5.0
    """Most users a second."""
    concurrency: int = 2
    """Users at a time."""
    timeout_s: float = 60.0
    """Deadline of each call, in seconds."""
    failures_max: int = 10
    """It stops after so many failures in a row."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of it so far."""

    user_count: int = 0
    asked_count: int = 0
    """Users for whom the model was asked; its answers are kept now."""
    kept_count: int = 0
    """Users whose answers were kept already."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Users for whom there is nothing to ask, by why."""
    failed: Counter[str] = field(default_factory=Counter)
    """Users for whom there is no answer, by reason."""
    price: float = 0.0
    stopped: str = ""
    """Why the rest was not asked for; empty where all were."""
    failures_in_row: int = 0

    @property
    def failed_count(self) -> int:
        """Number of users for whom there is no answer."""
        return self.failed.total()

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can say it."""
        return {
            "user_count": self.user_count,
            "asked_count": self.asked_count,
            "kept_count": self.kept_count,
            "skipped": dict(self.skipped),
            "failed": dict(self.failed),
            "price": self.price,
            "stopped": self.stopped,
        }

    def as_text(self) -> str:
        """Return it as one line."""
        why = ", ".join(f"{reason} {count:,}" for reason, count in self.failed.most_common())
        return (
            f"{self.user_count:,} users: {self.asked_count:,} asked, {self.kept_count:,} kept "
            f"before, {self.skipped.total():,} skipped, {self.failed_count:,} failed"
            f"{f' ({why})' if why else ''}, price {self.price:g}"
        )


async def warm(
    requests: AsyncIterator[Request],
    options: WarmOptions,
    progress: Callable[[Tally], None] = lambda tally: None,
    sleep: Sleep = asyncio.sleep,
) -> Tally:
    """Ask a server one request after the other, no faster than allowed.

    Args:
        requests: One for each user.
        options: Which server, and how hard.
        progress: Told of each user that is done.
        sleep: Waits.

    Raises:
        ConfigError: the server refuses who asks.
    """
    tally = Tally()
    async with open_channel(
        grpc.aio, options.target, options.credentials, options.server_name
    ) as channel:
        stub = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        try:
            await _warm_all(stub, requests, options, tally, progress, sleep)
        except BaseExceptionGroup as group:
            # What ends one of the tasks ends all of them.
            raise group.exceptions[0] from None
    return tally


async def _warm_all(
    stub: Any,
    requests: AsyncIterator[Request],
    options: WarmOptions,
    tally: Tally,
    progress: Callable[[Tally], None],
    sleep: Sleep,
) -> None:
    places = asyncio.Semaphore(options.concurrency)
    clock = asyncio.get_running_loop().time
    next_s, number = clock(), 0

    async def one(request: Request, number: int) -> None:
        try:
            await _warm_one(stub, request, number, options, tally, sleep)
            progress(tally)
        finally:
            places.release()

    async with asyncio.TaskGroup() as group:
        async for request in requests:
            await places.acquire()
            if tally.stopped:
                break
            await sleep(max(0.0, next_s - clock()))
            next_s = max(next_s, clock()) + 1 / options.per_second
            group.create_task(one(request, number))
            number += 1


async def _warm_one(
    stub: Any, request: Request, number: int, options: WarmOptions, tally: Tally, sleep: Sleep
) -> None:
    """Ask for one user, and count what came of it.

    Raises:
        ConfigError: the server refuses who asks.
    """
    try:
        info = await _ask(stub, request, number, options, sleep)
    except grpc.aio.AioRpcError as error:
        if error.code() in REFUSED:
            raise ConfigError(f"{options.target}: {error.details()}") from error
        _failed(tally, options, error.code().name, error.details() or "")
        return
    stage, told = (
        ("rating", info.rating) if isinstance(request, pb.RankRequest) else ("rerank", info.rerank)
    )
    for degraded in info.degraded:
        if degraded.stage == stage:
            reason = types_pb2.DegradedReason.Name(degraded.reason)
            _failed(tally, options, reason.removeprefix("DEGRADED_REASON_"), degraded.message)
            return
    tally.user_count += 1
    tally.failures_in_row = 0
    plan = next((one.plan for one in info.stages if one.name == stage), "it was not asked for")
    if not told.prompt:
        tally.skipped[plan] += 1
    elif told.input_token_count or told.output_token_count or told.price:
        tally.asked_count += 1
        tally.price += told.price
    else:
        tally.kept_count += 1


async def _ask(
    stub: Any, request: Request, number: int, options: WarmOptions, sleep: Sleep
) -> types_pb2.AnswerInfo:
    """Return what an answer says of itself; a server with too much to do is asked again."""
    call = stub.Rank if isinstance(request, pb.RankRequest) else stub.Recommend
    metadata = [("x-request-id", f"prewarm/{number}")]
    if options.api_key is not None:
        metadata.append(("authorization", f"Bearer {options.api_key}"))
    for retry in range(RETRIES_MAX + 1):
        try:
            answer = await call(request, timeout=options.timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() not in RETRIED or retry == RETRIES_MAX:
                raise
            await sleep(min(_retry_delay_s(error) or PAUSE_S * 2**retry, PAUSE_S_MAX))
        else:
            info: types_pb2.AnswerInfo = answer.info
            return info
    raise AssertionError("the last try returns or raises")


def _failed(tally: Tally, options: WarmOptions, reason: str, message: str) -> None:
    tally.user_count += 1
    tally.failed[reason] += 1
    tally.failures_in_row += 1
    if tally.failures_in_row >= options.failures_max and not tally.stopped:
        tally.stopped = (
            f"{options.target}: stopped after {tally.failures_in_row} failures in a row, the last: "
            f"{reason}: {message}"
        )


def _retry_delay_s(error: grpc.aio.AioRpcError) -> float:
    """Return when a server says that it is worth coming back, in seconds; 0 where it does not."""
    status = Status()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except DecodeError:
                return 0.0
    for detail in status.details:
        told = RetryInfo()
        if detail.Is(told.DESCRIPTOR) and detail.Unpack(told):
            delay_s: float = told.retry_delay.seconds + told.retry_delay.nanos / 1e9
            return max(0.0, delay_s)
    return 0.0
