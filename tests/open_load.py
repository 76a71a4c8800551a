"""Calls that come at a rate, whatever becomes of those before, while a test does something else."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping
from types import TracebackType

import grpc
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

SECONDS_MAX = 60.0
"""When it ends by itself."""


class OpenLoad:
    """Recommend, so many times a second, until it is left; then each call has ended.

    Attributes:
        answered: Calls by the version of the bundle that answered.
        failed: Status and details of each call that failed.
    """

    def __init__(
        self,
        target: str,
        *,
        per_second: float,
        options: Mapping[str, str | int] | None = None,
    ) -> None:
        self._target = target
        self._pause_s = 1 / per_second
        # Whatever is retried is so by what stands between, unless the options say otherwise.
        self._options = list((options or {"grpc.enable_retries": 0}).items())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.answered: Counter[str] = Counter()
        self.failed: list[str] = []

    def wait_for(self, count: int) -> None:
        """Wait until so many more calls are answered."""
        goal = self.answered.total() + count
        while self.answered.total() < goal and self._thread.is_alive():
            self._thread.join(timeout=0.01)
        assert self.answered.total() >= goal, f"answered {self.answered}, failed {self.failed[:5]}"

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        end = due + SECONDS_MAX
        calls: list[asyncio.Task[None]] = []
        async with grpc.aio.insecure_channel(self._target, self._options) as channel:
            stub = RecommendationServiceStub(channel)
            while not self._stop.is_set() and due < end:
                calls.append(asyncio.create_task(self._call(stub, len(calls))))
                due += self._pause_s
                await asyncio.sleep(max(0.0, due - loop.time()))
            await asyncio.gather(*calls)

    async def _call(self, stub: RecommendationServiceStub, number: int) -> None:
        query = types.Query(user=types.UserQuery(id=f"u{number % 12}"))
        try:
            answer = await stub.Recommend(pb.RecommendRequest(query=query, limit=5), timeout=20)  # type: ignore[misc]
            assert len(answer.items) == 5
            self.answered[answer.info.bundle.version] += 1
        except grpc.aio.AioRpcError as error:
            self.failed.append(f"{error.code().name}: {error.details()}")

    def __enter__(self) -> OpenLoad:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
