"""Processes that are killed while callers change items, changes are folded in, bundles are switched
and bundles are exported; again and again on the same store and the same folders.

After each kill the next server has every change that was acknowledged, none by half, and its
answers are those of a plain comparison of all items. `make test` kills a few times, `make
test-faults` 50 times.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from changing_world import first_items, world_of
from serving_process import ServingProcess
from shortlist_client import CatalogItem, Client, Embedding, NotFound, ShortlistError
from shortlist_server.compacted_folders import FOLDER
from shortlist_server.fault_points import VARIABLE
from shortlist_server.workers.bundle_folder import BundleFolder
from supervised import Supervised, children, is_there, kill, until
from tiny_world import DIMENSION, GENRES, ITEM_COUNT

FULL = os.environ.get("SHORTLIST_FAULTS") == "full"
APPEND = ("begin", "before_commit", "after_commit", "before_acknowledge")
WRITE = ("before_sync", "before_rename", "after_rename")
POINTS = (
    *(f"one process: append.{point}" for point in APPEND),
    "one process: between",
    "one process: compaction.before_swap",
    "one process: compaction.after_swap",
    *(f"builder: bundle.{point}" for point in WRITE),
    *(f"supervisor: serving_state.{point}" for point in WRITE),
    "supervisor: compaction.before_swap",
    "supervisor: compaction.after_swap",
    *(f"workers: append.{point}" for point in APPEND),
    *(f"{who}: between" for who in ("supervisor", "zygote", "worker", "builder")),
    *(f"export: bundle.{point}" for point in WRITE),
    "export: between",
)
"""Who dies, and where; `between`: wherever it is when the test kills it."""
SHORT = (
    "one process: append.before_acknowledge",
    "one process: compaction.after_swap",
    "builder: bundle.before_rename",
    "supervisor: serving_state.before_rename",
    "worker: between",
    "export: bundle.before_rename",
)
ROUNDS = 50 if FULL else len(SHORT)
WRITERS = 3
NAMES = 120
PENDING = 25
TIMEOUT_S = 20.0

Value = tuple[str, int | None, tuple[str, ...]]
"""Title, year and genres: what the item tower and filters are fed."""


@dataclass
class Expected:
    """What one writer's items may be: a writer waits for each call, and owns its items."""

    known: dict[str, Value | None]
    """By id, as acknowledged; None is gone."""
    open: dict[str, Value | None] = field(default_factory=dict)
    """The change that was under way when it stopped: there as a whole, or not at all."""


def drawn(draw: random.Random, names: list[str]) -> dict[str, Value | None]:
    """Draw the changes of one call: items to write, or items to delete."""
    some = draw.sample(names, draw.randint(1, 8))
    if draw.random() < 0.3:
        return dict.fromkeys(some)
    return {
        name: (
            f"title {draw.random()}",
            draw.randint(1, 2_000),
            tuple(sorted(draw.sample(GENRES, draw.randint(0, 3)))),
        )
        for name in some
    }


class Writing:
    """Callers that change items until they are stopped, or fail."""

    def __init__(self, writers: list[Expected], target: str, key: str | None, seed: str) -> None:
        self._stopped = threading.Event()
        self.acknowledged = 0
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._write, args=(expected, target, key, f"{seed}/{number}"))
            for number, expected in enumerate(writers)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=120)
            assert not thread.is_alive()

    def _write(self, expected: Expected, target: str, key: str | None, seed: str) -> None:
        draw = random.Random(seed)
        names = sorted(expected.known)
        with Client(target, timeout_s=TIMEOUT_S, api_key=key) as client:
            while not self._stopped.is_set():
                changes = drawn(draw, names)
                expected.open = changes
                try:
                    send(client, changes)
                except ShortlistError:
                    return
                expected.known.update(changes)
                expected.open = {}
                with self._lock:
                    self.acknowledged += 1


def send(client: Client, changes: dict[str, Value | None]) -> None:
    if None in changes.values():
        client.delete_items(list(changes))
        return
    items = [
        CatalogItem(name, {"title": value[0], "year": value[1] or 0, "genres": list(value[2])})
        for name, value in changes.items()
        if value is not None
    ]
    assert not client.upsert_items(items).failures


def served(client: Client, name: str) -> tuple[Value, np.ndarray] | None:
    try:
        item = client.get_item(name, with_vector=True)
    except NotFound:
        return None
    found = item.attributes
    genres: Any = found.get("genres", ())
    year: Any = found.get("year")
    return (str(found["title"]), year, tuple(sorted(genres))), np.array(item.vector, np.float32)


def check(client: Client, writers: list[Expected], draw: random.Random) -> int:
    """Compare what is served with what was acknowledged, and searches with a plain comparison of
    all items; returns how many changes that were under way are there.
    """
    vectors: dict[str, np.ndarray] = {}
    applied_count = 0
    for expected in writers:
        values: dict[str, Value | None] = {}
        for name in expected.known:
            found = served(client, name)
            values[name] = None if found is None else found[0]
            if found is not None:
                vectors[name] = found[1]
        there = {name: values[name] == value for name, value in expected.open.items()}
        applied = bool(there) and all(there.values())
        known = {**expected.known, **(expected.open if applied else {})}
        wrong = {
            name: (values[name], value) for name, value in known.items() if values[name] != value
        }
        assert not wrong, f"served, expected: {wrong}; under way: {expected.open}"
        expected.known, expected.open = known, {}
        applied_count += applied
    for exact in (True, False):
        query = np.array([draw.gauss(0, 1) for _ in range(DIMENSION)], np.float32)
        scores = {name: float(np.dot(query, vector)) for name, vector in vectors.items()}
        found_items = client.retrieve(
            Embedding(query.tolist()), candidate_count=20, exact=exact, timeout_s=TIMEOUT_S
        ).items
        # Items may be alike: then either is right.
        assert [scores[item.id] for item in found_items] == pytest.approx(
            sorted(scores.values(), reverse=True)[:20], rel=1e-4, abs=1e-4
        )
    return applied_count


class Storm:
    """The folders and the store that all rounds share."""

    def __init__(self, root: Path, seed: str) -> None:
        self.root = root
        self.seed = seed
        self.draw = random.Random(seed)
        self.counts: Counter[str] = Counter()
        bundles = root / "bundles"
        first = world_of(root / "first", first_items(), tower=True)
        self.spec = root / "first/spec/export.json"
        bundles.mkdir()
        first.rename(bundles / "1")
        self.export("2")
        lines = (self.spec.parent / "items.csv").read_text().split("\n")[1 : ITEM_COUNT + 1]
        items: dict[str, Value | None] = {f"i{number}": None for number in range(NAMES)}
        for item_id, title, year, genres in (line.split(",") for line in lines):
            listed = tuple(sorted(genres.split("|"))) if genres else ()
            items[item_id] = (title, int(year) if year else None, listed)
        self.writers = [
            Expected(known={name: items[name] for name in list(items)[number::WRITERS]})
            for number in range(WRITERS)
        ]

    def export(self, version: str, **environment: str) -> None:
        """Export a bundle into the folder that servers take bundles from."""
        assert self.exporting(version, **environment).wait(timeout=120) == 0

    def exporting(self, version: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "shortlist_exporters.cli", "bundle", str(self.spec)]
        command += ["--out", str(self.root / "bundles" / version), "--version", version]
        return subprocess.Popen(
            [*command, "--replace"], env=os.environ | environment, stderr=subprocess.DEVNULL
        )

    @contextmanager
    def one_process(self, **environment: str) -> Iterator[tuple[ServingProcess, str | None]]:
        settings = ("--state-dir", self.root / "state", *self._folding())
        with ServingProcess(self.root / "bundles/1", *settings, **environment) as serving:
            yield serving, None

    @contextmanager
    def workers(self, **environment: str) -> Iterator[tuple[Supervised, str | None]]:
        settings = ("--workers", "2", *self._folding())
        bundle = self.root / "bundles/1"
        with Supervised(self.root, *settings, bundle=bundle, environment=environment) as serving:
            yield serving, (self.root / "key").read_text()

    def _folding(self) -> tuple[str | Path, ...]:
        store = ("--catalog-store", self.root / "catalog.sqlite")
        return (*store, "--compact-at", str(PENDING), "--compact-interval-s-min", "0")

    def round(self, number: int, point: str) -> None:
        """Kill once, and compare what the next server has."""
        who, _, where = point.partition(": ")
        if who == "export":
            self._export_round(where)
        else:
            start = self.one_process if who == "one process" else self.workers
            environment = {} if where == "between" else {VARIABLE: self._hit(where)}
            with start(**environment) as (serving, key):
                writing = Writing(self.writers, serving.target, key, f"{self.seed}/{number}")
                try:
                    self._die(serving, who, where)
                finally:
                    # Whatever was to be killed: now the rest is, too.
                    serving.process.send_signal(signal.SIGKILL)
                    writing.stop()
                assert serving.process.wait(timeout=30) == -signal.SIGKILL
            self.counts["acknowledged"] += writing.acknowledged
        self.counts[point] += 1
        start = self.draw.choice([self.one_process, self.workers])
        with (
            start() as (serving, key),
            Client(serving.target, timeout_s=TIMEOUT_S, api_key=key) as client,
        ):
            applied = check(client, self.writers, self.draw)
            assert not [name for name in left(self.root / "state") if not is_writing(name)]
        self.counts["applied, not acknowledged"] += applied

    def _hit(self, where: str) -> str:
        if where.startswith("append"):
            return f"{where}:{self.draw.randint(2, 20)}"
        # What serves is written down once when a server begins.
        return f"{where}:{2 if where.startswith('serving_state') else 1}"

    def _die(self, serving: Any, who: str, where: str) -> None:
        """Wait until it has died that should, or kill it."""
        if where == "between":
            time.sleep(self.draw.uniform(0.05, 0.5))
            victim = self._victim(serving, who)
            kill(victim)
            until(lambda: not is_there(victim), f"the end of {who}")
            return
        if who in ("one process", "supervisor"):
            if where.startswith("serving_state"):
                activate(serving)
            assert serving.process.wait(timeout=60) == -signal.SIGKILL
            return
        # Of the others the server tells, and it goes on.
        told = "folds ended by -9" if who == "builder" else "signal SIGKILL"
        for line in serving.process.stderr:
            if told in line:
                return
        raise AssertionError(f"{who} did not die at {where}")

    def _victim(self, serving: Any, who: str) -> int:
        if who in ("one process", "supervisor"):
            return int(serving.process.pid)
        found: list[int] = []

        def there() -> bool:
            if who == "worker":
                found[:] = serving.workers()
            else:
                found[:] = [
                    pid
                    for pid in children(serving.process.pid)
                    if is_builder(pid) == (who == "builder")
                ]
            return bool(found)

        until(there, who)
        return self.draw.choice(found)

    def _export_round(self, where: str) -> None:
        """Kill an export that replaces a bundle; what is there is whole, and the next one clears
        up.
        """
        bundles = self.root / "bundles"
        version = "3"
        environment = {} if where == "between" else {VARIABLE: f"{where}:1"}
        process = self.exporting(version, **environment)
        if where == "between":
            until(lambda: any(bundles.glob(f".{version}.writing-*")), "an export that writes")
            time.sleep(self.draw.uniform(0, 0.1))
            process.kill()
        assert process.wait(timeout=120) == -signal.SIGKILL
        assert not [one.problem for one in BundleFolder(bundles).look() if one.problem]
        self.export(version)
        assert {one.version for one in BundleFolder(bundles).look()} == {"1", "2", "3"}
        assert not [path for path in bundles.iterdir() if path.name.startswith(f".{version}.")]


def activate(serving: Supervised) -> None:
    """Switch to the other bundle; the server dies of it."""
    active = serving.serving_state()["active"]["stable"]["version"]
    try:
        serving.activate("1" if active == "2" else "2")
    except grpc.RpcError as error:
        # Gone, or a folding came before, which comes to the same point.
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)  # noqa: PT017


def left(state: Path) -> list[str]:
    """What stands among the folded folders that is not whole."""
    return [path.name for path in (state / FOLDER).glob(".*")]


def is_writing(name: str) -> bool:
    """Whether who writes it is still there: a folding has begun again."""
    return is_there(int(name.rpartition("-")[2]))


def is_builder(pid: int) -> bool:
    try:
        return b"workers.compacting" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_no_acknowledged_change_is_lost_and_none_is_half_there(tmp_path: Path) -> None:
    seed = os.environ.get("SHORTLIST_SEED") or "4711"
    storm = Storm(tmp_path, seed)
    points = POINTS if FULL else SHORT
    order = [points[number % len(points)] for number in range(ROUNDS)]
    storm.draw.shuffle(order)
    for number, point in enumerate(order):
        storm.round(number, point)
        print(f"{number} {point}", flush=True)
    counts = storm.counts
    told = {point: counts[point] for point in points}
    others = {name: count for name, count in counts.items() if name not in told}
    print(f"kill storm, seed {seed}: {ROUNDS} kills, {told}, {others}, 0 lost, 0 half there")
    assert all(told.values())
    assert counts["acknowledged"] > ROUNDS
