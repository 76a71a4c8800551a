"""What `shortlist` prints: tables for people, JSON for machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from shortlist.v1 import bundle_pb2, recommendation_pb2, types_pb2

if TYPE_CHECKING:
    from tests.clients.python.conftest import FakeServer


def stage(name: str, microseconds: int, plan: str = "", **fields: Any) -> types_pb2.StageReport:
    fields = {"outcome": types_pb2.STAGE_OUTCOME_OK, **fields}
    return types_pb2.StageReport(
        name=name, duration=Duration(nanos=microseconds * 1000), plan=plan, **fields
    )


INFO = types_pb2.AnswerInfo(
    request_id="mine",
    bundle=types_pb2.BundleId(name="films", version="7", sha256="0123456789abcdef" * 4),
    stages=[
        stage("query", 110),
        stage("retrieval", 80, "exact 1682 of 1682"),
        stage("ranking", 360),
        stage("select", 50),
    ],
)


def film(number: str, title: str, year: int, score: float, **fields: Any) -> types_pb2.ScoredItem:
    fields = {"source": "two_tower", "outputs": {"rating": score}, **fields}
    return types_pb2.ScoredItem(
        id=number,
        score=score,
        ranking_score=score,
        attributes={
            "year": types_pb2.Value(int64_value=year),
            "title": types_pb2.Value(string_value=title),
            "genres": types_pb2.Value(string_list=types_pb2.StringList(values=["Drama", "War"])),
        },
        **fields,
    )


ITEMS = [
    film("50", "Star Wars", 1977, 4.5, retrieval_score=0.75),
    film("9", "七人の侍", 1954, 4.25, retrieval_score=0.5),
]


ANSWER = recommendation_pb2.RecommendResponse(items=ITEMS, info=INFO)


TABLE = """\
#  id  title      genres      year   score  rating  retrieval  source
1  50  Star Wars  Drama, War  1977  4.5000  4.5000     0.7500  two_tower
2  9   七人の侍   Drama, War  1954  4.2500  4.2500     0.5000  two_tower

query 0.11 · retrieval 0.08 (exact 1682 of 1682) · ranking 0.36 · select 0.05 · total 0.60 ms
films 7 (0123456789ab) · request mine
"""


BUNDLE = bundle_pb2.GetActiveBundleResponse(
    bundle=bundle_pb2.BundleInfo(
        id=INFO.bundle,
        create_time=Timestamp(seconds=1_793_534_400),
        data_name="MovieLens 100K",
        data_simulated=True,
        item_count=1682,
        user_count=943,
        dimension=32,
        metric="cosine",
        item_attributes=[bundle_pb2.FieldInfo(name="title", type=types_pb2.VALUE_TYPE_STRING)],
        features=[
            bundle_pb2.FieldInfo(name="user.age", type=types_pb2.VALUE_TYPE_INT64),
            bundle_pb2.FieldInfo(name="user.zip", type=types_pb2.VALUE_TYPE_STRING),
            bundle_pb2.FieldInfo(name="context.hour", type=types_pb2.VALUE_TYPE_INT64),
        ],
        ranker_outputs=["rating"],
        framework_versions={"tensorflow": "2.21.0", "hnswlib": "0.8.0"},
    )
)


COMMAND = [sys.executable, "-m", "shortlist_client.cli"]


def test_recommend_prints_a_table_and_how_it_came_about(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.script(ANSWER)
    assert shortlist("recommend", "--user", "42") == 0
    assert capsys.readouterr().out == TABLE
    expected = recommendation_pb2.RecommendRequest(
        query=types_pb2.Query(user=types_pb2.UserQuery(id="42")),
        retrieval=types_pb2.RetrievalOptions(),
        exclusions=types_pb2.Exclusions(seen=True),
        attributes=["*"],
    )
    assert [call.request for call in fake_server.received] == [expected]


def test_json_is_the_answer_as_proto_json(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.script(ANSWER)
    assert shortlist("recommend", "--user", "42", "--json") == 0
    printed = capsys.readouterr().out
    assert json_format.Parse(printed, recommendation_pb2.RecommendResponse()) == ANSWER
    document = json.loads(printed)
    assert [item["id"] for item in document["items"]] == ["50", "9"]
    assert document["items"][1]["attributes"]["year"] == {"int64Value": "1954"}
    # What is empty is there, so that a script need not ask.
    assert document["info"]["warnings"] == []
    # Letters are letters.
    assert "七人の侍" in printed


def test_cold_start_shortfall_warnings_and_skipped_stages_are_told(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    info = types_pb2.AnswerInfo(
        stages=[stage("ranking", 0, "no embedding", outcome=types_pb2.STAGE_OUTCOME_SKIPPED)],
        cold_start=True,
        shortfall_reason=types_pb2.SHORTFALL_REASON_POPULARITY_EXHAUSTED,
        warnings=[
            types_pb2.Warning(
                reason=types_pb2.WARNING_REASON_UNKNOWN_ITEM,
                field="query.user.history",
                subjects=[f"x{i}" for i in range(12)],
                subject_count=15,
                message="unknown items had no effect",
            )
        ],
    )
    fake_server.script(recommendation_pb2.RecommendResponse(info=info))
    assert shortlist("recommend", "--history", "1") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["no items", ""]
    assert "cold start: the bundle does not know this user" in out
    assert "only 0 items: popularity exhausted" in out
    subjects = ", ".join(f"x{i}" for i in range(10))
    assert (
        f"warning: query.user.history: unknown items had no effect ({subjects} and 5 more)" in out
    )
    assert "ranking skipped (no embedding) · total 0.00 ms" in out


def test_rank_names_the_items_that_are_unknown(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.script(recommendation_pb2.RankResponse(items=ITEMS, unknown_item_ids=["x", "y"]))
    assert shortlist("rank", "50", "x", "9", "y", "--user", "42") == 0
    assert "unknown items: x, y" in capsys.readouterr().out.splitlines()


def test_predicted_ratings_are_shown_with_a_mark_where_they_are_clamped(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [
        types_pb2.ScoredItem(id="9", score=5, llm_rating=5, llm_rating_clamped=True),
        types_pb2.ScoredItem(id="50", score=2.5, llm_rating=2.5),
    ]
    told = types_pb2.RatingInfo(
        prompt="rating@1", model="gemini/x", clamped_count=1, input_token_count=1_200
    )
    info = types_pb2.AnswerInfo(rating=told)
    fake_server.script(recommendation_pb2.RankResponse(items=items, info=info))
    assert shortlist("rank", "50", "9", "--user", "42", "--ranker", "llm") == 0
    header, first, second, *rest = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["#", "id", "score", "llm"]
    assert first.split()[:4] == ["1", "9", "5.0000", "5!"]
    assert second.split()[:4] == ["2", "50", "2.5000", "2.5"]
    assert "language model: gemini/x, prompt rating@1, 1,200 tokens, price 0" in rest
    assert "!: the language model said a number outside of 1..5" in rest


def test_info_describes_the_bundle(
    shortlist: Callable[..., int], fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.script(BUNDLE, BUNDLE)
    assert shortlist("info") == 0
    assert (
        capsys.readouterr().out
        == f"""\
bundle      films 7
sha256      {INFO.bundle.sha256}
built       2026-11-01 12:00:00+00:00
data        MovieLens 100K (simulated)
items       1,682
users       943
embeddings  32 dimensions, cosine
features    user.age (int64), user.zip (string), context.hour (int64)
attributes  title (string)
outputs     rating
built with  hnswlib 0.8.0, tensorflow 2.21.0
"""
    )
    assert shortlist("info", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["bundle"]["createTime"] == "2026-11-01T12:00:00Z"
    assert printed["bundle"]["features"][0] == {"name": "user.age", "type": "VALUE_TYPE_INT64"}


def test_an_empty_bundle_description_is_printed_all_the_same(
    shortlist: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert shortlist("info") == 0
    assert "outputs     none: no ranker" in capsys.readouterr().out.splitlines()


def run_on_a_terminal(environment: dict[str, str], *arguments: str) -> str:
    """Run the command on a pseudo-terminal and return what it wrote there."""
    master, slave = os.openpty()
    run = subprocess.run([*COMMAND, *arguments], env=environment, stdout=slave)
    os.close(slave)
    written = b""
    while True:
        try:
            part = os.read(master, 65_536)
        except OSError:  # Linux's end of a terminal whose other side is closed.
            break
        if not part:
            break
        written += part
    os.close(master)
    assert run.returncode == 0
    return written.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colours_and_its_own_width(
    fake_server: FakeServer, environment: dict[str, str]
) -> None:
    fake_server.script(ANSWER)
    screen = {**environment, "COLUMNS": "60", "TERM": "xterm"}
    header, *lines = run_on_a_terminal(screen, "recommend", "--user", "42").splitlines()
    assert header.startswith("\x1b[1m#  id  title")
    assert header.endswith("\x1b[0m")
    assert lines[0] == "1  50  Star…   Drama…  1977  4.5000  4.5000     0.7500  two…"


def test_no_color_is_respected(fake_server: FakeServer, environment: dict[str, str]) -> None:
    fake_server.script(ANSWER)
    screen = {**environment, "COLUMNS": "200", "TERM": "xterm", "NO_COLOR": "1"}
    assert run_on_a_terminal(screen, "recommend", "--user", "42") == TABLE


def test_a_pipe_gets_json(fake_server: FakeServer, environment: dict[str, str]) -> None:
    fake_server.script(ANSWER)
    del environment["SHORTLIST_OUTPUT"]
    command = [*COMMAND, "recommend", "--user", "42"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert json_format.Parse(run.stdout, recommendation_pb2.RecommendResponse()) == ANSWER


def test_a_terminal_gets_a_table(fake_server: FakeServer, environment: dict[str, str]) -> None:
    fake_server.script(ANSWER)
    del environment["SHORTLIST_OUTPUT"]
    screen = {**environment, "COLUMNS": "200", "TERM": "xterm", "NO_COLOR": "1"}
    assert run_on_a_terminal(screen, "recommend", "--user", "42") == TABLE


def test_a_pipe_gets_the_same_table_uncut_and_without_colours_where_it_is_asked_for(
    fake_server: FakeServer, environment: dict[str, str]
) -> None:
    fake_server.script(ANSWER)
    run = subprocess.run(
        [*COMMAND, "recommend", "--user", "42", "--table"],
        env={**environment, "COLUMNS": "40", "TERM": "xterm"},
        capture_output=True,
        text=True,
    )
    assert run.stdout == TABLE


def test_letters_that_the_output_cannot_hold_are_replaced(
    fake_server: FakeServer, environment: dict[str, str]
) -> None:
    fake_server.script(ANSWER)
    run = subprocess.run(
        [*COMMAND, "recommend", "--user", "42"],
        env={**environment, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0
    assert "????" in run.stdout
