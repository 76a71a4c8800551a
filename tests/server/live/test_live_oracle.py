"""Items that change while they are served: answers are those of the bundle that would be exported
with the items as they have become.
"""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from pathlib import Path

import pytest
from changing_world import Item, ListLog, drawn_item, first_items, loaded, world_of
from live_requests import ask, check_same, drawn_request, fresh
from shortlist.v1 import types_pb2
from shortlist_server.bundle_label import BundleLabel
from shortlist_server.catalog import tail
from shortlist_server.generation import Generation
from shortlist_server.labels import LabeledGenerations, LiveGenerations
from shortlist_server.live import LiveGeneration


@pytest.mark.parametrize("tower", [False, True], ids=["vectors", "item tower"])
@pytest.mark.parametrize("seed", range(4))
def test_answers_are_those_of_a_bundle_with_the_items_as_they_are(
    seed: int, tower: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "OPEN_ROWS", 8)
    monkeypatch.setattr(tail, "SCANNED_ROWS", 24)
    monkeypatch.setattr("shortlist_server.catalog.changes.OPEN_ROWS", 64)
    draw = random.Random(seed)
    items: dict[str, Item] = first_items()
    base = loaded(world_of(tmp_path / "first", items, tower=tower))
    log = ListLog(base.bundle.sha256)
    live = LiveGeneration(base, types_pb2.BundleId(), log, filter_cache_bytes=1 << 20)
    names = [f"i{number}" for number in range(90)]
    number = 0
    for step in range(4):
        for _ in range(draw.randint(1, 6)):
            changes: dict[str, Item | None] = {}
            for item_id in draw.sample(names, draw.randint(1, 12)):
                number += 1
                gone = draw.random() < 0.3
                changes[item_id] = None if gone else drawn_item(draw, number, with_vector=not tower)
            log.write(changes)
            live.refresh()
            for item_id, item in changes.items():
                # A changed item goes to the end, as it would not in an export: ties apart, the
                # order of rows says nothing.
                items.pop(item_id, None)
                if item is not None:
                    items[item_id] = item
        exported = fresh(loaded(world_of(tmp_path / f"step{step}", items, tower=tower)))
        assert live.snapshot.revision == log.revision
        assert live.snapshot.catalog.size == len(items)
        check_same(live.snapshot, exported, draw, names)
    assert not live.state.misfits
    again = LiveGeneration(base, types_pb2.BundleId(), log, filter_cache_bytes=1 << 20)
    check_same(again.snapshot, exported, draw, names)


@pytest.mark.parametrize("tower", [False, True], ids=["vectors", "item tower"])
def test_each_label_answers_as_its_own_bundle_with_the_items_as_they_are(
    tower: bool, tmp_path: Path
) -> None:
    """The stable bundle takes the vectors that were sent, or makes its own; the canary and the
    shadow make theirs, each by its own item tower.
    """
    draw = random.Random(11)
    items: dict[str, Item] = first_items()
    labels = {"stable": (tower, "1"), "canary": (True, "2"), "shadow": (True, "3")}

    def exported(step: str) -> dict[str, Generation]:
        return {
            label: loaded(
                world_of(tmp_path / f"{step} {label}", items, tower=embeds, version=version)
            )
            for label, (embeds, version) in labels.items()
        }

    base = LabeledGenerations(**exported("first"))
    log = ListLog(base.stable.bundle.sha256)
    live = LiveGenerations(base, log, filter_cache_bytes=1 << 20)
    try:
        names = [f"i{number}" for number in range(90)]
        for step in range(2):
            for number in range(5):
                changes: dict[str, Item | None] = {
                    item_id: None
                    if draw.random() < 0.3
                    else drawn_item(draw, 10 * step + number, with_vector=not tower)
                    for item_id in draw.sample(names, 8)
                }
                log.write(changes)
                for item_id, item in changes.items():
                    items.pop(item_id, None)
                    if item is not None:
                        items[item_id] = item
            for label, generation in exported(f"step{step}").items():
                following = live.by_label[BundleLabel(label)]
                asyncio.run(asyncio.wait_for(following.reached(log.revision), 30))
                assert following.follows
                assert following.snapshot.catalog.size == len(items)
                assert not following.state.misfits
                check_same(following.snapshot, fresh(generation), draw, names)
    finally:
        live.close()
        base.close()


def test_a_snapshot_never_changes(tmp_path: Path) -> None:
    draw = random.Random(5)
    base = loaded(world_of(tmp_path, first_items()))
    log = ListLog(base.bundle.sha256)
    live = LiveGeneration(base, types_pb2.BundleId(), log, filter_cache_bytes=1 << 20)
    kept = []
    names = [f"i{number}" for number in range(90)]
    for number in range(30):
        at = live.snapshot
        requests = [drawn_request(draw, names) for _ in range(5)]
        answers = [ask(at, *request)[1:] for request in requests]
        kept.append((at, requests, answers))
        log.write(
            {
                item_id: None if draw.random() < 0.3 else drawn_item(draw, number, with_vector=True)
                for item_id in draw.sample(names, 10)
            }
        )
        live.refresh()
    for at, requests, answers in kept:
        assert [ask(at, *request)[1:] for request in requests] == answers


def test_a_snapshot_that_nobody_holds_is_gone_at_once(tmp_path: Path) -> None:
    """Each holds masks of the whole catalogue: the collector would come too late."""
    draw = random.Random(6)
    base = loaded(world_of(tmp_path, first_items()))
    log = ListLog(base.bundle.sha256)
    live = LiveGeneration(base, types_pb2.BundleId(), log, filter_cache_bytes=1 << 20)
    names = [f"i{number}" for number in range(90)]
    gc.disable()
    try:
        left = []
        for number in range(5):
            log.write({draw.choice(names): drawn_item(draw, number, with_vector=True)})
            live.refresh()
            for _ in range(20):
                ask(live.snapshot, *drawn_request(draw, names))
            left.append(weakref.ref(live.snapshot.catalog))
        assert [ref() is None for ref in left] == [True] * 4 + [False]
    finally:
        gc.enable()
