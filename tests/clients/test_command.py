"""Every command of `shortlist` against a real server: what it prints, and how it ends."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shortlist.v1 import bundle_pb2, catalog_pb2, conversation_pb2, recommendation_pb2
from shortlist_client.cli import main
from shortlist_client.cli.any_call import METHODS
from shortlist_client.cli.arguments import make_parser
from vector_server import VectorServers, vector_servers

PATIENCE = ("--timeout", "60")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorServers]:
    with vector_servers(tmp_path_factory.mktemp("vectors")) as running:
        yield running


@pytest.fixture
def run(
    servers: VectorServers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Any]:
    """Runs a command with a profile of the server; returns what it prints, JSON read."""
    folder = tmp_path / "shortlist"
    folder.mkdir()
    (folder / "config.toml").write_text(
        f"""\
        profile = "all"
        [profiles.all]
        target = "{servers.targets["main"]}"
        metrics = "{servers.metrics}"
        api_key_file = "key"
        timeout_s = 60
        """
    )
    (folder / "key").write_text(servers.keys["all"])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str, code: int = 0, stdin: str = "") -> Any:
        used.add(arguments[0])
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        ended = main(arguments)
        out, err = capsys.readouterr()
        assert ended == code, err
        if "--table" in arguments or arguments[0] == "completion":
            return out
        lines = out.splitlines()
        return json.loads(out) if lines[:1] == ["{"] else list(map(json.loads, lines))

    return run_command


used: set[str] = set()
"""The commands that a test of this file has run."""


def test_every_command_does_what_it_says(run: Callable[..., Any], tmp_path: Path) -> None:
    # One test, since the later ones see what the earlier ones wrote; and so that it fails whole.
    _reads(run)
    _writes(run, tmp_path)
    _converses(run, tmp_path)
    _switches(run)
    assert used == {
        action.dest.partition(" ")[0]
        for subparsers in make_parser()._actions
        if isinstance(subparsers, argparse._SubParsersAction)
        for action in subparsers._choices_actions
    }


def _reads(run: Callable[..., Any]) -> None:
    assert run("profile")["settings"]["api_key_file"]["origin"] == "profile all"
    info = run("info")
    assert info["bundle"]["id"]["version"] == "1"
    first = run("recommend", "--user", "u1", "--limit", "3")["items"]
    assert len(first) == 3
    streamed = run("recommend", "--user", "u1", "--limit", "3", "--diversity", "0.5", "--stream")
    assert [part["last"] for part in streamed] == [False, True]
    assert streamed[0]["response"]["items"][0]["id"] == first[0]["id"]
    embedding = json.dumps([0.5] * info["bundle"]["dimension"])
    Path("embedding.json").write_text(embedding)
    assert run("retrieve", "--embedding", "embedding.json", "--candidates", "5")["items"]
    item = first[0]["id"]
    assert item not in [one["id"] for one in run("similar", item, "--limit", "2")["items"]]
    assert [one["id"] for one in run("rank", item, "--user", "u1")["items"]] == [item]
    found = run("search", "item", "3", "--limit", "2")
    assert [source["name"] for source in found["info"]["sources"]] == ["text"]
    rows = run("batch", "-", "--limit", "1", stdin='u1\n{"limit": 2}\nu2\n', code=9)
    by_index = {row["index"]: row for row in rows}
    assert sorted(by_index) == [0, 1, 2]
    assert by_index[0]["response"]["items"][0]["id"] == item
    assert by_index[1]["error"]["reason"] == "ERROR_REASON_FIELD_REQUIRED"
    assert run("item", item)["item"]["id"] == item
    assert run("stats")["itemCount"] == info["bundle"]["itemCount"]
    assert run("top", "--interval", "0.1")["bundle"].endswith(" 1")
    assert "_shtab_shortlist" in run("completion", "bash")
    assert run("call", "GetActiveBundle")["bundle"] == info["bundle"]
    request = '{"requests": [{"query": {"user": {"id": "u1"}}, "limit": 1}]}'
    (row,) = [run("call", "BatchRecommend", "-", stdin=request)]
    assert row[0]["response"]["items"][0]["id"] == item


def _writes(run: Callable[..., Any], folder: Path) -> None:
    declared = run("info")["bundle"]["itemAttributes"]
    names = [one["name"] for one in declared if one["type"] == "VALUE_TYPE_STRING"]
    dimension = run("info")["bundle"]["dimension"]
    vector = [0.25] * dimension
    lines = [
        {"id": f"new-{number}", "attributes": {names[0]: f"n{number}"}, "vector": vector}
        for number in range(1_500)
    ]
    lines[7]["attributes"] = {names[0]: 7}
    (folder / "new.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    change = run("upsert", "new.jsonl", "--change", "mine", code=9)
    assert len(change["outcomes"]) == 1_500
    refused = [one["itemId"] for one in change["outcomes"] if "error" in one]
    assert refused == ["new-7"]
    # The same change again is done already: two calls, and no new revision.
    again = run("upsert", "new.jsonl", "--change", "mine", code=9)
    assert (again["replayed"], again["revision"]) == (True, change["revision"])
    (folder / "new.csv").write_text(f'id,{names[0]},vector\nnew-7,seven,"{vector}"\n')
    mended = run("upsert", "new.csv")
    shown = run("item", "new-7", "--min-revision", mended["revision"], "--vector")
    assert shown["item"]["attributes"][names[0]] == {"stringValue": "seven"}
    assert shown["item"]["vector"]["values"] == vector
    (folder / "ids").write_text("".join(f"{line['id']}\n" for line in lines))
    gone = run("delete", "--file", "ids")
    assert len(gone["outcomes"]) == 1_500
    # Which waits until the server sees it.
    run("item", "new-7", "--min-revision", gone["revision"], code=4)
    assert int(run("stats")["revision"]) >= int(gone["revision"])


def _converses(run: Callable[..., Any], folder: Path) -> None:
    parts = run("chat", "Anything", "Why the first?", "--user", "u1", "--keep")
    ends = [part["end"] for part in parts if "end" in part]
    assert len(ends) == 2
    assert ends[0]["conversationId"] == ends[1]["conversationId"]
    kept = ("chat", "Another", "--user", "u1", "--conversation", ends[0]["conversationId"])
    assert "I would begin with" in run(*kept, "--table")
    run("chat", "Anything", "--user", "u1", "--conversation", "none", code=4)


def _switches(run: Callable[..., Any]) -> None:
    listed = run("bundles")["bundles"]
    first, second = sorted((one["id"] for one in listed), key=lambda one: one["version"])
    names = (second["name"], second["version"])
    assert run("activate", *names)["bundle"] == second
    assert run("roll-back")["bundle"] == first
    # What has no bundle is not loaded anew, which takes a second.
    assert "previous" not in run("deactivate", "shadow")
    run("activate", "films", "99", code=4)


def test_who_may_not_is_told_apart_from_who_is_late_or_wrong(
    run: Callable[..., Any], servers: VectorServers, tmp_path: Path
) -> None:
    wrong, little = tmp_path / "wrong", tmp_path / "little"
    wrong.write_text(servers.keys["wrong"])
    little.write_text(servers.keys["recommend"])
    run("info", "--api-key-file", str(wrong), code=3)
    run("bundles", "--api-key-file", str(little), code=3)
    run("recommend", "--user", "u1", "--limit", "999", code=2)
    run("recommend", "--user", "u1", "--label", "none", code=2)
    run("recommend", "--user", "u1", "--label", "canary", code=8)
    faulty = ("--profile", "all", "--target", servers.targets["faulty"])
    # The key of the profile belongs to the other server.
    run("info", *faulty, code=2)
    faulty = (*faulty, "--api-key-file", str(little))
    for fault, code in (("OVERLOADED", 7), ("DEADLINE_EXCEEDED", 6), ("INTERNAL", 1)):
        run("recommend", "--user", f"raise {fault}", *faulty, code=code)
    run("upsert", "-", *faulty, stdin='{"id": "a"}', code=8)


def test_every_method_of_the_services_can_be_called() -> None:
    modules = (bundle_pb2, catalog_pb2, conversation_pb2, recommendation_pb2)
    methods = [
        method.name
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    assert sorted(METHODS) == sorted(methods)
