"""What orders of a language model changed, by a log that is made here."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from request_logs import RESPONSE_STAGE, write_log
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_server.errors import LogCorrupt
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.reranking import Reranked
from shortlist_server.generation import Generation
from shortlist_server.observability.log_row import LogRow
from shortlist_server.observability.masking import Masking
from shortlist_server.replay.lift import LiftSettings, Measured, interval, measure, ndcg
from shortlist_server.replay.next_items import Histories, items_after, next_items_of_file
from shortlist_server.replay.reader import PlacedRow, read_log
from shortlist_server.replay.runner import Replayer
from shortlist_server.rpc import convert, respond
from shortlist_server.rpc.respond_query import fill_rerank_info

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
GOOD, BAD = "rerank@good", "rerank@bad"


def row_of(
    generation: Generation,
    user: str,
    prompt: str,
    *,
    reverse: bool,
    time_ns: int = NOW,
    history: tuple[types.HistoryEvent, ...] = (),
    request_id: str = "mine",
) -> LogRow:
    """A logged request whose first six candidates a model left as they were, or turned round."""
    query = types.Query(user=types.UserQuery(id=user, history=history))
    request = pb.RecommendRequest(
        query=query, limit=10, rerank=types.RerankOptions(candidate_count=6)
    )
    options = convert.recommend_options(request)
    ranked = generation.funnel.ranked(convert.query(query), options, Budget(60))
    rows = ranked.shown(ranked.order())
    said = Reranked(
        plan="said", rows=rows[::-1] if reverse else rows, prompt=prompt, model="fake/one"
    )
    answer = generation.funnel.selected(ranked, said)
    response = pb.RecommendResponse()
    respond.add_items(answer, generation.catalog, response.items)
    sha256 = generation.bundle.sha256
    identity = respond.bundle_id(generation.bundle.manifest, sha256)
    respond.fill_info(answer, RESPONSE_STAGE, identity, request_id, response.info)
    fill_rerank_info(said, generation.catalog, response.info.rerank)
    return LogRow(
        time_ns=time_ns,
        request_id=request_id,
        kind="recommend",
        request=request.SerializeToString(),
        masked=(),
        item_ids=tuple(item.id for item in response.items),
        scores=tuple(item.score for item in response.items),
        info=response.info.SerializeToString(),
        bundle_name="tiny",
        bundle_version="1",
        bundle_sha256=sha256,
        duration_ns=1,
        cpu="",
        software="",
    )


def measured(generation: Generation, rows: list[LogRow], **options: Any) -> Measured:
    placed = [PlacedRow(file="f", position=place, row=row) for place, row in enumerate(rows)]
    replayer = Replayer(generation)
    return measure(lambda: iter(placed), replayer, LiftSettings(k=5), log="log", **options)


def first_of(generation: Generation, user: str) -> str:
    """The best item of a user, in the order of ranking."""
    row = row_of(generation, user, GOOD, reverse=False)
    return row.item_ids[0]


def test_arms_are_told_apart_and_what_they_change_is_measured(generation: Generation) -> None:
    users = [f"u{number}" for number in range(1, 9)]
    rows = [
        row_of(generation, user, prompt, reverse=prompt == BAD)
        for user in users
        for prompt in (GOOD, BAD)
    ]
    known = {user: {first_of(generation, user): (NOW + 1, None)} for user in users}
    found = measured(generation, rows, next_items=known)
    assert set(found.arms) == {("fake/one", GOOD), ("fake/one", BAD)}
    good, bad = found.arms["fake/one", GOOD], found.arms["fake/one", BAD]
    assert (good.request_count, good.user_count) == (8, 8)
    assert (good.ndcg_with, good.ndcg_without, good.lift) == (1, 1, 0)
    assert (good.lift_low, good.lift_high) == (0, 0)
    # What was first is the sixth, and of the first five none counts.
    assert (bad.ndcg_with, bad.ndcg_without, bad.lift) == (0, 1, -1)
    assert (bad.lift_low, bad.lift_high, bad.confidence, bad.k) == (-1, -1, 0.95, 5)
    assert bad.last_time == "2023-11-14T22:13:20+00:00"
    assert not found.left_out


def test_a_better_order_is_measured_as_better(generation: Generation) -> None:
    row = row_of(generation, "u1", GOOD, reverse=True)
    known = {"u1": {row.item_ids[0]: (NOW + 1, None)}}
    (arm,) = measured(generation, [row], next_items=known).arms.values()
    assert (arm.ndcg_with, arm.ndcg_without) == (1, 0)
    assert arm.lift == 1


def test_what_came_next_is_read_from_later_histories(generation: Generation) -> None:
    first = row_of(generation, "u1", BAD, reverse=True)
    best = first_of(generation, "u1")
    later = row_of(
        generation,
        "u1",
        BAD,
        reverse=True,
        time_ns=NOW + SECOND,
        history=(types.HistoryEvent(item_id=best),),
    )
    # Of the later request, nothing is known of what came after it; order in the log says nothing.
    for rows in itertools.permutations([first, later]):
        found = measured(generation, list(rows))
        (arm,) = found.arms.values()
        assert (arm.request_count, arm.lift) == (1, -1)
        assert dict(found.left_out) == {"nothing known of what came next": 1}


def test_requests_that_do_not_count_are_told_by_why(generation: Generation) -> None:
    row = row_of(generation, "u1", BAD, reverse=True)
    info = types.AnswerInfo.FromString(row.info)
    info.ClearField("rerank")
    anonymous = pb.RecommendRequest.FromString(row.request)
    anonymous.query.user.id = ""
    rows = [
        row,
        replace(row, info=info.SerializeToString()),
        replace(row, kind="retrieve"),
        replace(row, request_id="prewarm/7"),
        replace(row, bundle_sha256="0" * 64),
        replace(row, masked=("query.user.features",)),
        replace(row, request=b"\xff"),
        replace(row, info=b"\xff"),
        replace(row, request=anonymous.SerializeToString()),
        replace(row, item_ids=row.item_ids[::-1]),
        row_of(generation, "u2", BAD, reverse=True),
    ]
    known = {"u1": {first_of(generation, "u1"): (NOW + 1, None)}}
    found = measured(generation, rows, next_items=known)
    (arm,) = found.arms.values()
    assert arm.request_count == 1
    assert dict(found.left_out) == {
        "not re-ranked": 2,
        "prewarmed": 1,
        "of another bundle": 1,
        "masked": 1,
        "damaged": 2,
        "without a user's id": 1,
        "answered differently now": 1,
        "nothing known of what came next": 1,
    }


def test_a_log_with_hashed_users_is_measured_by_who_has_the_secret(
    generation: Generation, tmp_path: Path
) -> None:
    row, key = row_of(generation, "u1", BAD, reverse=True), b"secret"
    response = pb.RecommendResponse(info=types.AnswerInfo.FromString(row.info))
    for item_id, score in zip(row.item_ids, row.scores, strict=True):
        response.items.add(id=item_id, score=score)
    request = pb.RecommendRequest.FromString(row.request)
    write_log(tmp_path, [(request, response)], masking=Masking("hash", key))
    known = {"u1": {first_of(generation, "u1"): (1 << 62, None)}}
    lifts = []
    for replayer in (Replayer(generation), Replayer(generation, key=key)):
        found = measure(
            lambda: read_log(tmp_path), replayer, LiftSettings(k=5), log="log", next_items=known
        )
        lifts.append([arm.lift for arm in found.arms.values()])
        assert found.left_out.get("masked", 0) == (not found.arms)
    assert lifts == [[], [-1.0]]


def test_ndcg_by_hand() -> None:
    discount = 1 / np.log2([2, 3, 4, 5])
    assert ndcg(["a", "b", "c"], frozenset("a"), 3) == 1
    assert ndcg(["b", "a", "c"], frozenset("a"), 3) == pytest.approx(discount[1])
    assert ndcg(["b", "c", "a"], frozenset("a"), 2) == 0
    assert ndcg(["a", "x", "b"], frozenset("ab"), 3) == pytest.approx(
        (discount[0] + discount[2]) / (discount[0] + discount[1])
    )
    assert ndcg(["a", "b"], frozenset("abcdef"), 2) == 1
    assert ndcg([], frozenset("a"), 2) == 0


@given(st.permutations("abcdefgh"), st.sets(st.sampled_from("abcdefgh"), min_size=1))
def test_ndcg_is_greatest_for_the_wanted_first(items: list[str], wanted: set[str]) -> None:
    best = sorted(items, key=lambda one: one not in wanted)
    assert 0 <= ndcg(items, frozenset(wanted), 5) <= ndcg(best, frozenset(wanted), 5) == 1


def test_many_requests_of_one_user_are_not_many_users() -> None:
    # Nine users gain, and one, who asks ninety times, loses.
    users = [*(f"u{number}" for number in range(9)), *["loud"] * 90]
    differences = [*[0.5] * 9, *[-0.5] * 90]
    low, high = interval(users, differences, 0.95)
    assert low < 0 < high
    apart = [f"u{number}" for number in range(99)]
    low, high = interval(apart, differences, 0.95)
    assert high < 0


def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    draw = np.random.default_rng(7)
    users = [f"u{number}" for number in range(60)]
    covered = 0
    for _ in range(60):
        low, high = interval(users, draw.normal(0.1, 1.0, 60).tolist(), 0.9)
        covered += low <= 0.1 <= high
    # 54 are expected; a normal interval of half the width would cover 35.
    assert 45 <= covered <= 60


def test_a_greater_confidence_is_a_wider_interval() -> None:
    draw = np.random.default_rng(7)
    users = [f"u{number}" for number in range(60)]
    differences = draw.normal(0.1, 1.0, 60).tolist()
    narrow, wide = (interval(users, differences, one) for one in (0.8, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert interval(users, differences, 0.8) == narrow


def request(user: str, *events: types.HistoryEvent) -> pb.RankRequest:
    return pb.RankRequest(query=types.Query(user=types.UserQuery(id=user, history=events)))


def event(item: str, time_ns: int | None = None) -> types.HistoryEvent:
    time = None if time_ns is None else Timestamp(seconds=time_ns // SECOND)
    return types.HistoryEvent(item_id=item, time=time)


def test_only_news_of_the_same_user_came_next() -> None:
    histories = Histories()
    histories.learn(request("u1", event("old")), NOW)
    histories.learn(request("u1", event("old"), event("new")), NOW + SECOND)
    histories.learn(request("u2", event("other")), NOW + SECOND)
    histories.learn(request("", event("nobody's")), NOW + SECOND)
    histories.learn(pb.FindSimilarItemsRequest(item_id="i1"), NOW + SECOND)
    known = histories.next_items
    assert items_after(known, "u1", NOW, ["old"]) == {"new"}
    # Also where the request itself has said nothing of it: it was known before.
    assert items_after(known, "u1", NOW, []) == {"new"}
    assert items_after(known, "u1", NOW + SECOND, []) == set()
    assert items_after(known, "u3", NOW, []) == set()


def test_what_was_done_before_and_told_later_is_no_news() -> None:
    histories = Histories()
    told = request("u1", event("before", NOW - SECOND), event("after", NOW + SECOND))
    histories.learn(told, NOW + 2 * SECOND)
    assert items_after(histories.next_items, "u1", NOW, []) == {"after"}


def test_a_file_says_what_came_next(tmp_path: Path) -> None:
    file = tmp_path / "next.csv"
    late, early = NOW / SECOND + 1, NOW / SECOND - 1
    file.write_text(
        "item_id,time,user_id\n"
        f"early,{early},u1\nlate,{late},u1\nboth,{late},u1\nboth,{early},u1\nalways,,u1\n"
    )
    known = next_items_of_file(file)
    assert items_after(known, "u1", NOW, []) == {"late", "both", "always"}
    assert items_after(known, "u1", NOW, ["late"]) == {"both", "always"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "expected a header with user_id, item_id"),
        (b"user,item\nu1,i1\n", "expected a header with user_id, item_id"),
        (b"user_id,item_id,time\nu1,i1,yesterday\n", "line 2: time: expected seconds since"),
        (b"user_id,item_id,time\nu1,i1,inf\n", "line 2: time: expected seconds since"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "next.csv").write_bytes(text)
    with pytest.raises(LogCorrupt, match=message):
        next_items_of_file(tmp_path / "next.csv")
    with pytest.raises(LogCorrupt, match=r"--next: .*: cannot be read"):
        next_items_of_file(tmp_path / "none.csv")
