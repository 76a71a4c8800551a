"""A server of several workers, as an operator runs and a caller sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tiny_world
from serving_process import ServingProcess
from shortlist.v1 import bundle_pb2, bundle_pb2_grpc, types_pb2
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_exporters.export import export_bundle
from shortlist_server.access.api_keys import entry, make_key

USERS = [f"u{number}" for number in range(tiny_world.USER_COUNT)]
PATIENCE_S = 120.0

Answer = tuple[tuple[str, float], ...]
"""Items and their scores, to five digits."""


def write_bundle(root: Path, version: str, seed: int) -> Path:
    """Write a tiny bundle whose items are drawn from a seed: another seed, other answers."""
    # Bundles carry the second in which they were built; those of a test are to have an order.
    second = int(time.time())
    until(lambda: int(time.time()) > second, "the next second")
    spec = tiny_world.write_spec(root / f".spec-{version}")
    vectors = np.random.default_rng(seed).normal(size=(tiny_world.ITEM_COUNT, tiny_world.DIMENSION))
    np.save(spec.parent / "items.npy", vectors.astype(np.float32))
    # As bundles should appear: whole, by a rename.
    export_bundle(spec, root / f".{version}", version=version)
    shutil.rmtree(spec.parent)
    (root / f".{version}").rename(root / version)
    return root / version


def request(user: str) -> pb.RecommendRequest:
    return pb.RecommendRequest(query=types_pb2.Query(user=types_pb2.UserQuery(id=user)), limit=5)


def answer(response: pb.RecommendResponse) -> Answer:
    return tuple((item.id, round(item.score, 5)) for item in response.items)


class Supervised(ServingProcess):
    """A server of workers, with a key that opens everything."""

    def __init__(
        self,
        folder: Path,
        *arguments: str | Path,
        bundle: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it.

        Args:
            folder: Where its keys and its state go; bundles come from `folder/bundles`.
            arguments: More flags.
            bundle: The bundle to begin with; None for the newest of `folder/bundles`.
            environment: Variables beside those of this process.
        """
        self.folder = folder
        keys = folder / "keys.toml"
        if not keys.exists():
            key = make_key()
            scopes = ["recommend", "admin", "catalog", "debug", "explain"]
            keys.write_text(entry(key, name="all", scopes=scopes))
            (folder / "key").write_text(key)
        self.metadata = (("authorization", f"Bearer {(folder / 'key').read_text()}"),)
        settings: list[str | Path] = ["--api-keys-file", keys, "--state-dir", folder / "state"]
        settings += ["--bundles", folder / "bundles", "--connection-age-ms", "500"]
        super().__init__(bundle, *settings, *arguments, **(environment or {}))

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self.target, options=options) as channel:
            yield channel

    def admin(self, method: str, request: Any) -> Any:
        """Call a method of BundleService, on a connection of its own."""
        with self.channel() as channel:
            stub = bundle_pb2_grpc.BundleServiceStub(channel)
            return getattr(stub, method)(request, timeout=60, metadata=self.metadata)

    def activate(self, version: str, **more: Any) -> bundle_pb2.ActivateBundleResponse:
        message = bundle_pb2.ActivateBundleRequest(name="tiny", version=version, **more)
        response: bundle_pb2.ActivateBundleResponse = self.admin("ActivateBundle", message)
        return response

    def ask(self, user: str = "u1") -> pb.RecommendResponse:
        """Ask once, on a connection of its own."""
        with self.channel() as channel:
            stub = RecommendationServiceStub(channel)
            response: pb.RecommendResponse = stub.Recommend(
                request(user), timeout=10, metadata=self.metadata
            )
            return response

    def version(self) -> str:
        """Return the version of the bundle that answers a new connection."""
        return self.ask().info.bundle.version

    def answers(self) -> dict[str, Answer]:
        """Return what each user is answered now."""
        return {user: answer(self.ask(user)) for user in USERS}

    def zygotes(self) -> list[int]:
        """Return the processes that the supervisor has started."""
        return children(self.process.pid)

    def workers(self) -> list[int]:
        """Return the workers of all sets."""
        return [pid for zygote in self.zygotes() for pid in children(zygote)]

    def zombies(self) -> int:
        """Return how many processes have ended that the supervisor has not waited for."""
        return len(children(self.process.pid, ended=True)) - len(self.zygotes())

    def serving_state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "state/serving.json").read_text())
        return found


def children(pid: int, *, ended: bool = False) -> list[int]:
    """Return the children of a process; with those that have ended and wait to be waited for, or
    without.
    """
    found = []
    for task in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _, _, rest = task.read_text().rpartition(") ")
            state, parent = rest.split()[:2]
            if int(parent) == pid and (ended or state != "Z"):
                found.append(int(task.parent.name))
    return sorted(found)


def is_there(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds; fails where it does not in time."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"not in {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.02)


class Load:
    """Plain callers, without a retry policy, who ask at a steady rate whatever comes back."""

    def __init__(self, server: Supervised, expected: dict[str, dict[str, Answer]]) -> None:
        """Take whom to ask, and what each version answers each user."""
        self._server = server
        self._expected = expected
        self.ends: Counter[str] = Counter()
        self.mixed: list[str] = []
        self.latencies: list[tuple[float, float]] = []
        """When each call began, by the loop's clock, and how long it took."""
        self._running = True

    async def ask(self, stubs: list[Any], number: int) -> None:
        user = USERS[number % len(USERS)]
        begin = time.monotonic()
        try:
            response = await stubs[number % len(stubs)].Recommend(
                request(user), timeout=10, metadata=self._server.metadata
            )
        except grpc.aio.AioRpcError as error:
            self.ends[f"{error.code().name}: {error.details()}"] += 1
            return
        self.latencies.append((begin, time.monotonic() - begin))
        version = response.info.bundle.version
        self.ends["OK"] += 1
        if answer(response) != self._expected[version][user]:
            self.mixed.append(f"{user} from {version}: {answer(response)}")

    async def saturation(self, callers: int = 16, count: int = 2_000) -> float:
        """Return how many calls a second are answered where all callers ask without a pause."""
        stubs, channels = self._stubs(callers)
        numbers = iter(range(count))

        async def caller() -> None:
            for number in numbers:
                await self.ask(stubs, number)

        begin = time.monotonic()
        await asyncio.gather(*(caller() for _ in range(callers)))
        spent = time.monotonic() - begin
        for channel in channels:
            await channel.close()
        return count / spent

    async def run(self, rate: float, until_done: asyncio.Event) -> None:
        """Ask so often until the event, then wait for the last answers."""
        stubs, channels = self._stubs(8)
        draw = np.random.default_rng(1)
        calls: list[asyncio.Task[None]] = []
        due = time.monotonic()
        while not until_done.is_set():
            due += draw.exponential(1 / rate)
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            calls.append(asyncio.create_task(self.ask(stubs, len(calls))))
        await asyncio.gather(*calls)
        for channel in channels:
            await channel.close()

    def _stubs(self, count: int) -> tuple[list[Any], list[grpc.aio.Channel]]:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 1)]
        channels = [
            grpc.aio.insecure_channel(self._server.target, options=options) for _ in range(count)
        ]
        return [RecommendationServiceStub(channel) for channel in channels], channels
