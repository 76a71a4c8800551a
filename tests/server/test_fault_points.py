from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from shortlist_server import fault_points

PROGRAM = (
    "from shortlist_server import fault_points\n"
    "for turn in range(4):\n"
    "    for point in ('a', 'b', 'a:b'):\n"
    "        print(turn, point, flush=True)\n"
    "        fault_points.hit(point)\n"
)


def run(setting: str | None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != fault_points.VARIABLE}
    if setting is not None:
        environment[fault_points.VARIABLE] = setting
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("setting", [None, "", "c:1", "a:5"])
def test_a_point_that_is_not_named_or_not_reached_does_nothing(setting: str | None) -> None:
    result = run(setting)
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 12


@pytest.mark.parametrize(
    ("setting", "last"), [("a:1", "0 a"), ("a:3", "2 a"), ("b:2", "1 b"), ("a:b:4", "3 a:b")]
)
def test_a_process_dies_at_the_nth_hit_of_its_point(setting: str, last: str) -> None:
    result = run(setting)
    assert result.returncode == -signal.SIGKILL
    assert result.stdout.splitlines()[-1] == last


@pytest.mark.parametrize("setting", ["a", "a:", "a:0", "a:-1", "a:x", "a:²"])
def test_a_setting_that_is_none_is_refused(setting: str) -> None:
    result = run(setting)
    assert result.returncode == 1
    assert f"expected name:n with n from 1, got {setting!r}" in result.stderr


def test_without_a_setting_a_point_costs_an_empty_call() -> None:
    assert fault_points.hit is fault_points._nothing
