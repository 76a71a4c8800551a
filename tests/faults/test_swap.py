"""Switching bundles under load: no call fails, none mixes two bundles."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest
from supervised import Load, Supervised, write_bundle

FULL = os.environ.get("SHORTLIST_FAULTS") == "full"
SWITCHES = 20 if FULL else 3
BEFORE_S = 5.0 if FULL else 1.0
BETWEEN_S = 0.5
AGE = ("--connection-age-ms", "2000" if FULL else "500")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    for version, seed in (("1", 1), ("2", 2)):
        write_bundle(tmp_path / "bundles", version, seed)
    return tmp_path


async def swaps(server: Supervised, load: Load) -> tuple[list[float], list[float]]:
    """Switch to and fro under load; returns the latencies before and during the switches."""
    rate = 0.5 * await load.saturation()
    load.latencies.clear()
    load.ends.clear()
    done = asyncio.Event()
    running = asyncio.create_task(load.run(rate, done))
    await asyncio.sleep(BEFORE_S)
    begin = asyncio.get_running_loop().time()
    for number in range(SWITCHES):
        answer = await asyncio.to_thread(server.activate, "21"[number % 2])
        assert answer.switched
        await asyncio.sleep(BETWEEN_S)
    done.set()
    await running
    before = [spent for at, spent in load.latencies if at < begin]
    return before, [spent for at, spent in load.latencies if at >= begin]


def test_no_call_fails_or_mixes_two_bundles(two: Path) -> None:
    # Other tests may take the machine: a call is slow then, but not refused for that.
    patient = ("--wait-ms-max", "10000", "--wait-ms-standing", "10000", "--waiting-max", "99999")
    with Supervised(two, "--workers", "2", *patient, *AGE, bundle=two / "bundles/1") as server:
        expected = {"1": server.answers()}
        server.activate("2")
        expected["2"] = server.answers()
        server.activate("1")
        assert expected["1"] != expected["2"]
        load = Load(server, expected)
        before, during = asyncio.run(swaps(server, load))
        code, log = server.end()
    failed = {end: count for end, count in load.ends.items() if end != "OK"}
    p99 = [float(np.percentile(spent, 99)) * 1e3 for spent in (before, during)]
    print(
        f"\n{SWITCHES} switches, {load.ends['OK']} calls answered, {sum(failed.values())} failed, "
        f"{len(load.mixed)} mixed; p99 {p99[0]:.1f} ms before, {p99[1]:.1f} ms during"
    )
    assert not failed
    assert not load.mixed
    assert code == 0
    assert "Traceback" not in log
