"""What a request must be answered with, worked out by brute force from the request message and the
plain values of a `random_world.World`: every item looked at, every rule as the protos state it.

Shares no code with the server.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from random_world import TABLE_USERS, TOWER_USERS, World
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types

MASK64 = 2**64 - 1


# Filters.


def value_of(message: types.Value) -> Any:
    kind = message.WhichOneof("kind")
    assert kind is not None
    held = getattr(message, kind)
    return tuple(held.values) if kind.endswith("_list") else held


def matches(world: World, filter_: types.Filter, row: int) -> bool:
    """Whether one item matches a filter."""
    kind = filter_.WhichOneof("kind")
    assert kind is not None
    body = getattr(filter_, kind)
    if kind == "all_of":
        return all(matches(world, part, row) for part in body.filters)
    if kind == "any_of":
        return any(matches(world, part, row) for part in body.filters)
    if kind == "none_of":
        return not any(matches(world, part, row) for part in body.filters)
    cell = world.attributes[body.attribute][row]
    if cell is None:
        return False
    if kind == "exists":
        return True
    if kind == "equals":
        return bool(cell == value_of(body.value))
    if kind == "is_in":
        return cell in value_of(body.values)
    if kind == "contains":
        return value_of(body.value) in cell
    return (
        (not body.HasField("at_least") or cell >= value_of(body.at_least))
        and (not body.HasField("above") or cell > value_of(body.above))
        and (not body.HasField("at_most") or cell <= value_of(body.at_most))
        and (not body.HasField("below") or cell < value_of(body.below))
    )


# The query.


@dataclass
class Asked:
    """What a request comes to."""

    request: pb.RecommendRequest
    user_id: str
    """Empty where the query is none for a user."""
    known: bool
    history: list[int]
    features: dict[str, Any]
    embedding: np.ndarray | None
    embedding_name: str
    personal: bool
    excluded: set[int]
    filtered: list[int]
    """Rows that the filters match, rising."""
    allowed: list[int]
    """Those of them that are not excluded."""

    @property
    def limit(self) -> int:
        return self.request.limit or 20

    @property
    def candidate_count(self) -> int:
        return self.request.retrieval.candidate_count or max(200, self.limit)


def row_of(world: World, item_id: str) -> int | None:
    return world.ids.index(item_id) if item_id in world.ids else None


def rows_of(world: World, item_ids: Iterable[str]) -> list[int]:
    rows = (row_of(world, item_id) for item_id in item_ids)
    return [row for row in rows if row is not None]


def asked(world: World, request: pb.RecommendRequest) -> Asked:
    """Work out what a request comes to."""
    query = request.query
    user = query.user
    known = query.HasField("user") and (
        user.id in TABLE_USERS or (world.has_tower and user.id in TOWER_USERS)
    )
    seen = world.seen.get(user.id, []) if known else []
    sent = rows_of(world, (event.item_id for event in user.history))
    history = sent if len(user.history) else seen
    features: dict[str, Any] = {}
    if known and user.id in world.likes:
        features["user.likes"] = world.likes[user.id]
    features |= {f"user.{name}": value_of(value) for name, value in user.features.items()}
    examples = rows_of(world, query.items.item_ids)
    embedding, name = _embedding(world, query, known, history, features)
    exclusions = request.exclusions
    excluded = set(examples) | set(rows_of(world, exclusions.item_ids))
    if not exclusions.HasField("seen") or exclusions.seen:
        excluded |= set(seen) | set(sent)
    filtered = [
        row
        for row in range(world.size)
        if (not request.HasField("filter") or matches(world, request.filter, row))
        and not (exclusions.HasField("filter") and matches(world, exclusions.filter, row))
    ]
    described = known or bool(features)
    return Asked(
        request=request,
        user_id=user.id if query.HasField("user") else "",
        known=known,
        history=history,
        features=features,
        embedding=embedding,
        embedding_name=name,
        personal=query.HasField("user") and (name == "two_tower" or described),
        excluded=excluded,
        filtered=filtered,
        allowed=[row for row in filtered if row not in excluded],
    )


def _embedding(
    world: World, query: types.Query, known: bool, history: list[int], features: dict[str, Any]
) -> tuple[np.ndarray | None, str]:
    kind = query.WhichOneof("kind")
    if kind == "embedding":
        return _direction(world, np.array(query.embedding.values)), "embedding"
    if kind == "items":
        return _mean(world, sorted(set(rows_of(world, query.items.item_ids)))), "items"
    if world.has_tower and (known or "user.mood" in features):
        return world.user_vector(query.user.id, features.get("user.mood", 0)), "two_tower"
    if history:
        return _mean(world, history), "history"
    return None, "popularity"


def _mean(world: World, rows: Sequence[int]) -> np.ndarray:
    return _direction(world, world.vectors[list(rows)].astype(np.float64).mean(axis=0))


def _direction(world: World, vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector) if world.metric == "cosine" else vector


def similarity(world: World, row: int, point: np.ndarray) -> float:
    vector = world.vectors[row].astype(np.float64)
    if world.metric == "l2":
        return -float(((vector - point) ** 2).sum())
    return float(vector @ point)


# Sources.


@dataclass
class Source:
    """A source in an answer: its name, and the rows it gives, best first."""

    name: str
    kind: str
    rows: list[int]
    scores: list[float] | None = None
    """Only of popularity."""


def nearest(world: World, point: np.ndarray, rows: Sequence[int], k: int) -> list[int]:
    return sorted(rows, key=lambda row: (-similarity(world, row, point), row))[:k]


def sources(world: World, ask: Asked) -> list[Source]:
    """Return the sources that apply, with what an exact search gives each."""
    listed = list(ask.request.sources)
    if not listed:
        listed = [types.SourceOptions(nearest=types.NearestSource())]
    found = []
    for options in listed:
        k = options.candidate_count or ask.candidate_count
        if (source := _source(world, ask, options, k)) is not None:
            found.append(source)
    if not found and world.popular is not None:
        taken = any((source.name or source.WhichOneof("kind")) == "popularity" for source in listed)
        rows, scores = popular(world, ask.allowed, ask.candidate_count)
        name = "popularity_overall" if taken else "popularity"
        found.append(Source(name, "popularity", rows, scores))
    return found


def _source(world: World, ask: Asked, options: types.SourceOptions, k: int) -> Source | None:
    kind = str(options.WhichOneof("kind"))
    if kind == "nearest":
        if ask.embedding is None:
            return None
        rows = nearest(world, ask.embedding, ask.allowed, k)
        return Source(options.name or ask.embedding_name, kind, rows)
    if kind == "recent_history":
        if not ask.history:
            return None
        last = ask.history[-(options.recent_history.event_count or 10) :]
        rows = nearest(world, _mean(world, last), ask.allowed, k)
        return Source(options.name or kind, kind, rows)
    if kind == "caller":
        rows = rows_of(world, dict.fromkeys(options.caller.item_ids))
        return Source(options.name or kind, kind, [row for row in rows if row in ask.allowed][:k])
    held = ask.allowed
    if options.popularity.attribute:
        value = ask.features.get(options.popularity.feature)
        if options.popularity.HasField("value"):
            value = value_of(options.popularity.value)
        if value is None:
            return None
        cells = world.attributes[options.popularity.attribute]
        held = [
            row
            for row in held
            if cells[row] is not None
            and (value in cells[row] if isinstance(cells[row], tuple) else value == cells[row])
        ]
    if world.popular is None:
        return None
    rows, scores = popular(world, held, k)
    return Source(options.name or kind, kind, rows, scores)


def popular(world: World, rows: Sequence[int], k: int) -> tuple[list[int], list[float]]:
    assert world.popular is not None
    scores = dict(world.popular)
    first = [row for row, _ in world.popular if row in rows]
    order = (first + [row for row in rows if row not in scores])[:k]
    return order, [scores.get(row, 0.0) for row in order]


# The list.


@dataclass
class Candidate:
    row: int
    position: int
    retrieval: float | None
    ranking: float | None
    score: float
    sources: list[tuple[str, int]]


def candidates(world: World, ask: Asked, found: Sequence[Source]) -> list[Candidate]:
    """Merge what the sources found, add the pinned items, and score each."""
    rows = list(dict.fromkeys(row for source in found for row in source.rows))
    scores: list[float] | None = None
    if ask.embedding is None:
        if len(found) == 1 and found[0].scores is not None:
            scores = list(found[0].scores)
        else:
            scores = [float(np.float32(_fusion(found, row))) for row in rows]
    pinned = [row for row, _ in pins(world, ask) if row not in rows]
    if scores is not None:
        scores += [min([0.0, *scores])] * len(pinned)
    named = [(source.name, source.rows) for source in found]
    if pinned:
        named.append(("pinned", pinned))
    rows += pinned
    ranked = world.has_ranker and ask.personal and bool(rows)
    weights = dict(ask.request.output_weights) or {"first": 1.0, "second": 0.5}
    result = []
    for position, row in enumerate(rows):
        retrieval = None if ask.embedding is None else similarity(world, row, ask.embedding)
        ranking = None
        if ranked:
            outputs = world.outputs(ask.user_id, row, retrieval or 0.0)
            ranking = sum((weights[name] * outputs[name] for name in weights), 0.0)
        score = ranking if ranking is not None else retrieval
        if score is None:
            assert scores is not None
            score = scores[position]
        where = [(name, list(given).index(row)) for name, given in named if row in given]
        result.append(Candidate(row, position, retrieval, ranking, score, where))
    return result


def _fusion(found: Sequence[Source], row: int) -> float:
    return sum(1 / (61 + source.rows.index(row)) for source in found if row in source.rows)


def pins(world: World, ask: Asked) -> list[tuple[int, int | None]]:
    """Return row and position of the pinned items that are allowed."""
    found = []
    for pin in ask.request.selection.pinned_items:
        row = row_of(world, pin.item_id)
        if row is not None and row in ask.allowed:
            found.append((row, pin.position if pin.HasField("position") else None))
    return found


def gumbel(row: int, seed: int) -> float:
    """Gumbel noise of an item and a seed, by SplitMix64 in plain integers."""

    def mixed(state: int) -> int:
        bits = (state + 0x9E3779B97F4A7C15) & MASK64
        bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
        bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK64
        return bits ^ (bits >> 31)

    uniform = ((mixed(row ^ mixed(seed & MASK64)) >> 11) + 0.5) * 2.0**-53
    return -math.log(-math.log(uniform))


@dataclass
class Order:
    """Candidates by score, and in the order that stands for the list with what it is by."""

    ranked: list[Candidate]
    explored: list[Candidate] | None
    standing: list[Candidate]
    keys: dict[int, float]
    """By row."""


def order(ask: Asked, found: Sequence[Candidate]) -> Order:
    selection = ask.request.selection
    ranked = sorted(found, key=lambda one: (-one.score, one.row))
    keys = {one.row: one.score for one in found}
    explored = None
    if temperature := selection.exploration.temperature:
        seed = selection.exploration.seed
        keys = {one.row: one.score / temperature + gumbel(one.row, seed) for one in found}
        explored = sorted(found, key=lambda one: (-keys[one.row], one.row))
    standing = ranked if explored is None else explored
    if selection.HasField("score_min"):
        standing = [one for one in standing if one.score >= selection.score_min]
    return Order(ranked, explored, standing, keys)


class Caps:
    """Counts the items in a list by the values that caps are about."""

    def __init__(self, world: World, caps: Iterable[types.Cap]) -> None:
        self._world = world
        self._caps = [(cap.attribute, cap.item_count_max, {}) for cap in caps]

    def fits(self, row: int) -> bool:
        return all(
            counts.get(value, 0) < most
            for attribute, most, counts in self._caps
            for value in self._held(attribute, row)
        )

    def add(self, row: int) -> None:
        for attribute, _, counts in self._caps:
            for value in self._held(attribute, row):
                counts[value] = counts.get(value, 0) + 1

    def _held(self, attribute: str, row: int) -> set[Any]:
        cell = self._world.attributes[attribute][row]
        if cell is None:
            return set()
        return set(cell) if isinstance(cell, tuple) else {cell}


@dataclass
class Fixed:
    """The pinned items that fit under the caps, and the candidates that are left for the rest."""

    pinned: list[tuple[int, int | None]]
    left_out: list[int]
    free: list[Candidate]
    caps: Caps


def fixed(world: World, ask: Asked, ordered: Order) -> Fixed:
    caps = Caps(world, ask.request.selection.caps)
    pinned, left_out = [], []
    for row, position in pins(world, ask):
        if caps.fits(row):
            caps.add(row)
            pinned.append((row, position))
        else:
            left_out.append(row)
    fixed_rows = {row for row, _ in pinned} | set(left_out)
    free = [one for one in ordered.standing if one.row not in fixed_rows]
    return Fixed(pinned, left_out, free, caps)


def filled(ask: Asked, kept: Fixed) -> list[int]:
    """Return the rows between the pinned items where there is no diversity."""
    chosen: list[int] = []
    for one in kept.free:
        if len(chosen) + len(kept.pinned) == ask.limit:
            break
        if kept.caps.fits(one.row):
            kept.caps.add(one.row)
            chosen.append(one.row)
    return chosen


def woven(chosen: Sequence[int], kept: Fixed) -> list[int]:
    """Put the pinned items in their places."""
    rows = [row for row, position in kept.pinned if position is None] + list(chosen)
    for row, position in sorted(
        ((row, position) for row, position in kept.pinned if position is not None),
        key=lambda pin: pin[1],
    ):
        rows.insert(min(position, len(rows)), row)
    return rows


def check_diverse(
    world: World, ask: Asked, ordered: Order, kept: Fixed, chosen: Sequence[int]
) -> None:
    """Check that each item was, within rounding, the one with the largest marginal relevance among
    those that fitted, and that no more would have fitted.
    """
    strength = ask.request.selection.diversity
    keys = [ordered.keys[one.row] for one in kept.free]
    low, high = min(keys, default=0.0), max(keys, default=0.0)
    spread = high - low
    relevance = {
        one.row: (ordered.keys[one.row] - low) / spread if spread else 0.0 for one in kept.free
    }
    lengths = np.linalg.norm(world.vectors.astype(np.float64), axis=1, keepdims=True)
    units = world.vectors / np.where(lengths == 0, 1, lengths)
    listed = [row for row, _ in kept.pinned]

    def gain(row: int) -> float:
        similar = max((float(units[row] @ units[other]) for other in listed), default=0.0)
        return (1 - strength) * relevance[row] - strength * similar

    left = [one.row for one in kept.free]
    assert len(set(chosen)) == len(chosen)
    for row in chosen:
        assert row in left
        assert kept.caps.fits(row)
        best = max(gain(other) for other in left if kept.caps.fits(other))
        assert gain(row) >= best - 1e-5
        left.remove(row)
        listed.append(row)
        kept.caps.add(row)
    if len(chosen) + len(kept.pinned) < ask.limit:
        assert not any(kept.caps.fits(row) for row in left)
