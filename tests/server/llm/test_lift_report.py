from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from lift_reports import WORSE
from shortlist_server.llm.lift_report import (
    LiftReportInvalid,
    read_report,
    write_report,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "lift.json"
    other = replace(WORSE, prompt="rerank@2", lift_high=0.0)
    write_report(file, {arm.name: arm for arm in (WORSE, other)})
    assert read_report(file) == {WORSE.name: WORSE, other.name: other}
    write_report(file, {other.name: other})
    assert read_report(file) == {other.name: other}
    assert [one.name for one in tmp_path.iterdir()] == ["lift.json"]


def test_a_report_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "lift.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_report(tmp_path / "lift.json", {WORSE.name: WORSE})
    assert [one.name for one in tmp_path.iterdir()] == ["lift.json"]


def test_json_tells_no_1_from_1_point_0(tmp_path: Path) -> None:
    file = tmp_path / "lift.json"
    file.write_text(json.dumps({"format": 1, "arms": [{**asdict(WORSE), "lift": -1}]}))
    (arm,) = read_report(file).values()
    assert (arm.lift, type(arm.lift)) == (-1.0, float)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"\xff", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b"[]", "format: expected 1, as `shortlist-server evaluate-rerank` writes, got 'list'"),
        ({}, "format: expected 1, as .*, got None"),
        ({"format": 2}, "got 2"),
        ({"format": 1}, "arms: expected a list, got a NoneType"),
        ({"format": 1, "arms": [3]}, r"arms\[0\]: expected an object, got a int"),
        ({"format": 1, "arms": [{}]}, r"arms\[0\].model: expected a str, got None"),
        (b" " * (5 << 20), "expected at most 4194304 bytes"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, document: Any, message: str) -> None:
    file = tmp_path / "lift.json"
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    file.write_bytes(data)
    with pytest.raises(LiftReportInvalid, match=message):
        read_report(file)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lift_high", "low"),
        ("lift_high", True),
        ("lift_high", float("nan")),
        ("lift_high", 10**400),
        ("user_count", 1.5),
        ("user_count", True),
        ("prompt", 3),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(tmp_path: Path, field: str, value: Any) -> None:
    file = tmp_path / "lift.json"
    file.write_text(
        json.dumps({"format": 1, "arms": [asdict(WORSE), {**asdict(WORSE), field: value}]})
    )
    with pytest.raises(LiftReportInvalid, match=rf"arms\[1\].{field}: expected a "):
        read_report(file)
