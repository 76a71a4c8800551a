"""What workers share: one more costs its own Python, not another bundle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from benchmark_modules import benchmark

FULL = os.environ.get("SHORTLIST_FAULTS") == "full"
ITEMS = 100_000 if FULL else 10_000
OF_ONE_MAX = 1.5
WORKER_MIB_MAX = 60.0


@pytest.fixture(scope="module")
def memory() -> Any:
    """The benchmark."""
    return benchmark("memory")


def test_workers_share_the_bundle_also_after_a_switch(memory: Any, tmp_path: Path) -> None:
    memory.synthetic.build(tmp_path / "bundle", items=ITEMS, dimension=64)
    runs = []
    for workers in (1, 4):
        (tmp_path / str(workers)).mkdir()
        runs.append(memory.measure(tmp_path / "bundle", workers, 100, tmp_path / str(workers)))
    one, four = runs
    print("\n" + "\n".join(memory.table({"runs": runs})))
    for name in ("pss_mib", "after_switch_pss_mib"):
        assert four[name] - one[name] < 3 * WORKER_MIB_MAX
        if FULL:
            assert four[name] <= OF_ONE_MAX * one[name]
