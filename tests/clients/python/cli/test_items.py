"""Items from files, in calls of a thousand that may be cut off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import json_format
from shortlist.v1 import bundle_pb2, catalog_pb2, recommendation_pb2, types_pb2
from shortlist_client.cli import catalog, resending

if TYPE_CHECKING:
    from tests.clients.python.conftest import Failure as FailureType
    from tests.clients.python.conftest import FakeServer

    MakeFailure = Callable[..., FailureType]

Run = Callable[..., int]
Code = grpc.StatusCode
DECLARED = bundle_pb2.GetActiveBundleResponse(
    bundle=bundle_pb2.BundleInfo(
        item_attributes=[
            bundle_pb2.FieldInfo(name="year", type=types_pb2.VALUE_TYPE_INT64),
            bundle_pb2.FieldInfo(name="genres", type=types_pb2.VALUE_TYPE_STRING_LIST),
        ]
    )
)


def written(
    revision: int, *item_ids: str, replayed: bool = False
) -> catalog_pb2.UpsertItemsResponse:
    outcomes = [catalog_pb2.ItemOutcome(item_id=item_id) for item_id in item_ids]
    return catalog_pb2.UpsertItemsResponse(revision=revision, outcomes=outcomes, replayed=replayed)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Five items, a line each."""
    path = tmp_path / "films.jsonl"
    path.write_text("".join(json.dumps({"id": f"i{number}"}) + "\n" for number in range(5)))
    return path


@pytest.fixture(autouse=True)
def two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "ITEMS_MAX", 2)
    monkeypatch.setattr(resending, "FIRST_DELAY_S", 0.0)


def keys(fake_server: FakeServer) -> list[str]:
    requests: list[Any] = [call.request for call in fake_server.received]
    return [request.idempotency_key for request in requests]


def test_many_items_go_in_several_calls_each_under_a_key_of_its_own(
    shortlist: Run, fake_server: FakeServer, films: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.script(written(1, "i0", "i1"), written(2, "i2", "i3"), written(3, "i4"))
    assert shortlist("upsert", str(films), "--json") == 0
    requests: list[Any] = [call.request for call in fake_server.received]
    assert [[item.id for item in request.items] for request in requests] == [
        ["i0", "i1"],
        ["i2", "i3"],
        ["i4"],
    ]
    assert len(set(keys(fake_server))) == 3
    # One answer, however many calls it took.
    printed = json_format.Parse(capsys.readouterr().out, catalog_pb2.UpsertItemsResponse())
    assert printed == written(3, "i0", "i1", "i2", "i3", "i4")


def test_calls_are_cut_by_bytes_too(
    shortlist: Run, fake_server: FakeServer, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "ITEMS_MAX", 1_000)
    monkeypatch.setattr(catalog, "BYTES_MAX", 13)
    assert shortlist("upsert", str(films)) == 0
    requests: list[Any] = [call.request for call in fake_server.received]
    assert [len(request.items) for request in requests] == [3, 2]


def test_a_call_that_fails_for_a_while_is_sent_again_under_its_key(
    shortlist: Run, fake_server: FakeServer, films: Path, failure: MakeFailure
) -> None:
    fake_server.script(
        written(1, "i0", "i1"),
        failure(Code.RESOURCE_EXHAUSTED, "OVERLOADED"),
        failure(Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        written(2, "i2", "i3", replayed=True),
        written(3, "i4"),
    )
    assert shortlist("upsert", str(films)) == 0
    first, *again, last = keys(fake_server)
    assert len(again) == 3
    assert len(set(again)) == 1
    assert len({first, again[0], last}) == 3


def test_a_change_that_is_cut_off_says_how_to_go_on_and_does_so(
    shortlist: Run,
    fake_server: FakeServer,
    films: Path,
    failure: MakeFailure,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_server.script(written(1, "i0", "i1"))
    fake_server.script(*[failure(Code.RESOURCE_EXHAUSTED, "OVERLOADED")] * 5)
    assert shortlist("upsert", str(films)) == 7
    how, why = capsys.readouterr().err.splitlines()
    assert "2 of 5 items are done; the same command with --change " in how
    assert why == "shortlist: what is wrong"
    change = how.partition("--change ")[2].split()[0]
    before = keys(fake_server)
    assert shortlist("upsert", str(films), "--change", change) == 0
    after = keys(fake_server)[len(before) :]
    assert (after[0], after[1]) == (before[0], before[1])
    assert len(after) == 3


def test_a_server_that_is_not_there_is_not_waited_for(
    shortlist: Run, films: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resending, "FIRST_DELAY_S", 1e9)
    target = ("--target", "127.0.0.1:1", "--timeout", "0.5")
    assert shortlist("upsert", str(films), *target) == 5
    assert "0 of 5 items are done" in capsys.readouterr().err


def test_what_is_refused_is_listed_and_the_exit_code_says_so(
    shortlist: Run, fake_server: FakeServer, films: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = written(4, "i0", "i1")
    answer.outcomes[1].error.CopyFrom(
        recommendation_pb2.RowError(code=3, message="items[1].vector: expected one")
    )
    fake_server.script(answer)
    assert shortlist("upsert", str(films)) == 9
    assert "i1: items[1].vector: expected one\n" in capsys.readouterr().out


def test_csv_takes_the_types_that_the_bundle_declares(
    shortlist: Run, fake_server: FakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "films.csv"
    path.write_text(
        '\ufeffid,year,genres,title,vector\nup,2009,"Drama,War","Up, up",\nb,,,,"[1, 0.5]"\n'
    )
    fake_server.script(DECLARED)
    assert shortlist("upsert", str(path)) == 0
    request: Any = fake_server.received[1].request
    assert list(request.items) == [
        catalog_pb2.Item(
            id="up",
            attributes={
                "year": types_pb2.Value(int64_value=2009),
                "genres": types_pb2.Value(
                    string_list=types_pb2.StringList(values=["Drama", "War"])
                ),
                "title": types_pb2.Value(string_value="Up, up"),
            },
        ),
        catalog_pb2.Item(id="b", vector=types_pb2.Embedding(values=[1, 0.5])),
    ]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.jsonl", '{"id": "a"}\n{"id": 1}\n', "a.jsonl:2: expected {"),
        ("a.jsonl", '{"id": "a"}\n\n{"id": "a"}\n', "a.jsonl:3: expected each item once, got 'a'"),
        ("a.jsonl", '{"id": "a", "vector": 3}', "a.jsonl:1: expected {"),
        ("a.jsonl", "{", "a.jsonl:1: expected {"),
        ("a.jsonl", " \n", "a.jsonl: expected a line of JSON for each item, got none"),
        ("a.csv", "year\n1\n", "a.csv:1: expected columns `id` and attributes, none twice, got"),
        ("a.csv", "id,id\n1,2\n", "a.csv:1: expected columns `id`"),
        ("a.csv", "id,year\na,soon\n", "a.csv:2: year: expected int64, as the bundle declares it"),
        ("a.csv", "id,year\na\n", "a.csv:2: expected 2 cells, as in the header, got 1"),
        ("a.csv", "id,vector\na,x\n", "a.csv:2: vector: expected a JSON list of numbers"),
        ("a.csv", "id,year\n,1\n", "a.csv:2: id: expected an id, got an empty cell"),
        ("a.csv", 'id\n"a\n', "a.csv:2: expected CSV, got"),
        ("a.csv", "id\n", "a.csv: expected a row for each item, got none"),
    ],
)
def test_what_is_no_item_is_refused_by_file_and_line_before_anything_is_sent(
    shortlist: Run,
    fake_server: FakeServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str,
    complaint: str,
) -> None:
    (tmp_path / name).write_text(text)
    fake_server.script(DECLARED)
    assert shortlist("upsert", str(tmp_path / name)) == 2
    assert f"shortlist: {tmp_path}/{complaint}" in capsys.readouterr().err
    assert "UpsertItems" not in [call.method for call in fake_server.received]


def test_ids_to_delete_come_from_arguments_and_a_file(
    shortlist: Run, fake_server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").write_text("b\n\n c \n")
    assert shortlist("delete", "a", "--file", str(tmp_path / "gone")) == 0
    requests: list[Any] = [call.request for call in fake_server.received]
    assert [list(request.item_ids) for request in requests] == [["a", "b"], ["c"]]
    with pytest.raises(SystemExit):
        shortlist("delete")
    assert "which items?" in capsys.readouterr().err
