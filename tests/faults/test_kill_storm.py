"""A server that is killed while callers change items, again and again on the same store.

After each kill the next server has every change that was acknowledged, none by half, and its
answers are those of a plain comparison of all items. `make test` kills a few times, `make
test-faults` 50 times.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from changing_world import first_items
from serving_process import ServingProcess
from shortlist_client import CatalogItem, Client, Embedding, NotFound, ShortlistError
from tiny_world import DIMENSION

FULL = os.environ.get("SHORTLIST_FAULTS") == "full"
ROUNDS = 50 if FULL else 5
POINTS = (
    "append.begin",
    "append.before_commit",
    "append.after_commit",
    "append.before_acknowledge",
    "between",
)
"""Where the server dies; `between`: wherever it is when the parent kills it."""
WRITERS = 3
NAMES = 120
TIMEOUT_S = 10.0
Vector = tuple[float, ...]


@dataclass
class Expected:
    """What one writer's items may be: a writer waits for each call, and owns its items."""

    known: dict[str, Vector | None]
    """By id, as acknowledged; None is gone."""
    open: dict[str, Vector | None] = field(default_factory=dict)
    """The change that was under way when the server died: there as a whole, or not at all."""


def written(draw: random.Random, names: list[str]) -> dict[str, Vector | None]:
    """Draw the changes of one call: items to write, or items to delete."""
    some = draw.sample(names, draw.randint(1, 8))
    if draw.random() < 0.3:
        return dict.fromkeys(some)
    return {
        name: tuple(float(np.float32(draw.gauss(0, 1))) for _ in range(DIMENSION)) for name in some
    }


def write(target: str, expected: Expected, seed: str) -> int:
    """Change items until the server dies; returns how many calls were acknowledged."""
    draw = random.Random(seed)
    names = sorted(expected.known)
    count = 0
    with Client(target, timeout_s=TIMEOUT_S) as client:
        while True:
            changes = written(draw, names)
            expected.open = changes
            try:
                if None in changes.values():
                    client.delete_items(list(changes))
                else:
                    items = [CatalogItem(name, {}, vector) for name, vector in changes.items()]
                    assert not client.upsert_items(items).failures
            except ShortlistError:
                return count
            expected.known.update(changes)
            expected.open = {}
            count += 1


def settle(client: Client, expected: Expected) -> int:
    """Compare what is served with what was acknowledged; returns 1 where the change that was under
    way is there, too.
    """
    served = {name: vector_of(client, name) for name in expected.known}
    there = {name: served[name] == vector for name, vector in expected.open.items()}
    applied = bool(there) and all(there.values())
    known = {**expected.known, **(expected.open if applied else {})}
    wrong = {
        name: (served[name], vector) for name, vector in known.items() if served[name] != vector
    }
    assert not wrong, f"served, expected: {wrong}; under way: {expected.open}"
    expected.known, expected.open = known, {}
    return applied


def vector_of(client: Client, name: str) -> Vector | None:
    try:
        return client.get_item(name, with_vector=True).vector
    except NotFound:
        return None


def check_searched(client: Client, items: dict[str, Vector | None], draw: random.Random) -> None:
    """Compare searches with a plain comparison of all items."""
    alive = {name: vector for name, vector in items.items() if vector is not None}
    for exact in (True, False):
        query = np.array([draw.gauss(0, 1) for _ in range(DIMENSION)], np.float32)
        scores = {name: float(np.dot(query, vector)) for name, vector in alive.items()}
        best = sorted(scores, key=lambda name: -scores[name])[:20]
        found = client.retrieve(
            Embedding(query.tolist()), candidate_count=20, exact=exact, timeout_s=TIMEOUT_S
        )
        assert [item.id for item in found.items] == best


def test_no_acknowledged_change_is_lost_and_none_is_half_there(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    seed = os.environ.get("SHORTLIST_SEED") or "4711"
    draw = random.Random(seed)
    own = first_items()
    items: dict[str, Vector | None] = {f"i{number}": None for number in range(NAMES)}
    for name, item in own.items():
        assert item.vector is not None
        items[name] = tuple(item.vector.tolist())
    writers = [
        Expected(known={name: items[name] for name in list(items)[number::WRITERS]})
        for number in range(WRITERS)
    ]
    counts: Counter[str] = Counter()
    store = ("--catalog-store", str(tmp_path / "catalog.sqlite"))
    for number in range(ROUNDS):
        point = POINTS[number % len(POINTS)]
        environment = {}
        if point != "between":
            environment["SHORTLIST_FAULT_POINT"] = f"{point}:{draw.randint(2, 40)}"
        with ServingProcess(tiny_bundle, *store, **environment) as serving:
            acknowledged = [0] * WRITERS

            def run(
                place: int,
                target: str = serving.target,
                into: list[int] = acknowledged,
                name: str = f"{seed}/{number}",
            ) -> None:
                into[place] = write(target, writers[place], f"{name}/{place}")

            threads = [threading.Thread(target=run, args=(place,)) for place in range(WRITERS)]
            for thread in threads:
                thread.start()
            if point == "between":
                threads[0].join(timeout=draw.uniform(0.05, 0.5))
                serving.process.send_signal(signal.SIGKILL)
            for thread in threads:
                thread.join(timeout=120)
                assert not thread.is_alive()
            assert serving.process.wait(timeout=30) == -signal.SIGKILL
        counts[point] += 1
        counts["acknowledged"] += sum(acknowledged)
        with (
            ServingProcess(tiny_bundle, *store) as serving,
            Client(serving.target, timeout_s=TIMEOUT_S) as client,
        ):
            counts["applied, not acknowledged"] += sum(
                settle(client, expected) for expected in writers
            )
            everything = {name: one for each in writers for name, one in each.known.items()}
            check_searched(client, everything, draw)
    print(f"kill storm, seed {seed}: {ROUNDS} kills, {dict(counts)}, 0 lost, 0 half there")
    assert all(counts[point] for point in POINTS)
    assert counts["acknowledged"] > ROUNDS
