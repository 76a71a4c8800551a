"""Several processes append to one store, and are killed while they do.

`make test` kills some, `make test-faults` 50 of each store.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import store_child
from shortlist_server.catalog.store import CatalogStore, Tail
from shortlist_server.fault_points import VARIABLE
from store_child import append_of, open_place

FULL = os.environ.get("SHORTLIST_FAULTS") == "full"
ROUNDS_PER_POINT = 10 if FULL else 2
POINTS = (
    "append.begin",
    "append.before_commit",
    "append.after_commit",
    "append.before_acknowledge",
    "",  # the parent kills, wherever it is then: in most cases in the disk's flush
)
THREADS = 4
APPENDS = 400
CHILD = Path(store_child.__file__)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "catalog.sqlite")
    conninfo: str = request.getfixturevalue("postgres").make_database()
    return conninfo


def start(
    place: str, name: str, threads: int, appends: int, fault_point: str = ""
) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    if fault_point:
        environment[VARIABLE] = fault_point
    command = [sys.executable, CHILD, place, name, str(threads), str(appends)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def told(child: subprocess.Popen[str], kill_after: int | None = None) -> dict[int, int]:
    """Return number and revision of the appends that were acknowledged, until the child ends."""
    assert child.stdout is not None
    acknowledged: dict[int, int] = {}
    for line in child.stdout:
        number, revision = map(int, line.split())
        acknowledged[number] = revision
        if len(acknowledged) == kill_after:
            child.kill()
    child.stdout.close()
    child.wait(timeout=60)
    return acknowledged


def state(store: CatalogStore) -> dict[str, tuple[int, bytes]]:
    return {each.item_id: (each.revision, each.payload) for each in store.changes_since(0).changes}


def check(store: CatalogStore, name: str, acknowledged: dict[int, int]) -> int:
    """Check what a child of this name has left; return how many of its appends are there."""
    held = state(store)
    left = {item_id for item_id in held if item_id.startswith(f"{name}/")}
    numbers = {int(item_id.split("/")[1]) for item_id in left}
    assert set(acknowledged) <= numbers
    assert len(left) == 2 * len(numbers)
    for number in numbers:
        wanted = append_of(name, number)
        revision, payload = held[f"{name}/{number}/left"]
        assert held[f"{name}/{number}/right"] == (revision, payload)
        assert payload == wanted.outcomes
        assert acknowledged.get(number, revision) == revision
        again = store.append(wanted).result(60)
        assert (again.revision, again.replayed, again.outcomes) == (revision, True, payload)
    assert held["shared"][0] >= max(acknowledged.values(), default=0)
    assert max(revision for revision, _ in held.values()) <= store.head()
    return len(numbers)


def test_what_is_acknowledged_survives_kill_9_at_every_point(place: str) -> None:
    generator = random.Random(int(os.environ.get("SHORTLIST_SEED") or 20261))
    rounds = [point for point in POINTS for _ in range(ROUNDS_PER_POINT)]
    generator.shuffle(rounds)
    acknowledged_of: dict[str, dict[int, int]] = {}
    killed: Counter[str] = Counter()
    unacknowledged = 0
    for number, point in enumerate(rounds):
        name, at = f"round{number}", generator.randint(1, 30)
        child = start(place, name, THREADS, APPENDS, f"{point}:{at}" if point else "")
        acknowledged = told(child, None if point else at)
        assert child.returncode == -signal.SIGKILL, (point, at)
        killed[point or "any"] += 1
        with closing(open_place(place)) as store:
            applied = check(store, name, acknowledged)
            unacknowledged += applied - len(acknowledged)
        if point == "append.before_acknowledge":
            assert applied > len(acknowledged)
        acknowledged_of[name] = acknowledged
    with closing(open_place(place)) as store:
        for name, acknowledged in acknowledged_of.items():
            if acknowledged:
                check(store, name, acknowledged)
    revisions = [revision for each in acknowledged_of.values() for revision in each.values()]
    assert len(revisions) == len(set(revisions))
    assert set(killed.values()) == {ROUNDS_PER_POINT}
    print(
        f"\nkilled {dict(killed)}: {len(revisions)} acknowledged, 0 lost; "
        f"{unacknowledged} there though not acknowledged, 0 half there"
    )


def follow(place: str, last: int) -> dict[str, int]:
    """Return the items of the tail, read as they come, and the revisions they were seen at."""
    seen: dict[str, int] = {}
    revision = 0
    with closing(open_place(place)) as store:
        while revision < last:
            tail: Tail = store.changes_since(revision)
            assert tail.revision >= revision
            for change in tail.changes:
                assert revision < change.revision <= tail.revision
                seen.setdefault(change.item_id, change.revision)
            revision = tail.revision
    return seen


def test_four_processes_append_and_who_follows_misses_nothing(place: str) -> None:
    processes, appends = 4, 60
    with ThreadPoolExecutor(processes + 2) as pool:
        followers = [pool.submit(follow, place, processes * appends) for _ in range(2)]
        children = [start(place, f"p{each}", 4, appends) for each in range(processes)]
        acknowledged = list(pool.map(told, children))
        assert [child.returncode for child in children] == [0] * processes
        revisions = [revision for each in acknowledged for revision in each.values()]
        assert sorted(revisions) == list(range(1, processes * appends + 1))
        wanted = {
            f"p{process}/{number}/{side}": revision
            for process, own in enumerate(acknowledged)
            for number, revision in own.items()
            for side in ("left", "right")
        }
        for follower in followers:
            seen = follower.result(timeout=60)
            del seen["shared"]
            assert seen == wanted
