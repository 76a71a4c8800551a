"""A zygote and its workers, as the supervisor sees them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shortlist_server.bundle_label import BundleLabel
from shortlist_server.config import ServerConfig
from shortlist_server.errors import BundleCorrupt, ShortlistError
from shortlist_server.workers.link import Link, LinkClosed, Methods, decoded

logger = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 1 << 20
FIRST_DELAY_S = 0.1
DELAY_S_MAX = 10.0
METRICS_S_MAX = 2.0
STEADY_S = 10.0
"""A worker that has served for so long and ends is started again at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOptions:
    """What all sets of a server have in common."""

    config: ServerConfig
    port: int
    buckets: int
    """Descriptor of the memory of the rate limits."""
    methods: Methods
    """What workers may ask of the supervisor."""


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """One place in a set, whichever process has it now."""

    slot: int
    link: Link
    running: asyncio.Task[None]
    pid: int = 0
    started: float = field(default_factory=time.monotonic)
    counted: list[dict[str, Any]] = field(default_factory=list)
    """Its metrics when it was last asked for them: what is left of them when it is killed."""


class WorkerSet:
    """Loads a bundle in a process, and has it forked into workers."""

    def __init__(
        self,
        options: SetOptions,
        *,
        on_restart: Callable[[], None],
        on_zygote_gone: Callable[[WorkerSet], object],
        on_counted: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        """Begin with no process.

        Args:
            options: What all sets have in common.
            on_restart: Called for each worker that ended unasked.
            on_zygote_gone: Called when the zygote ended unasked: nothing can be forked any more.
            on_counted: Takes the metrics of a worker that ends.
        """
        self._options = options
        self._on_restart = on_restart
        self._on_zygote_gone = on_zygote_gone
        self._on_counted = on_counted
        self.workers: dict[int, Worker] = {}
        self.bundles: dict[str, dict[str, Any]] = {}
        """By label `name`, `version`, `sha256`, `created`, `folder` of what was loaded."""
        self.items: dict[str, Any] = {}
        """`folder` that the stable bundle's items are from, and their `revision`; see
        `zygote.Loaded`.
        """
        self._listening = False
        self._ending = False
        self._zygote_gone = False
        self._pids: set[int] = set()
        """Workers that the zygote has not reported as ended."""
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delays: dict[int, float] = {}

    @property
    def bundle(self) -> dict[str, Any]:
        """The stable one of them."""
        return self.bundles[BundleLabel.STABLE]

    @property
    def is_asking(self) -> bool:
        """Whether one of its workers waits for an answer of the supervisor."""
        return any(worker.link.is_answering for worker in self.workers.values())

    def __str__(self) -> str:
        return ", ".join(
            f"{label} {bundle['name']} {bundle['version']}"
            for label, bundle in self.bundles.items()
        )

    async def load(
        self, folders: Mapping[str, Path], *, beside: bool, validate_only: bool = False
    ) -> None:
        """Load bundles.

        Args:
            folders: The bundles by label, a stable one among them.
            beside: Whether others serve meanwhile, and go first.
            validate_only: Whether the process ends when it has loaded them.

        Raises:
            BundleError: one of them cannot be served.
        """
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        options = self._options
        with theirs:
            # A session of its own: Ctrl-C in a terminal is for the supervisor alone.
            # Not asyncio's: nothing is to be read from it, and it starts in a moment.
            self._zygote = subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "shortlist_server.workers.zygote", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), options.buckets),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                # `ready on port` is the supervisor's to say.
                stdout=sys.stderr,
            )
        control.setblocking(False)
        self._control = control
        self._tell(
            {
                "supervisor": os.getpid(),
                "config": options.config.model_dump(mode="json"),
                "folders": {label: str(folder) for label, folder in folders.items()},
                "port": options.port,
                "buckets": options.buckets,
                "beside": beside,
                "validate_only": validate_only,
            }
        )
        self._begin(self._listen_to_zygote())
        answer = await self._answers.get()
        if "loaded" not in answer:
            how = await self._ended_zygote()
            if "refused" in answer:
                raise _refusal(answer["refused"], folders.values())
            names = ", ".join(folder.name for folder in folders.values())
            raise BundleCorrupt(f"{names}: the process that loaded it ended by {how}")
        self.bundles = {
            label: {**answer["loaded"][label], "folder": str(folder)}
            for label, folder in folders.items()
        }
        self.items = answer["items"]
        if validate_only:
            self._ending = True

    async def prepare(self) -> None:
        """Fork the workers, and have them get ready to listen.

        Raises:
            ShortlistError: they cannot, as where a file of the configuration cannot be used.
        """
        for slot in range(self._options.config.workers):
            await self._fork(slot)
        await asyncio.gather(*(worker.link.call("prepare") for worker in self.workers.values()))

    async def listen(self) -> None:
        """Have the workers listen.

        Raises:
            ConfigError: the port cannot be bound.
        """
        self._listening = True
        ends = await asyncio.gather(
            *(worker.link.call("listen") for worker in self.workers.values()),
            return_exceptions=True,
        )
        for end in ends:
            # One that has ended is started again, and listens then.
            if isinstance(end, BaseException) and not isinstance(end, LinkClosed):
                raise end

    async def metrics(self) -> list[tuple[int, list[dict[str, Any]]]]:
        """Return what each worker has counted, by its number; of one that does not answer now,
        what it had when it last did.
        """
        workers = list(self.workers.values())

        async def ask(worker: Worker) -> None:
            with contextlib.suppress(TimeoutError, LinkClosed, RuntimeError):
                async with asyncio.timeout(METRICS_S_MAX):
                    worker.counted = await worker.link.call("metrics")

        await asyncio.gather(*(ask(worker) for worker in workers))
        # One that has ended meanwhile is counted among those that have.
        return [
            (worker.slot, worker.counted)
            for worker in workers
            if self.workers.get(worker.slot) is worker
        ]

    async def pending_rows(self) -> int:
        """Return how many rows a compaction would take, as one of the workers sees it; 0 where
        none answers now.
        """
        for worker in list(self.workers.values()):
            with contextlib.suppress(TimeoutError, LinkClosed, RuntimeError):
                async with asyncio.timeout(METRICS_S_MAX):
                    return int(await worker.link.call("pending_rows"))
        return 0

    async def end(self, how: str, seconds: float) -> None:
        """Have the workers end, and the zygote.

        Args:
            how: `hand_over` or `drain`, see `rpc.server.Server`.
            seconds: After which they are killed.
        """
        self._ending = True
        await asyncio.gather(
            *(self._end_worker(worker, how, seconds) for worker in list(self.workers.values()))
        )
        self.kill()
        await self._ended_zygote()
        for pid in list(self._pids):
            await self._bury(pid)

    def kill(self) -> None:
        """Kill all processes, at once."""
        self._ending = True
        for worker in self.workers.values():
            _kill(worker.pid)
        if self._zygote is not None and self._zygote.poll() is None:
            self._zygote.kill()

    @property
    def zygote_pid(self) -> int:
        """Process id of the zygote; 0 where there is none."""
        return 0 if self._zygote is None else self._zygote.pid

    async def _end_worker(self, worker: Worker, how: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                counted = await worker.link.call(how)
                self.workers.pop(worker.slot, None)
                self._on_counted(counted)
                worker.link.close()
                await worker.running
        except TimeoutError:
            logger.warning("worker %d did not end in %.0f s and is killed", worker.slot, seconds)
        except (LinkClosed, RuntimeError) as error:
            logger.warning("worker %d ended without a last word: %r", worker.slot, error)

    async def _fork(self, slot: int) -> None:
        """Have the zygote fork a worker."""
        assert self._control is not None
        ours, theirs = socket.socketpair()
        link = await Link.over(ours, self._options.methods)
        with theirs:
            message = json.dumps({"fork": slot}).encode()
            socket.send_fds(self._control, [message], [theirs.fileno()])
        running = asyncio.create_task(link.run())
        worker = self.workers[slot] = Worker(slot=slot, link=link, running=running)
        self._begin(self._watch(worker))

    async def _watch(self, worker: Worker) -> None:
        """Start a worker again that ends unasked."""
        await worker.running
        if self.workers.get(worker.slot) is worker:
            del self.workers[worker.slot]
            self._on_counted(worker.counted)
        if self._zygote_gone:
            await self._bury(worker.pid)
            return
        if self._ending:
            return
        self._on_restart()
        delay = self._delay(worker)
        logger.error("worker %d (%d) ended; again in %.1f s", worker.slot, worker.pid, delay)
        await asyncio.sleep(delay)
        while not self._ending:
            try:
                await self._fork(worker.slot)
                begun = self.workers[worker.slot]
                await begun.link.call("prepare")
                if self._listening:
                    await begun.link.call("listen")
            except (LinkClosed, OSError):  # ended again: its own watch goes on, or the zygote's
                pass
            except (ShortlistError, RuntimeError) as error:
                logger.error("worker %d cannot serve: %s", worker.slot, error)
                _kill(self.workers[worker.slot].pid)
            return

    async def _bury(self, pid: int) -> None:
        """Wait for a worker whose zygote has ended, and so left it to the supervisor."""
        self._pids.discard(pid)
        with contextlib.suppress(ChildProcessError):  # the zygote did
            await asyncio.to_thread(os.waitpid, pid, 0)

    def _delay(self, worker: Worker) -> float:
        """Return how long to wait before a worker is started again: nothing at first, longer and
        longer where it ends again and again.
        """
        if time.monotonic() - worker.started > STEADY_S:
            self._delays.pop(worker.slot, None)
        delay = self._delays.get(worker.slot, 0.0)
        self._delays[worker.slot] = min(max(2 * delay, FIRST_DELAY_S), DELAY_S_MAX)
        return delay

    async def _listen_to_zygote(self) -> None:
        loop, control = asyncio.get_running_loop(), self._control
        assert control is not None
        with control:
            while message := await _received(loop, control):
                told = json.loads(message)
                if "forked" in told:
                    self._pids.add(told["pid"])
                    worker = self.workers.get(told["forked"])
                    if worker is not None:
                        worker.pid = told["pid"]
                elif "ended" in told:
                    self._pids.discard(told["ended"])
                    logger.info("worker process %d ended: %s", told["ended"], told["how"])
                else:
                    self._answers.put_nowait(told)
        self._zygote_gone = True
        self._answers.put_nowait({})
        if self._listening and not self._ending:
            self._on_zygote_gone(self)

    async def _ended_zygote(self) -> str:
        """Wait until the zygote has ended; returns how."""
        assert self._zygote is not None
        code = await asyncio.to_thread(self._zygote.wait)
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._control is not None
        with contextlib.suppress(OSError):  # it has ended, which those who read are told
            self._control.send(json.dumps(message).encode())

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _received(loop: asyncio.AbstractEventLoop, control: socket.socket) -> bytes:
    try:
        return await loop.sock_recv(control, MESSAGE_BYTES_MAX)
    except ConnectionError:
        return b""


def _refusal(error: dict[str, Any], folders: Iterable[Path]) -> Exception:
    message = error["message"]
    for folder in folders:  # callers learn a bundle's name, not where it is
        message = message.replace(str(folder), folder.name)
    return decoded({**error, "message": message}) or RuntimeError(message)


def _kill(pid: int) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
