"""Items that change while they are served: answers are those of the bundle that would be exported
with the items as they have become.
"""

from __future__ import annotations

import gc
import random
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from changing_world import Item, ListLog, drawn_item, first_items, loaded, world_of
from shortlist.v1 import types_pb2
from shortlist_server.catalog import tail
from shortlist_server.errors import ItemNotFound
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.filter import AllOf, AnyOf, Contains, Exists, IsIn, NoneOf, Range
from shortlist_server.funnel.options import (
    Cap,
    Named,
    Nearest,
    Options,
    Pin,
    Popular,
    RecentHistory,
    SelectionOptions,
    SourceOptions,
)
from shortlist_server.funnel.types import Answer, Event, Examples, Query, User, Vector
from shortlist_server.generation import Generation
from shortlist_server.live import LiveGeneration
from shortlist_server.rpc.snapshot import Snapshot
from tiny_world import DIMENSION, USER_COUNT

FIELD = "filter"
CONDITIONS = (
    Contains(attribute="genres", value="Drama", field=FIELD),
    Contains(attribute="genres", value="Western", field=FIELD),
    Range(attribute="year", low=1990, low_included=True, high=None, high_included=False, field="f"),
    Exists(attribute="year", field=FIELD),
    IsIn(attribute="title", values=("New 3 é", "Film 5 é", "New 9 é"), field=FIELD),
)


def drawn_filter(draw: random.Random) -> Any:
    parts = tuple(draw.sample(CONDITIONS, draw.randint(1, 3)))
    return draw.choice([AllOf(parts), AnyOf(parts), NoneOf(parts), parts[0]])


def drawn_request(draw: random.Random, ids: list[str]) -> tuple[Query, Options]:
    history = tuple(Event(item_id=draw.choice(ids)) for _ in range(draw.randint(1, 4)))
    subject = draw.choice(
        [
            User(id=f"u{draw.randrange(USER_COUNT)}"),
            User(id="nobody"),
            User(id="u3", history=history),
            Vector(values=np.array([draw.gauss(0, 1) for _ in range(DIMENSION)], np.float32)),
            Examples(item_ids=tuple(draw.sample(ids, 2))),
        ]
    )
    sources: tuple[SourceOptions, ...] = ()
    if draw.random() < 0.5:
        settings = [
            Nearest(),
            RecentHistory(),
            Popular(),
            Popular(attribute="genres", value="Comedy"),
            Named(item_ids=tuple(draw.sample(ids, 5))),
        ]
        picked = draw.sample(settings, draw.randint(1, 3))
        sources = tuple(
            SourceOptions(name=f"s{number}", settings=one) for number, one in enumerate(picked)
        )
    selection = SelectionOptions(
        diversity=draw.choice([0.0, 0.0, 0.5]),
        caps=(Cap(attribute="genres", item_count_max=2),) if draw.random() < 0.3 else (),
        pins=(Pin(item_id=draw.choice(ids)),) if draw.random() < 0.3 else (),
    )
    options = Options(
        limit=draw.choice([3, 10, 100]),
        candidate_count=100,
        exact=draw.random() < 0.5,
        ef=None,
        filter=drawn_filter(draw) if draw.random() < 0.5 else None,
        excluded_filter=drawn_filter(draw) if draw.random() < 0.2 else None,
        exclude_seen=draw.random() < 0.7,
        sources=sources,
        selection=selection,
        attributes=("*",),
    )
    return Query(subject=subject), options


def written(at: Snapshot, answer: Answer) -> list[dict[str, Any]]:
    """The items of an answer, as plain values."""
    items = answer.items
    return [
        {
            "id": at.catalog.item_id(row),
            "score": float(items.scores[place]),
            "retrieval": None
            if items.retrieval_scores is None
            else float(items.retrieval_scores[place]),
            "outputs": {name: float(values[place]) for name, values in items.outputs.items()},
            "attributes": {
                name: at.catalog.attribute(name, row) for name in at.catalog.attribute_names
            },
        }
        for place, row in enumerate(items.rows.tolist())
    ]


def ask(at: Snapshot, query: Query, options: Options) -> tuple[Any, ...]:
    try:
        answer = at.funnel.recommend(query, options, Budget(60.0))
    except ItemNotFound as error:
        return ("not found", error.got)
    selection = answer.query.allowed.selection
    return (
        answer,
        written(at, answer),
        answer.shortfall,
        None if selection is None else selection.count,
        [(warning.reason, warning.subjects) for warning in answer.warnings],
    )


def fresh(generation: Generation) -> Snapshot:
    return Snapshot(
        funnel=generation.funnel,
        catalog=generation.catalog,
        identity=types_pb2.BundleId(),
        embeddings=generation.items.embeddings,
    )


def check_same(live: Snapshot, exported: Snapshot, draw: random.Random, ids: list[str]) -> None:
    """Ask both the same, and compare; items of equal scores may stand in another order."""
    compared = 0
    for _ in range(60):
        query, options = drawn_request(draw, ids)
        ours, theirs = ask(live, query, options), ask(exported, query, options)
        if ours[0] == "not found" or theirs[0] == "not found":
            assert ours == theirs
            continue
        assert ours[2:] == theirs[2:]
        if ours[0].encoded.embedding is None and len(ours[0].sources) > 1:
            continue  # scored by places, and items that are in no list stand in order of rows
        tied = len({round(item["score"], 5) for item in theirs[1]}) < len(theirs[1])
        if tied:  # only popularity ties: items that are in no list
            assert len(ours[1]) == len(theirs[1])
            assert [item["score"] for item in ours[1]] == pytest.approx(
                [item["score"] for item in theirs[1]], rel=1e-5, abs=1e-5
            )
            continue
        assert [item["id"] for item in ours[1]] == [item["id"] for item in theirs[1]]
        for one, other in zip(ours[1], theirs[1], strict=True):
            assert one["attributes"] == other["attributes"]
            assert one["outputs"] == pytest.approx(other["outputs"], rel=1e-5, abs=1e-5)
            assert one["score"] == pytest.approx(other["score"], rel=1e-5, abs=1e-5)
        compared += 1
    assert compared > 15


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
