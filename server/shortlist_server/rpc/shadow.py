"""A bundle that answers too, and whose answers nobody gets: how they differ is measured."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Answer, Query
from shortlist_server.observability.comparison import Comparison, compare
from shortlist_server.rpc.snapshot import Serving, Snapshot
from shortlist_server.runtime.compute import ComputePool

logger = logging.getLogger(__name__)

WAITING_MAX = 64
CPU_SHARE = 0.25
"""Most of one core that shadows take, over time."""
LOGGED_EVERY_S = 60.0
"""How often a shadow that fails is logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    query: Query
    options: Options
    sent: dict[str, float]
    """Scores of the items that were sent, by id, in order."""


class Shadow:
    """Answers a share of the requests again, one after the other, behind all calls."""

    def __init__(
        self,
        serving: Serving,
        *,
        share: float,
        compute: ComputePool,
        timeout_s: float,
        compared: Callable[[Comparison], None] = lambda comparison: None,
        ended: Callable[[str], None] = lambda outcome: None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Take what answers.

        Args:
            serving: The shadow.
            share: Share of the requests that it answers, too, 0..1.
            compute: Where its funnel runs: behind single calls.
            timeout_s: Its budget for a request.
            compared: Told of each comparison.
            ended: Told how each request ended that it was to answer: `ok`, `failed`, or `dropped`
                since others waited already.
            draw: Returns a random number, 0..1.
        """
        self._serving = serving
        self._share = share
        self._compute = compute
        self._timeout_s = timeout_s
        self._compared = compared
        self._ended = ended
        self._draw = draw
        self._queue: asyncio.Queue[_Asked] = asyncio.Queue(WAITING_MAX)
        self._task: asyncio.Task[None] | None = None
        self._logged_at = -LOGGED_EVERY_S

    def watch(self, at: Snapshot, query: Query, options: Options, answer: Answer) -> None:
        """Take a request that was answered; never waits, and never fails."""
        if self._draw() >= self._share:
            return
        if not self._serving.follows:  # it has said why; its items are others than those sent
            self._ended("failed")
            return
        ids = [at.catalog.item_id(row) for row in answer.items.rows.tolist()]
        sent = dict(zip(ids, answer.items.scores.tolist(), strict=True))
        try:
            self._queue.put_nowait(_Asked(query=query, options=options, sent=sent))
        except asyncio.QueueFull:
            self._ended("dropped")
            return
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        # It ends when nothing waits, so that nothing is left to be ended.
        while not self._queue.empty():
            asked = self._queue.get_nowait()
            begin = time.perf_counter()
            try:
                self._compared(await self._answered(asked, begin))
                self._ended("ok")
            except Exception as error:
                # Its faults are its own: what is served does not know that it exists.
                self._ended("failed")
                self._log(error)
            await asyncio.sleep((time.perf_counter() - begin) * (1 / CPU_SHARE - 1))

    async def _answered(self, asked: _Asked, begin: float) -> Comparison:
        at = self._serving.snapshot
        compute = self._compute.of(waits=at.funnel.waits(asked.query, asked.options), behind=True)
        answer = await compute(
            at.funnel.recommend, asked.query, asked.options, Budget(self._timeout_s)
        )
        ids = [at.catalog.item_id(row) for row in answer.items.rows.tolist()]
        own = dict(zip(ids, answer.items.scores.tolist(), strict=True))
        return compare(asked.sent, own, time.perf_counter() - begin)

    def _log(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._logged_at >= LOGGED_EVERY_S:
            self._logged_at = now
            logger.warning("the shadow bundle cannot answer a request: %s", error)
