from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lift_reports import WORSE
from shortlist_server.llm.lift_report import ArmLift, LiftReportInvalid, write_report
from shortlist_server.llm.lift_switch import LiftOptions, LiftSwitch


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def write(file: Path, *arms: ArmLift) -> None:
    write_report(file, {arm.name: arm for arm in arms})


def switch(file: Path, **options: Any) -> LiftSwitch:
    return LiftSwitch(LiftOptions(file=file, **options))


def is_off(one: LiftSwitch) -> bool:
    return one.off(*WORSE.name) is not None


@pytest.mark.parametrize(
    ("arm", "off"),
    [
        (WORSE, True),
        (replace(WORSE, lift_high=0.0), False),
        (replace(WORSE, lift_high=0.1), False),
        (replace(WORSE, lift=0.2, lift_low=0.1, lift_high=0.3), False),
        (replace(WORSE, user_count=100), True),
        (replace(WORSE, user_count=99), False),
        (replace(WORSE, confidence=0.99), True),
        (replace(WORSE, confidence=0.94), False),
        (replace(WORSE, prompt="rerank@2"), False),
        (replace(WORSE, model="gemini/y"), False),
    ],
)
def test_an_arm_is_off_where_it_is_surely_worse(tmp_path: Path, arm: ArmLift, off: bool) -> None:
    write(tmp_path / "lift.json", arm)
    assert is_off(switch(tmp_path / "lift.json")) == off


def test_the_bounds_are_those_of_the_configuration(tmp_path: Path) -> None:
    write(tmp_path / "lift.json", replace(WORSE, user_count=5, confidence=0.8))
    assert is_off(switch(tmp_path / "lift.json", confidence=0.8, users_min=5))
    assert not is_off(switch(tmp_path / "lift.json", confidence=0.9, users_min=5))
    assert not is_off(switch(tmp_path / "lift.json", confidence=0.8, users_min=6))


def test_the_file_may_come_change_and_go(tmp_path: Path) -> None:
    file, clock = tmp_path / "lift.json", Clock()
    one = LiftSwitch(LiftOptions(file=file), now=clock)
    assert not is_off(one)
    write(file, WORSE)
    # Not at each request.
    clock.now += 0.5
    assert not is_off(one)
    clock.now += 0.5
    assert is_off(one)
    assert one.off_count == 1
    write(file, replace(WORSE, lift_high=0.5))
    clock.now += 1
    assert (one.off_count, is_off(one)) == (0, False)
    write(file, WORSE, replace(WORSE, prompt="rerank@2"))
    clock.now += 1
    assert one.off_count == 2
    file.unlink()
    clock.now += 1
    assert not is_off(one)


def test_a_broken_file_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, clock = tmp_path / "lift.json", Clock()
    write(file, WORSE)
    one = LiftSwitch(LiftOptions(file=file), now=clock)
    file.write_text("{")
    clock.now += 1
    assert is_off(one)
    clock.now += 1
    assert is_off(one)
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "all stays as it was: expected JSON" in errors[0]
    # The same bytes as at first, in a file that is another.
    write(file, WORSE)
    os.utime(file, ns=(1, 1))
    clock.now += 1
    assert is_off(one)


def test_a_file_that_is_no_report_keeps_the_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "lift.json").write_text("[]")
    with pytest.raises(LiftReportInvalid):
        switch(tmp_path / "lift.json")
