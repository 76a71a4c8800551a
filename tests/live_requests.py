"""Random requests to items that change, and what is compared of their answers."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from shortlist.v1 import types_pb2
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
    # Of items that are equally popular those of the first rows come first, which are others in an
    # export: where popularity may answer, all items are to be candidates.
    narrow = isinstance(subject, User) and subject.id != "nobody" and not subject.history
    narrow &= not any(isinstance(one.settings, Popular) for one in sources)
    options = Options(
        limit=draw.choice([3, 10, 100]),
        candidate_count=draw.choice([8, 100]) if narrow else 100,
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
