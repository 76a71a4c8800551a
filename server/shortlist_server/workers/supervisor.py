"""Watches over the workers, and switches between bundles. Holds no bundle, no model, no gRPC."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shortlist_server.access.shared_buckets import make_memory
from shortlist_server.bundle_label import BundleLabel
from shortlist_server.config import ServerConfig
from shortlist_server.errors import (
    BundleError,
    ConfigError,
    ShortlistError,
    SwitchUnderWay,
)
from shortlist_server.workers.bundle_calls import BundleCalls
from shortlist_server.workers.bundle_folder import Stamp
from shortlist_server.workers.bundle_source import newest, open_source
from shortlist_server.workers.folding import Folding
from shortlist_server.workers.merged_metrics import MergedMetrics, family
from shortlist_server.workers.metrics_page import MetricsPage
from shortlist_server.workers.process import reserve, take_orphans_in
from shortlist_server.workers.serving_state import ServingState, read_state, write_state
from shortlist_server.workers.worker_set import SetOptions, WorkerSet

logger = logging.getLogger(__name__)

STABLE = BundleLabel.STABLE
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
        self._held_for_http = None
        if config.http_listen is not None:
            self._held_for_http, port = reserve(config.http_listen, "http_listen")
            at_port = f"{config.http_listen.rpartition(':')[0]}:{port}"
            config = config.model_copy(update={"http_listen": at_port})
        self._options = SetOptions(
            config=config,
            port=self._port,
            buckets=make_memory(),
            methods=BundleCalls(config, self._source, self).methods(),
        )
        self._sets: list[WorkerSet] = []
        """All that have processes."""
        self._current: WorkerSet
        """The one that takes new connections."""
        self._switching = False
        self._leaving: WorkerSet | None = None
        """The one that hands over, or was the last to."""
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
            config,
            lambda: self._current,
            self._is_switching,
            lambda folder: self._begin_switch(STABLE, folder),
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
        first = await self._first_set()
        await first.prepare()
        self._remember(first)
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
        if self._held_for_http is not None:
            self._held_for_http.close()
        if self._page is not None:
            self._page.close()

    @property
    def bundles(self) -> dict[str, dict[str, Any]]:
        """What serves, by label."""
        return self._current.bundles

    @property
    def state(self) -> ServingState:
        """What is remembered of what serves, and of what served before."""
        return self._state

    async def switch(self, folder: Path, label: str = STABLE, sha256: str = "") -> dict[str, Any]:
        """Load a folder under a label as the next set, beside the bundles of the other labels, and
        hand over to it; returns its bundle.

        Where it fails, what serves is as it was.

        Args:
            folder: The bundle.
            label: What it is to be.
            sha256: Of the bundle: a label that it has already is taken from it. "" leaves the
                others as they are.

        Raises:
            BundleError: the bundle cannot be served.
            SwitchUnderWay: another switch has not ended.
        """
        return (await self._begin_switch(label, folder, sha256))[label]

    async def take_away(self, label: str) -> None:
        """Take a label from the bundle that has it, in the same way.

        Raises:
            BundleError: what serves beside it cannot be loaded again.
            SwitchUnderWay: another switch has not ended.
        """
        await self._begin_switch(label, None)

    async def validate(self, folder: Path) -> dict[str, Any]:
        """Load a bundle in a process that ends then; returns the bundle; raises like `switch`."""
        if self._switching or self._stopping:
            raise SwitchUnderWay
        self._switching = True
        trial = self._new_set()
        try:
            await self._last_hand_over()
            await trial.load({STABLE: folder}, beside=True, validate_only=True)
            await trial.end("drain", SLACK_S)
            return trial.bundle
        finally:
            trial.kill()
            self._sets.remove(trial)
            self._switching = False

    async def _begin_switch(
        self, label: str, folder: Path | None, sha256: str = ""
    ) -> dict[str, dict[str, Any]]:
        """Switch to the bundles that serve, but for a label, which gets a folder or, by None, is
        taken away; returns the bundles that serve then, by label.
        """
        if self._switching or self._stopping:
            raise SwitchUnderWay
        self._switching = True
        self._folding.give_up()
        folders = {
            other: Path(bundle["folder"])
            for other, bundle in self._current.bundles.items()
            if other != label and bundle["sha256"] != sha256
        }
        if folder is not None:
            folders[label] = folder
        # In a task of its own: the worker that asks may end before this does.
        bundles: dict[str, dict[str, Any]] = await asyncio.shield(
            self._begin(self._switch(folders))
        )
        return bundles

    async def _switch(self, folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
        try:
            await self._last_hand_over()
            begin, old, state = time.perf_counter(), self._current, self._state
            new = self._new_set()
            try:
                await new.load(folders, beside=True)
                await new.prepare()
                self._remember(new)
                await new.listen()
            except BaseException:
                self._sets.remove(new)
                new.kill()
                if self._state is not state:
                    self._keep(state)
                raise
            self._current = new
            self._generation += 1
            logger.info("switched to %s in %.2f s", new, time.perf_counter() - begin)
            self._leaving, self._draining = old, self._begin(self._hand_over(old))
            return new.bundles
        finally:
            self._switching = False

    async def _last_hand_over(self) -> None:
        """Wait until it has ended: no more than two sets have memory at a time.

        Raises:
            SwitchUnderWay: a call that waits for this one came by a worker that hands over, which
                does not end before its calls have.
        """
        if self._draining is None or self._draining.done():
            return
        if self._leaving is not None and self._leaving.is_asking:
            raise SwitchUnderWay
        await self._draining

    async def _hand_over(self, old: WorkerSet) -> None:
        age_s = self._config.connection_age_s * AGE_VARIES
        await old.end("hand_over", age_s + self._config.drain_ms / 1e3 + SLACK_S)
        self._sets.remove(old)
        if self._source is not None:
            served = (self._state.active, self._state.previous)
            kept = {Path(one["folder"]) for part in served for one in part.values()}
            await asyncio.to_thread(self._source.keep_only, kept)
        await self._folding.clean()
        logger.info("the workers of %s have ended", old)

    def _is_switching(self) -> bool:
        return self._switching or (self._draining is not None and not self._draining.done())

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

    async def _first_set(self) -> WorkerSet:
        """Load what was active, or what is configured."""
        stable = await self._first_folder()
        beside = self._state.folders_beside(self._config)
        first = self._new_set()
        try:
            await first.load({STABLE: stable, **beside}, beside=False)
        except BundleError as error:
            named = {self._config.canary_bundle, self._config.shadow_bundle}
            if not beside or named & set(beside.values()):
                raise
            # What was activated by a call must not keep the stable bundle from being served again.
            logger.error("%s is not served again: %s", ", ".join(beside), error)
            self._sets.remove(first)
            first = self._new_set()
            await first.load({STABLE: stable}, beside=False)
        return first

    async def _first_folder(self) -> Path:
        folder = self._state.stable_folder(self._config)
        if folder is not None:
            return folder
        if self._source is None:
            return self._config.served_folder  # which says that there is none
        found = newest(await asyncio.to_thread(self._source.look), str(self._config.bundles))
        return await asyncio.to_thread(self._source.fetch, found)

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
                folder = await asyncio.to_thread(self._source.fetch, newer[0])
                await self.switch(folder, STABLE, newer[0].sha256)
            except SwitchUnderWay:
                continue
            except (ShortlistError, RuntimeError) as error:
                self._refused.add(newer[0].stamp)
                logger.error("%s is not switched to: %s", newer[0].folder.name, error)

    def _remember(self, one: WorkerSet) -> None:
        """Note what serves from now on."""
        self._keep(self._state.serving(one.bundles, self._config))

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
