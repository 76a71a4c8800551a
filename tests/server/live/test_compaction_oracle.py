"""Items that change while a server folds earlier changes into a new index, now and then: answers
stay those of the bundle that would be exported with the items as they have become.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from changing_world import Item, ListLog, drawn_item, first_items, loaded, world_of
from live_requests import check_same, fresh
from shortlist.v1 import types_pb2
from shortlist_server.bundle.reader import open_bundle, read_manifest
from shortlist_server.catalog import tail
from shortlist_server.catalog.compaction import write_compacted
from shortlist_server.errors import BundleCorrupt, BundleError, BundleUnsupported
from shortlist_server.generation import Generation, GenerationOptions, load_generation
from shortlist_server.live import LiveGeneration
from tiny_world import DIMENSION, ITEM_COUNT, USER_COUNT

NAMES = [f"i{number}" for number in range(90)]


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "OPEN_ROWS", 8)
    monkeypatch.setattr(tail, "SCANNED_ROWS", 24)
    monkeypatch.setattr("shortlist_server.catalog.changes.OPEN_ROWS", 64)


def following(generation: Generation, log: ListLog) -> LiveGeneration:
    return LiveGeneration(generation, types_pb2.BundleId(), log, filter_cache_bytes=1 << 20)


def compacted(live: LiveGeneration, folder: Path) -> Generation:
    """Fold in what a generation has seen, and load it."""
    write_compacted(live.generation.bundle, live.items, "a store", folder)
    return load_generation(folder, GenerationOptions(exact_items_max=0), compacted=True)


def drawn_changes(
    draw: random.Random, numbers: Iterator[int], *, tower: bool, misfits: bool
) -> dict[str, Item | None]:
    changes: dict[str, Item | None] = {}
    for item_id in draw.sample(NAMES, draw.randint(1, 12)):
        item = drawn_item(draw, next(numbers), with_vector=not tower)
        if misfits and draw.random() < 0.2:
            item = Item({**item.attributes, "year": "soon"}, item.vector)
        if misfits and draw.random() < 0.2:
            vector = np.full(DIMENSION, draw.gauss(0, 1), np.float32)
            item = replace(item, vector=vector, vector_bundle="f" * 64)
        changes[item_id] = None if draw.random() < 0.3 else item
    return changes


def check_alike(live: LiveGeneration, plain: LiveGeneration) -> None:
    """Compare all that is known of items with what it is where nothing was ever folded in."""
    one, other = live.snapshot.catalog, plain.snapshot.catalog
    assert (live.snapshot.revision, one.size) == (plain.snapshot.revision, other.size)
    assert live.state.changed_count == plain.state.changed_count
    assert live.state.deleted_count == plain.state.deleted_count
    wanted = sorted(plain.state.misfits, key=lambda misfit: misfit.item_id)
    assert sorted(live.state.misfits, key=lambda misfit: misfit.item_id) == wanted
    for item_id in NAMES:
        row, wanted_row = one.row(item_id), other.row(item_id)
        assert (row is None) == (wanted_row is None)
        if row is None or wanted_row is None:
            continue
        assert one.revision_of(row) == other.revision_of(wanted_row)
        assert {name: one.attribute(name, row) for name in one.attribute_names} == {
            name: other.attribute(name, wanted_row) for name in other.attribute_names
        }
        vectors = live.snapshot.embeddings, plain.snapshot.embeddings
        np.testing.assert_allclose(
            vectors[0][np.array([row])], vectors[1][np.array([wanted_row])], rtol=1e-6
        )
    for user in range(USER_COUNT):
        assert [one.item_id(row) for row in one.seen(f"u{user}").tolist()] == [
            other.item_id(row) for row in other.seen(f"u{user}").tolist()
        ]


@pytest.mark.parametrize("tower", [False, True], ids=["vectors", "item tower"])
@pytest.mark.parametrize("seed", range(4))
def test_answers_are_those_of_a_bundle_with_the_items_as_they_are(
    seed: int, tower: bool, tmp_path: Path
) -> None:
    draw = random.Random(seed)
    items: dict[str, Item] = first_items()
    base = loaded(world_of(tmp_path / "first", items, tower=tower))
    log = ListLog(base.bundle.sha256)
    live, plain = following(base, log), following(base, log)
    numbers, folded = itertools.count(1), 0
    for step in range(4):
        for _ in range(draw.randint(1, 6)):
            changes = drawn_changes(draw, numbers, tower=tower, misfits=False)
            log.write(changes)
            live.refresh()
            for item_id, item in changes.items():
                items.pop(item_id, None)
                if item is not None:
                    items[item_id] = item
            if draw.random() < 0.5:
                folded += 1
                generation = compacted(live, tmp_path / f"folded{folded}")
                if draw.random() < 0.5:  # changes that come while it is made
                    later = drawn_changes(draw, numbers, tower=tower, misfits=False)
                    log.write(later)
                    for item_id, item in later.items():
                        items.pop(item_id, None)
                        if item is not None:
                            items[item_id] = item
                if draw.random() < 0.5:
                    live.rebase(generation)
                else:
                    live = following(generation, log)
        live.refresh()
        plain.refresh()
        exported = fresh(loaded(world_of(tmp_path / f"step{step}", items, tower=tower)))
        assert live.snapshot.revision == log.revision
        assert live.snapshot.catalog.size == len(items)
        check_same(live.snapshot, exported, draw, NAMES)
        check_alike(live, plain)
    assert folded > 1
    assert live.generation.bundle.sha256 == base.bundle.sha256


@pytest.mark.parametrize("seed", range(4))
def test_items_that_do_not_fit_stay_known_as_such(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    base = loaded(world_of(tmp_path / "first", first_items()))
    log = ListLog(base.bundle.sha256)
    live, plain = following(base, log), following(base, log)
    misfits, numbers = 0, itertools.count(1)
    for number in range(12):
        log.write(drawn_changes(draw, numbers, tower=False, misfits=True))
        plain.refresh()
        live.refresh()
        check_alike(live, plain)
        misfits += len(live.state.misfits)
        live.rebase(compacted(live, tmp_path / f"folded{number}"))
        check_alike(live, plain)
        assert live.state.pending_count == 0
    assert misfits > 12


def test_an_item_that_comes_back_was_seen_and_is_popular_as_before(tmp_path: Path) -> None:
    base = loaded(world_of(tmp_path / "first", first_items()))
    users = base.bundle.users
    popularity = base.bundle.popularity
    assert users is not None
    assert popularity is not None
    user = next(name for name in users.ids if len(base.catalog.seen(name)))
    gone = base.catalog.item_id(int(base.catalog.seen(user)[0]))
    log = ListLog(base.bundle.sha256)
    live = following(base, log)
    log.write({gone: None})
    live.refresh()
    generation = compacted(live, tmp_path / "folded")
    live = following(generation, log)
    assert len(live.snapshot.catalog.seen(user)) == len(base.catalog.seen(user)) - 1
    assert live.snapshot.catalog.row(gone) is None
    listed = generation.items.popularity
    assert listed is not None
    assert len(listed.rows) == len(popularity.rows) - 1
    log.write({gone: drawn_item(random.Random(1), 1, with_vector=True)})
    live.refresh()
    at = live.snapshot.catalog
    assert at.item_id(int(at.seen(user)[0])) == gone
    assert at.revision_of(at.row(gone) or 0) == 2
    assert live.state.deleted_count == 0


def test_where_no_item_is_left_nothing_is_written(tmp_path: Path) -> None:
    base = loaded(world_of(tmp_path / "first", first_items()))
    log = ListLog(base.bundle.sha256)
    live = following(base, log)
    log.write(dict.fromkeys(f"i{number}" for number in range(ITEM_COUNT)))
    live.refresh()
    with pytest.raises(BundleError, match="folded: expected an item that is left, got none"):
        compacted(live, tmp_path / "folded")
    assert not (tmp_path / "folded").exists()


def test_a_compacted_bundle_is_taken_for_no_export_and_is_held_to_what_was_written(
    tmp_path: Path,
) -> None:
    base = loaded(world_of(tmp_path / "first", first_items()))
    log = ListLog(base.bundle.sha256)
    live = following(base, log)
    log.write(drawn_changes(random.Random(3), itertools.count(), tower=False, misfits=False))
    live.refresh()
    folder = tmp_path / "folded"
    compacted(live, folder)
    with pytest.raises(BundleUnsupported, match="one that a server has made for itself"):
        open_bundle(folder)
    assert read_manifest(folder, compacted=True)[1] == base.bundle.sha256
    manifest = folder / "manifest.json"
    text = manifest.read_text()
    assert '"mean": 40.0' in text
    manifest.write_text(text.replace('"mean": 40.0', '"mean": 41.0'))
    with pytest.raises(BundleCorrupt, match=r"manifest.json: expected sha256"):
        open_bundle(folder, compacted=True)
    manifest.write_text(text)
    changed = [path for path in folder.rglob("*.npy") if "compacted" in path.parts]
    assert len(changed) > 5
    for path in changed:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(BundleCorrupt, match=path.name):
            open_bundle(folder, compacted=True)
        path.write_bytes(whole)
    open_bundle(folder, compacted=True)
