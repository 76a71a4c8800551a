from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_world
from request_logs import answer, user, write_log
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist_exporters.export import export_bundle
from shortlist_server.generation import Generation, load_generation
from shortlist_server.observability.log_row import LogRow
from shortlist_server.observability.masking import Masking
from shortlist_server.replay.decisions import AT_ONCE
from shortlist_server.replay.reader import read_log
from shortlist_server.replay.runner import Replayed, Replayer

KEY = b"sixteen bytes or more"


@pytest.fixture(scope="session")
def other_generation(tmp_path_factory: pytest.TempPathFactory) -> Generation:
    """The tiny world without its ranker, its popularity, and the items' years."""
    folder = tmp_path_factory.mktemp("other")
    items = {
        "file": "items.csv",
        "embeddings": "items.npy",
        "columns": ["title", "genres"],
        "lists": {"genres": "|"},
    }
    spec = tiny_world.write_spec(folder / "spec", items=items, ranker=None, interactions=None)
    export_bundle(spec, folder / "bundle", version="2")
    return load_generation(folder / "bundle")


def logged(
    folder: Path, generation: Generation, *requests: Any, masking: Masking | None = None
) -> list[LogRow]:
    shutil.rmtree(folder, ignore_errors=True)
    write_log(
        folder,
        [(request, answer(generation, request)) for request in requests],
        masking=masking,
    )
    return [placed.row for placed in read_log(folder)]


def lists(*answers: Replayed) -> list[tuple[str, ...]]:
    assert not any(one.error or one.masked for one in answers)
    return [one.item_ids for one in answers]


def test_every_kind_is_answered_as_it_was(generation: Generation, tmp_path: Path) -> None:
    exploring = types.SelectionOptions(exploration=types.Exploration(temperature=2.0))
    rows = logged(
        tmp_path,
        generation,
        pb.RecommendRequest(query=user(), limit=5),
        pb.RecommendRequest(query=user(), limit=5, selection=exploring, explain=True, debug=True),
        pb.RetrieveRequest(query=user("u2")),
        pb.RankRequest(query=user("u3"), item_ids=["i1", "i2", "i3"]),
        pb.FindSimilarItemsRequest(item_id="i7", limit=4),
        pb.RecommendRequest(query=user("nobody")),
    )
    replayer = Replayer(generation)
    for row in rows:
        replayed = replayer.answer(row)
        assert replayer.answered(row)
        assert replayed.error == ""
        assert (replayed.item_ids, replayed.scores) == (row.item_ids, row.scores)
        assert 0 < replayed.duration_ns < 60 * 10**9
    # Without the seed it would be drawn anew.
    assert replayer.answer(rows[1]).item_ids == replayer.answer(rows[1]).item_ids


def test_ranker_is_given_as_many_at_once_as_when_it_was_logged(
    generation: Generation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker = generation.funnel._ranker
    assert ranker is not None
    rank, taken = ranker.rank, []

    def spying(*arguments: Any, chunk_rows: int, **options: Any) -> Any:
        taken.append(chunk_rows)
        return rank(*arguments, chunk_rows=chunk_rows, **options)

    monkeypatch.setattr(ranker, "chunk_rows", 7)
    request = pb.RecommendRequest(query=user(), limit=9)
    (in_parts,) = logged(tmp_path, generation, request)
    monkeypatch.setattr(ranker, "chunk_rows", 4_096)
    (at_once,) = logged(tmp_path, generation, request)
    monkeypatch.setattr(ranker, "chunk_rows", 11)
    monkeypatch.setattr(ranker, "rank", spying)
    for row in (in_parts, at_once):
        assert Replayer(generation).answer(row).item_ids == row.item_ids
    assert taken == [7, AT_ONCE]


def test_request_that_a_bundle_does_not_answer_says_why(
    generation: Generation, other_generation: Generation, tmp_path: Path
) -> None:
    recent = types.Filter(
        range=types.RangeCondition(attribute="year", at_least=types.Value(int64_value=1990))
    )
    late = pb.RecommendRequest(query=user("nobody"), limit=3)
    (of_year, of_like, popular, plain) = logged(
        tmp_path,
        generation,
        pb.RecommendRequest(query=user(), filter=recent),
        pb.RankRequest(query=user(), item_ids=["i1"], output_weights={"like": 1.0}),
        late,
        pb.RecommendRequest(query=user(), limit=5),
    )
    replayer = Replayer(other_generation)
    assert not replayer.answered(plain)
    assert "filter.range.attribute" in replayer.answer(of_year).error
    assert "output_weights: expected none" in replayer.answer(of_like).error
    assert lists(replayer.answer(popular)) == [()]
    assert len(replayer.answer(plain).item_ids) == 5


def test_row_that_is_none_of_ours_says_why(generation: Generation, tmp_path: Path) -> None:
    (row,) = logged(tmp_path, generation, pb.RecommendRequest(query=user()))
    replayer = Replayer(generation)
    unknown = replayer.answer(replace(row, kind="converse"))
    assert unknown.error.startswith("kind: expected recommend, retrieve,")
    assert "got 'converse'" in unknown.error
    assert "the row is damaged" in replayer.answer(replace(row, request=b"\xff")).error
    out_of_range = pb.RecommendRequest(query=user(), limit=9_999).SerializeToString()
    assert replayer.answer(replace(row, request=out_of_range)).error.startswith("limit: expected")


def test_source_that_was_too_late_is_not_asked_and_may_be_missed(
    generation: Generation, tmp_path: Path
) -> None:
    (row,) = logged(tmp_path, generation, pb.RecommendRequest(query=user(), limit=4))
    info = types.AnswerInfo.FromString(row.info)
    info.sources[0].outcome = types.STAGE_OUTCOME_OUT_OF_TIME
    late = replace(row, info=info.SerializeToString())
    assert Replayer(generation).answer(late).error == (
        "the sources that answered in the log do not apply here"
    )


def test_fault_is_reported_and_the_next_request_answered(
    generation: Generation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = logged(
        tmp_path,
        generation,
        pb.RecommendRequest(query=user()),
        pb.RetrieveRequest(query=user()),
    )

    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("on the way")

    monkeypatch.setattr(generation.funnel, "recommend", broken)
    replayer = Replayer(generation)
    assert replayer.answer(first).error == "fault: ZeroDivisionError('on the way')"
    assert replayer.answer(second).item_ids == second.item_ids


def test_who_has_the_secret_replays_hashed_ids(generation: Generation, tmp_path: Path) -> None:
    seen = [types.HistoryEvent(item_id=item) for item in ("i3", "i4", "unknown item")]
    exclusions = types.Exclusions(item_ids=["i5", "i6", "unknown item"])
    requests = [
        pb.RecommendRequest(query=user("u1"), limit=9),
        pb.RecommendRequest(query=user("u2", history=seen), exclusions=exclusions),
        pb.RecommendRequest(query=user("", history=seen)),
        pb.RecommendRequest(query=types.Query(items=types.ItemsQuery(item_ids=["i1", "i9"]))),
        pb.RankRequest(query=user("u4"), item_ids=["i1", "i2"], excluded_item_ids=["i3"]),
    ]
    rows = logged(tmp_path, generation, *requests, masking=Masking("hash", KEY))
    restoring, without = Replayer(generation, key=KEY), Replayer(generation)
    for row in rows:
        replayed = restoring.answer(row)
        assert (replayed.masked, replayed.error) == ((), "")
        assert (replayed.item_ids, replayed.scores) == (row.item_ids, row.scores)
        assert without.answer(row).masked == row.masked
        assert row.masked
    wrong = Replayer(generation, key=KEY + b"!")
    assert wrong.answer(rows[0]).masked == ("query.user.id",)


def test_what_was_left_out_stays_masked(generation: Generation, tmp_path: Path) -> None:
    aged = user("u1")
    aged.user.features["age"].double_value = 50
    rated = user("u1", history=[types.HistoryEvent(item_id="i1", rating=3)])
    situated = user("u1")
    situated.context["hour"].int64_value = 3
    vector = types.Query(embedding=types.Embedding(values=[1.0] * tiny_world.DIMENSION))
    queries = (user("nobody"), aged, rated, situated, vector)
    rows = logged(
        tmp_path,
        generation,
        *(pb.RecommendRequest(query=query) for query in queries),
        masking=Masking("hash", KEY),
    )
    replayer = Replayer(generation, key=KEY)
    assert [replayer.answer(row).masked for row in rows] == [
        ("query.user.id",),
        ("query.user.features",),
        ("query.user.history.details",),
        ("query.context",),
        ("query.embedding",),
    ]
    dropped = logged(
        tmp_path, generation, pb.RecommendRequest(query=user()), masking=Masking("drop")
    )
    assert replayer.answer(dropped[0]).masked == ("query.user.id",)
