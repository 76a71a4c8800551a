"""What a language model's orders changed: NDCG of logged lists with and without them, by arm."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from shortlist.v1 import types_pb2

from shortlist_server.llm.lift_report import ArmLift
from shortlist_server.observability.log_row import LogRow
from shortlist_server.replay.next_items import Histories, NextItems, items_after
from shortlist_server.replay.reader import PlacedRow
from shortlist_server.replay.runner import Replayer

PREWARMED = "prewarm/"
"""Begin of the ids of requests that nobody has seen the answer of."""
SAMPLES = 2_000
"""Resamples of the bootstrap."""
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftSettings:
    """How lists are compared."""

    k: int = 10
    """The items of a list that count."""
    confidence: float = 0.95
    """Of the intervals."""


@dataclass(slots=True, kw_only=True)
class _Arm:
    users: list[str] = field(default_factory=list)
    with_model: list[float] = field(default_factory=list)
    without: list[float] = field(default_factory=list)
    last_ns: int = 0


@dataclass(slots=True, kw_only=True)
class Measured:
    """What a log says of all arms."""

    arms: dict[tuple[str, str], ArmLift] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    """Requests that do not count, by why."""


def measure(
    rows: Callable[[], Iterable[PlacedRow]],
    replayer: Replayer,
    settings: LiftSettings,
    *,
    log: str,
    next_items: NextItems | None = None,
) -> Measured:
    """Answer the re-ranked requests of a log twice, with the logged order and without it.

    Args:
        rows: Returns the log from its beginning; called once more where `next_items` is None.
        replayer: The bundle that answered them.
        settings: How lists are compared.
        log: What the log is called.
        next_items: What users did next; None: what later requests say of it.
    """
    if next_items is None:
        next_items = _told(rows(), replayer)
    measured = Measured()
    arms: dict[tuple[str, str], _Arm] = defaultdict(_Arm)
    for placed in rows():
        if reason := _compared(placed.row, replayer, settings.k, next_items, arms):
            measured.left_out[reason] += 1
    for (model, prompt), arm in sorted(arms.items()):
        measured.arms[model, prompt] = _lift(model, prompt, arm, settings, log)
    return measured


def _told(rows: Iterable[PlacedRow], replayer: Replayer) -> NextItems:
    histories = Histories()
    for placed in rows:
        try:
            request, masked = replayer.request(placed.row)
        except ValueError:
            continue  # the second time it is counted
        if not masked:
            histories.learn(request, placed.row.time_ns)
    return histories.next_items


def _compared(
    row: LogRow,
    replayer: Replayer,
    k: int,
    next_items: NextItems,
    arms: dict[tuple[str, str], _Arm],
) -> str:
    """Add a request to its arm; returns why it does not count, empty where it does."""
    info = types_pb2.AnswerInfo()
    try:
        info.ParseFromString(row.info)
    except DecodeError:
        return "damaged"
    if row.kind != "recommend" or not info.rerank.item_ids:
        return "not re-ranked"
    if row.request_id.startswith(PREWARMED):
        return "prewarmed"
    if not replayer.answered(row):
        return "of another bundle"
    try:
        request, masked = replayer.request(row)
    except ValueError:
        return "damaged"
    if masked:
        return "masked"
    user = request.query.user
    if not user.id:
        return "without a user's id"
    before = [event.item_id for event in user.history]
    wanted = items_after(next_items, user.id, row.time_ns, before)
    if not wanted:
        return "nothing known of what came next"
    given = replayer.answer(row)
    if given.item_ids != row.item_ids:
        return "answered differently now"
    plain = replayer.answer(row, rerank=False)
    if plain.error:
        return "answered differently now"
    arm = arms[info.rerank.model, info.rerank.prompt]
    arm.users.append(user.id)
    arm.with_model.append(ndcg(given.item_ids, wanted, k))
    arm.without.append(ndcg(plain.item_ids, wanted, k))
    arm.last_ns = max(arm.last_ns, row.time_ns)
    return ""


def ndcg(item_ids: Sequence[str], wanted: frozenset[str], k: int) -> float:
    """Return the normalised discounted cumulative gain of a list, 0..1.

    Args:
        item_ids: The list, best first.
        wanted: The items that count, 1 or more, each as much.
        k: How many of the list count.
    """
    gain = sum(1 / math.log2(place + 2) for place, one in enumerate(item_ids[:k]) if one in wanted)
    best = sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted))))
    return gain / best


def interval(
    users: Sequence[str], differences: Sequence[float], confidence: float
) -> tuple[float, float]:
    """Return the bounds of the mean difference at a confidence.

    A bootstrap that draws users, not requests: those of one user are alike, and counting them as
    many would make any difference look sure.

    Args:
        users: Of each request its user.
        differences: Of each request.
        confidence: 0..1.
    """
    number = {user: place for place, user in enumerate(dict.fromkeys(users))}
    places = np.array([number[user] for user in users])
    sums = np.bincount(places, np.array(differences, np.float64))
    counts = np.bincount(places)
    draw = np.random.default_rng(SEED)
    means: NDArray[np.float64] = np.empty(SAMPLES)
    for sample in range(SAMPLES):
        drawn = draw.integers(0, len(sums), len(sums))
        means[sample] = sums[drawn].sum() / counts[drawn].sum()
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _lift(model: str, prompt: str, arm: _Arm, settings: LiftSettings, log: str) -> ArmLift:
    with_model, without = np.array(arm.with_model), np.array(arm.without)
    differences = (with_model - without).tolist()
    low, high = interval(arm.users, differences, settings.confidence)
    return ArmLift(
        model=model,
        prompt=prompt,
        request_count=len(differences),
        user_count=len(set(arm.users)),
        k=settings.k,
        ndcg_with=float(with_model.mean()),
        ndcg_without=float(without.mean()),
        lift=float(np.mean(differences)),
        lift_low=low,
        lift_high=high,
        confidence=settings.confidence,
        log=log,
        last_time=datetime.fromtimestamp(arm.last_ns / 1e9, UTC).isoformat(),
    )
