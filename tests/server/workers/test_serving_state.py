"""What a server serves is remembered, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shortlist_server.errors import ConfigError
from shortlist_server.workers.serving_state import ServingState, read_state, write_state

BUNDLE = {"folder": "/b/1", "name": "a", "version": "1", "sha256": "f", "created": "2026"}
STATE = ServingState(configured="/b/1", active={"stable": BUNDLE}, newest="2026")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_state(tmp_path / "none") == ServingState()
    write_state(tmp_path / "made", STATE)
    assert read_state(tmp_path / "made") == STATE
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["serving.json"]


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
        json.dumps({"format": 1, "configured": "", "active": 3, "previous": {}, "newest": ""}),
    ],
)
def test_file_that_no_server_wrote_is_refused(tmp_path: Path, document: str) -> None:
    (tmp_path / "serving.json").write_text(document)
    with pytest.raises(ConfigError, match=r"state_dir: .*serving.json: expected"):
        read_state(tmp_path)
