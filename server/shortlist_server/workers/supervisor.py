"""Watches over the workers, and switches between bundles. Holds no bundle, no model, no gRPC."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from shortlist_server.access.shared_buckets import make_memory
from shortlist_server.config import ServerConfig
from shortlist_server.errors import (
    BundleMissing,
    ConfigError,
    NotConfigured,
    ShortlistError,
    SwitchUnderWay,
)
from shortlist_server.workers.bundle_folder import FoundBundle, Stamp
from shortlist_server.workers.bundle_source import choose, newest, open_source
from shortlist_server.workers.folding import Folding
from shortlist_server.workers.merged_metrics import MergedMetrics, family
from shortlist_server.workers.metrics_page import MetricsPage
from shortlist_server.workers.process import reserve, take_orphans_in
from shortlist_server.workers.serving_state import ServingState, read_state, write_state
from shortlist_server.workers.worker_set import SetOptions, WorkerSet

logger = logging.getLogger(__name__)

STABLE = "stable"
AGE_VARIES = 1.1
SLACK_S = 5.0
"""Longer than a worker may take to end, before it is killed."""
RETRY_S = 1.0
RETRY_S_MAX = 60.0


async def supervise(config: ServerConfig, ready: Callable[[int], None] = lambda port: None) -> None:
    """Serve by workers until SIGTERM or SIGINT, then drain.

    Args:
        config: The configuration, `workers` 1 or more.
        ready: Called with the port once all workers answer.

    Raises:
        BundleError: the bundle cannot be served.
        ConfigError: the address cannot be bound, or a file of the configuration cannot be used.
    """
    stopping = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stopping.set)
    take_orphans_in()
    supervisor = Supervisor(config)
    starting = asyncio.create_task(supervisor.start())
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.is_set():
            ready(await starting)
            await stopped
        logger.info("stopping: health is NOT_SERVING, calls in flight finish")
        await supervisor.stop()
        logger.info("stopped")
    finally:
        starting.cancel()
        stopped.cancel()
        supervisor.close()


class Supervisor:
    """Starts sets of workers, and answers what they ask."""

    def __init__(self, config: ServerConfig) -> None:
        """Reserve the port, and read what was served before.

        Raises:
            ConfigError: the port cannot be bound, or a folder cannot be used.
        """
        self._config = config
        self._state = ServingState() if config.state_dir is None else read_state(config.state_dir)
        self._source = open_source(config.bundles, config.state_dir)
        self._held, self._port = reserve(config.listen)
        self._options = SetOptions(
            config=config,
            port=self._port,
            buckets=make_memory(),
            methods={
                "list_bundles": self.list_bundles,
                "activate": self.activate,
                "roll_back": self.roll_back,
            },
        )
        self._sets: list[WorkerSet] = []
        """All that have processes."""
        self._current: WorkerSet
        """The one that takes new connections."""
        self._switching = False
        self._draining: asyncio.Task[None] | None = None
        self._stopping = False
        self._restarts = 0
        self._generation = 0
        self._merged = MergedMetrics()
        self._page: MetricsPage | None = None
        self._refused: set[Stamp] = set()
        """Bundles that watching has tried in vain; tried again once their files change."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._folding = Folding(
            config, lambda: self._current, self._is_switching, self._begin_switch
        )

    async def start(self) -> int:
        """Serve what was active, or what is configured; returns the port once all workers answer.

        Raises:
            BundleError: the bundle cannot be served.
            ConfigError: an address cannot be bound, or there is no bundle.
        """
        begin = time.perf_counter()
        if self._config.metrics_listen is not None:
            self._page = await MetricsPage.listen(self._config.metrics_listen, self._metrics)
        folder = await self._first_folder()
        first = self._new_set()
        await first.load(folder, beside=False)
        await first.prepare()
        self._remember(first.bundle)
        await first.listen()
        self._current = first
        self._generation += 1
        workers, spent = self._config.workers, time.perf_counter() - begin
        logger.info("%d workers serve on port %d after %.2f s", workers, self._port, spent)
        if self._config.bundle_watch and self._source is not None:
            self._begin(self._watch())
        self._begin(self._folding.run())
        return self._port

    async def stop(self) -> None:
        """Drain all workers, and end."""
        self._stopping = True
        if self._draining is not None:
            self._draining.cancel()
        seconds = (self._config.drain_notice_ms + self._config.drain_ms) / 1e3 + SLACK_S
        await asyncio.gather(*(one.end("drain", seconds) for one in list(self._sets)))

    def close(self) -> None:
        """Kill what is left, and let the port go."""
        self._stopping = True
        for one in self._sets:
            one.kill()
        for task in self._tasks:
            task.cancel()
        self._held.close()
        if self._page is not None:
            self._page.close()

    async def list_bundles(self) -> list[dict[str, Any]]:
        """Return the bundles that there are, newest first; see `rpc.bundle_service`."""
        active = self._current.bundle
        found = [] if self._source is None else await asyncio.to_thread(self._source.look)
        if active["sha256"] not in {bundle.sha256 for bundle in found}:
            fields = {**active, "folder": Path(active["folder"])}
            found = [FoundBundle(**fields), *found]
        return [
            {
                "folder": bundle.folder.name,
                "name": bundle.name,
                "version": bundle.version,
                "sha256": bundle.sha256,
                "created": bundle.created,
                "active": bundle.sha256 == active["sha256"],
                "problem": bundle.problem,
            }
            for bundle in found
        ]

    async def activate(
        self, *, name: str, version: str, sha256: str, label: str, validate_only: bool
    ) -> dict[str, Any]:
        """Switch to a bundle; see `rpc.bundle_service.BundleControl`."""
        active = self._current.bundle
        if sha256 == active["sha256"] and not validate_only:
            return {"bundle": active, "previous": None, "switched": False}
        wanted = await self._find(name, version, sha256)
        if wanted.sha256 == active["sha256"] and not validate_only:
            return {"bundle": active, "previous": None, "switched": False}
        assert self._source is not None
        folder = await asyncio.to_thread(self._source.fetch, wanted)
        if validate_only:
            return {"bundle": await self._validate(folder), "previous": None, "switched": False}
        bundle = await self.switch(folder)
        return {"bundle": bundle, "previous": active, "switched": True}

    async def roll_back(self) -> dict[str, Any]:
        """Switch to the bundle before; see `rpc.bundle_service.BundleControl`."""
        before = self._state.previous.get(label := STABLE)
        if before is None:
            raise BundleMissing(f"{label}: no bundle was active before this one")
        active = self._current.bundle
        bundle = await self.switch(Path(before["folder"]))
        return {"bundle": bundle, "previous": active, "switched": True}

    async def switch(self, folder: Path) -> dict[str, Any]:
        """Load a folder as the next set, and hand over to it; returns its bundle.

        Where it fails, what serves is as it was.

        Raises:
            BundleError: the bundle cannot be served.
            SwitchUnderWay: another switch has not ended.
        """
        await self._folding.taken_over()
        return await self._begin_switch(folder)

    async def _begin_switch(self, folder: Path) -> dict[str, Any]:
        if self._switching or self._stopping:
            raise SwitchUnderWay
        self._switching = True
        self._folding.give_up()
        # In a task of its own: the worker that asks may end before this does.
        return await asyncio.shield(self._begin(self._switch(folder)))

    async def _switch(self, folder: Path) -> dict[str, Any]:
        try:
            if self._draining is not None:
                # No more than two sets have memory at a time.
                await self._draining
            begin, old, state = time.perf_counter(), self._current, self._state
            new = self._new_set()
            try:
                await new.load(folder, beside=True)
                await new.prepare()
                self._remember(new.bundle)
                await new.listen()
            except BaseException:
                self._sets.remove(new)
                new.kill()
                if self._state is not state:
                    self._keep(state)
                raise
            self._current = new
            self._generation += 1
            logger.info(
                "switched to bundle %s %s in %.2f s",
                new.bundle["name"],
                new.bundle["version"],
                time.perf_counter() - begin,
            )
            self._draining = self._begin(self._hand_over(old))
            return new.bundle
        finally:
            self._switching = False

    async def _hand_over(self, old: WorkerSet) -> None:
        age_s = self._config.connection_age_s * AGE_VARIES
        await old.end("hand_over", age_s + self._config.drain_ms / 1e3 + SLACK_S)
        self._sets.remove(old)
        if self._source is not None:
            served = (self._state.active, self._state.previous)
            kept = {Path(one["folder"]) for part in served for one in part.values()}
            await asyncio.to_thread(self._source.keep_only, kept)
        await self._folding.clean()
        logger.info("the workers of bundle %s have ended", old.bundle["version"])

    def _is_switching(self) -> bool:
        return self._switching or (self._draining is not None and not self._draining.done())

    async def _validate(self, folder: Path) -> dict[str, Any]:
        """Load a bundle in a process that ends then; returns the bundle."""
        await self._folding.taken_over()
        if self._switching or self._stopping:
            raise SwitchUnderWay
        self._switching = True
        trial = self._new_set()
        try:
            if self._draining is not None:
                await self._draining
            await trial.load(folder, beside=True, validate_only=True)
            await trial.end("drain", SLACK_S)
            return trial.bundle
        finally:
            trial.kill()
            self._sets.remove(trial)
            self._switching = False

    def _new_set(self) -> WorkerSet:
        one = WorkerSet(
            self._options,
            on_restart=self._count_restart,
            on_zygote_gone=lambda gone: self._begin(self._replace(gone)),
            on_counted=self._merged.ended,
        )
        self._sets.append(one)
        return one

    async def _replace(self, gone: WorkerSet) -> None:
        """Load again what a zygote had that ended; its workers serve until the new ones do."""
        if gone is not self._current:
            return
        logger.error("the process that forks workers ended; another is started")
        delay = RETRY_S
        while not self._stopping and gone is self._current:
            try:
                await self.switch(Path(gone.bundle["folder"]))
            except SwitchUnderWay:
                await asyncio.sleep(RETRY_S)
            except ShortlistError as error:
                logger.error("what serves cannot be loaded again: %s", error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_S_MAX)

    async def _first_folder(self) -> Path:
        configured = "" if self._config.bundle is None else str(self._config.bundle)
        active = self._state.active.get(STABLE)
        if active is not None and self._state.configured == configured:
            logger.info("serving what was active: %s %s", active["name"], active["version"])
            return Path(active["folder"])
        if configured:
            return Path(configured)
        if self._source is None:
            return self._config.served_folder  # which says that there is none
        found = newest(await asyncio.to_thread(self._source.look), str(self._config.bundles))
        return await asyncio.to_thread(self._source.fetch, found)

    async def _find(self, name: str, version: str, sha256: str) -> FoundBundle:
        if self._source is None:
            raise NotConfigured(setting="bundles", expected="a folder or a URL of bundles")
        return choose(await asyncio.to_thread(self._source.look), name, version, sha256)

    async def _watch(self) -> None:
        """Switch to bundles that appear and are newer than any that served."""
        assert self._source is not None
        while not self._stopping:
            await asyncio.sleep(self._config.bundle_poll_s)
            found = await asyncio.to_thread(self._source.look)
            newer = [
                bundle
                for bundle in found
                if not bundle.problem
                and bundle.created > self._state.newest
                and bundle.stamp not in self._refused
            ]
            if not newer:
                continue
            try:
                await self.switch(await asyncio.to_thread(self._source.fetch, newer[0]))
            except SwitchUnderWay:
                continue
            except (ShortlistError, RuntimeError) as error:
                self._refused.add(newer[0].stamp)
                logger.error("%s is not switched to: %s", newer[0].folder.name, error)

    def _remember(self, bundle: dict[str, Any]) -> None:
        """Note what serves from now on."""
        state = self._state
        before = state.active.get(STABLE)
        changed = before is not None and before["sha256"] != bundle["sha256"]
        self._keep(
            replace(
                state,
                configured="" if self._config.bundle is None else str(self._config.bundle),
                active={STABLE: bundle},
                previous=state.active if changed else state.previous,
                newest=max(state.newest, bundle["created"]),
            )
        )

    def _keep(self, state: ServingState) -> None:
        if self._config.state_dir is not None:
            try:
                write_state(self._config.state_dir, state)
            except OSError as error:
                raise ConfigError(
                    f"state_dir: {self._config.state_dir}: cannot be written: {error.strerror}"
                ) from error
        self._state = state

    async def _metrics(self) -> str:
        """Return the metrics of all workers, and those of the supervisor itself."""
        # All at once, so that what one set hands over is in one of the two, and not in both.
        asked = await asyncio.gather(*(one.metrics() for one in self._sets))
        workers = [worker for workers in asked for worker in workers]
        there = len(self._current.workers) if self._generation else 0
        own = [
            family("workers", "gauge", "Workers that are there.", there),
            family("worker_restarts", "counter", "Workers that ended unasked.", self._restarts),
            family("generation", "gauge", "Times that workers took over.", self._generation),
        ]
        return self._merged.text(workers, [*own, *self._folding.families()])

    def _count_restart(self) -> None:
        self._restarts += 1

    def _begin(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
