"""Folds the changes of items into a new index, time and again, in a process of its own.

The server goes on as it is until that process has ended well; only then it is asked to take over
what was made. Who asks and who is asked: `serving.py` in one process, `workers/supervisor.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from shortlist_server import fault_points
from shortlist_server.config import ServerConfig
from shortlist_server.errors import ShortlistError, SwitchUnderWay

logger = logging.getLogger(__name__)

POLL_S = 0.5
RETRY_S_MIN = 1.0
RETRY_S_MAX = 3_600.0
OUTCOMES = ("done", "failed", "given_up")
"""How compactions end: in service, by a fault, or for a switch of bundles that came between."""

COMPACTIONS = "compactions"
COMPACTIONS_HELP = "Foldings of changed items into a new index, by how they ended."
SECONDS = "compaction_seconds"
SECONDS_HELP = "Time that the last folding took that is in service."


class CompactionHost(Protocol):
    """A server, as far as compaction needs it."""

    async def pending_rows(self) -> int:
        """Return how many rows a compaction would take; see `CatalogState.pending_count`."""

    def served_folder(self) -> Path:
        """Return the folder of the bundle that is served, as exported."""

    def is_busy(self) -> bool:
        """Return whether another bundle is being switched to, or the one before still serves."""

    async def take_over(self) -> int:
        """Serve from what was made last; returns the revision that is folded into what serves.

        Raises:
            ShortlistError: it cannot be served; all is as it was.
        """


class Compactor:
    """Watches how much has changed, and has it folded in when that is enough."""

    def __init__(
        self,
        config: ServerConfig,
        host: CompactionHost,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Begin with nothing done.

        Args:
            config: The configuration; `compaction_rows` is not 0.
            host: The server.
            sleep: Lets time pass; takes seconds.
        """
        self._config = config
        self._host = host
        self._sleep = sleep
        self._child: asyncio.subprocess.Process | None = None
        self._given_up = False
        self._counts: Counter[str] = Counter()
        self.seconds = 0.0
        """How long the last one took that is in service, in seconds."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How many have ended, by outcome."""
        return {outcome: self._counts[outcome] for outcome in OUTCOMES}

    @property
    def is_running(self) -> bool:
        """Whether the process that folds is there."""
        return self._child is not None

    async def run(self) -> None:
        """Compact whenever it is time, until cancelled."""
        pause_s = self._config.compact_interval_s_min
        failures = 0
        while True:
            if await self._is_due():
                outcome = await self._compacted()
                self._counts[outcome] += 1
                failures = failures + 1 if outcome == "failed" else 0
                delay_s = max(pause_s, RETRY_S_MIN if failures else 0.0)
                await self._sleep(min(delay_s * 2 ** max(failures - 1, 0), RETRY_S_MAX))
            await self._sleep(POLL_S)

    def give_up(self) -> None:
        """End what is being made, if anything is: another bundle is going to serve."""
        self._given_up = True
        if self._child is not None:
            _kill(self._child)

    async def _is_due(self) -> bool:
        if self._host.is_busy():
            return False
        try:
            return await self._host.pending_rows() >= self._config.compaction_rows
        except ShortlistError as error:
            logger.debug("it is not known how much has changed: %s", error)
            return False

    async def _compacted(self) -> str:
        """Compact; returns the outcome."""
        begin = time.perf_counter()
        self._given_up = False
        served = self._host.served_folder()
        try:
            made = await self._made(served)
            fault_points.hit("compaction.before_swap")
            while self._host.is_busy():  # nobody tells when that ends
                await self._sleep(POLL_S)
            if self._given_up or self._host.served_folder() != served:
                raise SwitchUnderWay
            taken = await self._host.take_over()
            fault_points.hit("compaction.after_swap")
        except SwitchUnderWay:
            logger.info("changes are not folded in: another bundle is switched to")
            return "given_up"
        except (ShortlistError, OSError, RuntimeError) as error:
            logger.error("changes are not folded in: %s", error)
            return "failed"
        except Exception:
            # Whatever it was: the next time may be better, and nobody else would tell of it.
            logger.exception("changes are not folded in")
            return "failed"
        if taken < made["revision"]:
            logger.error(
                "changes are not folded in: expected to serve revision %d, got %d",
                made["revision"],
                taken,
            )
            return "failed"
        self.seconds = time.perf_counter() - begin
        logger.info(
            "folded %d changed rows in, up to revision %d, in %.1f s",
            made["rows"],
            made["revision"],
            self.seconds,
        )
        return "done"

    async def _made(self, folder: Path) -> dict[str, Any]:
        """Have a process fold the changes in; returns the revision that it came to, and how many
        rows it took.

        Raises:
            ShortlistError: it could not.
            SwitchUnderWay: it was given up.
            RuntimeError: it ended without a word.
        """
        order = {
            "parent": os.getpid(),
            "folder": str(folder),
            "config": self._config.model_dump(mode="json"),
        }
        child = self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "shortlist_server.workers.compacting"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            output, _ = await child.communicate(json.dumps(order).encode())
        finally:
            self._child = None
            if child.returncode is None:
                _kill(child)
        if self._given_up:
            raise SwitchUnderWay
        try:
            # The last line is its answer: libraries may have said something before.
            answer: dict[str, Any] = json.loads(output.splitlines()[-1])
        except (ValueError, IndexError):
            raise RuntimeError(f"the process that folds ended by {child.returncode}") from None
        if "refused" in answer:
            raise ShortlistError(answer["refused"])
        return answer


def families(compactor: Compactor) -> list[dict[str, Any]]:
    """Return the metrics of a compactor; see `Metrics.families`."""
    return [
        {
            "name": f"shortlist_{COMPACTIONS}",
            "type": "counter",
            "help": COMPACTIONS_HELP,
            "samples": [
                [f"shortlist_{COMPACTIONS}_total", {"outcome": outcome}, count]
                for outcome, count in compactor.counts.items()
            ],
        },
        {
            "name": f"shortlist_{SECONDS}",
            "type": "gauge",
            "help": SECONDS_HELP,
            "samples": [[f"shortlist_{SECONDS}", {}, compactor.seconds]],
        },
    ]


def _kill(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()
