"""What a server serves is remembered, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shortlist_server.config import ServerConfig
from shortlist_server.errors import ConfigError
from shortlist_server.workers.serving_state import ServingState, read_state, write_state

BUNDLE = {"folder": "/b/1", "name": "a", "version": "1", "sha256": "f", "created": "2026"}
STATE = ServingState(configured="/b/1", active={"stable": BUNDLE}, newest="2026")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_state(tmp_path / "none") == ServingState()
    write_state(tmp_path / "made", STATE)
    assert read_state(tmp_path / "made") == STATE
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["serving.json"]


def config(**settings: str) -> ServerConfig:
    return ServerConfig.model_validate({"bundle": "/b/1", **settings})


def bundle(version: str) -> dict[str, str]:
    return {**BUNDLE, "folder": f"/b/{version}", "version": version, "sha256": version}


def test_each_label_is_served_again_unless_another_setting_names_another(tmp_path: Path) -> None:
    asked = config(canary_bundle="/b/2")
    assert ServingState().stable_folder(asked) == Path("/b/1")
    assert ServingState().folders_beside(asked) == {"canary": Path("/b/2")}
    first = ServingState().serving({"stable": bundle("1"), "canary": bundle("2")}, asked)
    other = first.serving(
        {"stable": bundle("4"), "canary": bundle("3"), "shadow": bundle("5")}, asked
    )
    write_state(tmp_path, other)
    state = read_state(tmp_path)
    assert state == other
    assert {label: one["version"] for label, one in state.previous.items()} == {
        "stable": "1",
        "canary": "2",
    }
    assert state.stable_folder(asked) == Path("/b/4")
    assert state.folders_beside(asked) == {"canary": Path("/b/3"), "shadow": Path("/b/5")}
    again = config(bundle="/b/7", canary_bundle="/b/8")
    assert state.stable_folder(again) == Path("/b/7")
    assert state.folders_beside(again) == {"canary": Path("/b/8"), "shadow": Path("/b/5")}
    # Taken away is not forgotten: the setting that named it is as it was.
    without = state.serving({"stable": bundle("4")}, asked)
    assert without.folders_beside(asked) == {}
    assert without.previous["canary"]["version"] == "3"
    assert without.serving({"stable": bundle("4")}, asked) == without


def test_file_of_a_server_that_knew_one_label_is_read(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    document = json.loads((tmp_path / "serving.json").read_text())
    del document["configured_beside"]
    (tmp_path / "serving.json").write_text(json.dumps(document))
    state = read_state(tmp_path)
    assert state == STATE
    assert state.folders_beside(config(canary_bundle="/b/2")) == {"canary": Path("/b/2")}


def test_folder_that_cannot_be_written_leaves_what_was(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    (tmp_path / ".serving.json.new").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_state(tmp_path, ServingState())
    assert read_state(tmp_path) == STATE


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        json.dumps({"format": 2}),
        json.dumps({"format": 1, "configured": "", "active": {"stable": {}}, "previous": {}}),
        json.dumps(
            {
                "format": 1,
                "configured": "",
                "configured_beside": {"canary": 3},
                "active": {},
                "previous": {},
                "newest": "",
            }
        ),
        json.dumps({"format": 1, "configured": "", "active": 3, "previous": {}, "newest": ""}),
    ],
)
def test_file_that_no_server_wrote_is_refused(tmp_path: Path, document: str) -> None:
    (tmp_path / "serving.json").write_text(document)
    with pytest.raises(ConfigError, match=r"state_dir: .*serving.json: expected"):
        read_state(tmp_path)
