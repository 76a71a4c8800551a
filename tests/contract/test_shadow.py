"""A bundle that answers too, and whose answers nobody gets."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tiny_world
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub as Stub
from shortlist_exporters.export import export_bundle
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Query, User
from shortlist_server.generation import Generation, load_generation
from shortlist_server.labels import LabeledGenerations, unchanging
from shortlist_server.observability.comparison import Comparison, compare
from shortlist_server.rpc.shadow import WAITING_MAX, Shadow
from shortlist_server.runtime.compute import ComputePool

USERS = [f"u{number}" for number in range(tiny_world.USER_COUNT)]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generation]:
    """The tiny world with half of the items elsewhere, and an attribute of another name."""
    folder = tmp_path_factory.mktemp("shadow")
    spec = tiny_world.write_spec(folder / "spec")
    vectors = np.load(folder / "spec/items.npy")
    vectors[::2] = np.random.default_rng(99).normal(size=vectors[::2].shape)
    np.save(folder / "spec/items.npy", vectors)
    table = folder / "spec/items.csv"
    table.write_text(table.read_text().replace("year", "decade", 1))
    export_bundle(spec, folder / "bundle", version="2")
    generation = load_generation(folder / "bundle")
    yield generation
    generation.close()


@pytest.fixture
def running(tiny_bundle: Path, generation: Generation, other: Generation, server: Any) -> Any:
    loaded = LabeledGenerations(stable=generation, shadow=other)
    started = type(server)(
        tiny_bundle, loaded, shadow_share=1.0, metrics_listen="127.0.0.1:0", compute_threads=0
    )
    yield started
    started.stop()


def request(user: str, **more: Any) -> pb.RecommendRequest:
    query = types.Query(user=types.UserQuery(id=user))
    return pb.RecommendRequest(query=query, limit=10, **more)


def samples(running: Any) -> dict[str, float]:
    """What the metrics show of the shadow, by name and label."""
    return {
        f"{sample.name}{''.join(f' {value}' for value in sample.labels.values())}": sample.value
        for family in running.metrics.registry.collect()
        for sample in family.samples
        if "shadow" in sample.name
    }


def until(running: Any, name: str, value: float) -> dict[str, float]:
    end = time.monotonic() + 30
    while (found := samples(running)).get(name, 0.0) < value:
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def lists(generation: Generation, user: str) -> dict[str, float]:
    answer = generation.funnel.recommend(
        Query(subject=User(id=user)), Options(limit=10), Budget(60.0)
    )
    return {
        generation.catalog.item_id(row): float(score)
        for row, score in zip(answer.items.rows.tolist(), answer.items.scores, strict=True)
    }


def test_its_differences_are_those_of_both_lists_and_nobody_gets_them(
    running: Any, generation: Generation, other: Generation
) -> None:
    with grpc.insecure_channel(running.target) as channel:
        for user in USERS:
            sent = Stub(channel).Recommend(request(user), timeout=20)
            assert {item.id: item.score for item in sent.items} == pytest.approx(
                lists(generation, user)
            )
            assert sent.info.bundle.version == "1"
    found = until(running, "shortlist_shadow_answers_total ok", len(USERS))
    pairs = [(lists(generation, user), lists(other, user)) for user in USERS]
    overlaps = [len(set(ours) & set(theirs)) / 10 for ours, theirs in pairs]
    assert 0 < sum(overlaps) < len(USERS)
    assert found["shortlist_shadow_overlap_sum"] == pytest.approx(sum(overlaps))
    alike = sum(next(iter(ours)) == next(iter(theirs)) for ours, theirs in pairs)
    assert found.get("shortlist_shadow_first_items_total yes", 0.0) == alike
    assert found.get("shortlist_shadow_first_items_total no", 0.0) == len(USERS) - alike
    differences = [
        np.mean([abs(ours[one] - theirs[one]) for one in both])
        for ours, theirs in pairs
        if (both := set(ours) & set(theirs))
    ]
    assert found["shortlist_shadow_score_difference_sum"] == pytest.approx(sum(differences), 1e-4)
    assert found["shortlist_shadow_duration_seconds_count"] == len(USERS)


def test_its_failures_are_its_own(running: Any, caplog: pytest.LogCaptureFixture) -> None:
    recent = types.Filter(exists=types.ExistsCondition(attribute="year"))
    with caplog.at_level(logging.WARNING), grpc.insecure_channel(running.target) as channel:
        for user in USERS[:3]:
            assert Stub(channel).Recommend(request(user, filter=recent), timeout=20).items
        found = until(running, "shortlist_shadow_answers_total failed", 3)
    assert "shortlist_shadow_answers_total ok" not in found
    warnings = [one.getMessage() for one in caplog.records if "shadow" in one.getMessage()]
    assert len(warnings) == 1  # once a minute
    assert "year" in warnings[0]


async def test_what_it_cannot_keep_up_with_is_dropped_and_counted(
    generation: Generation, other: Generation
) -> None:
    ends: Counter[str] = Counter()
    compared: list[Comparison] = []
    compute = ComputePool(threads=0, waiting_max=0)
    shadow = Shadow(
        unchanging(other),
        share=0.5,
        compute=compute,
        timeout_s=10.0,
        compared=compared.append,
        ended=lambda outcome: ends.update([outcome]),
        draw=iter([0.1, 0.9] * 1_000).__next__,
    )
    query, options = Query(subject=User(id="u1")), Options(limit=10)
    answer = generation.funnel.recommend(query, options, Budget(60.0))
    at = unchanging(generation).snapshot
    for _ in range(4 * WAITING_MAX):  # of which half is drawn
        shadow.watch(at, query, options, answer)
    assert ends == {"dropped": WAITING_MAX}
    assert not compared
    async with asyncio.timeout(30):
        while ends["ok"] < WAITING_MAX:  # noqa: ASYNC110  # it goes on with what it took
            await asyncio.sleep(0.01)
    assert len(compared) == WAITING_MAX
    compute.close()


def test_lists_are_compared_by_what_they_share() -> None:
    assert compare({}, {}, 1.0) == Comparison(
        overlap=1.0, same_first=True, score_difference=None, seconds=1.0
    )
    assert compare({"a": 1.0, "b": 2.0}, {"b": 2.5, "c": 1.0, "d": 0.0}, 1.0) == Comparison(
        overlap=1 / 3, same_first=False, score_difference=0.5, seconds=1.0
    )
