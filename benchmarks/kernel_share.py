"""How much of the server's CPU time its kernels take, under load.

    python benchmarks/kernel_share.py         (make bench-peers)

The server computes in its event loop, one request after the other, asked by 16 callers; kernels are
the query tower, the search of the graph, the ranker and the selection (clocked_server.py), and the
whole is all CPU time of the process. Writes benchmarks/results/kernel_share.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import clocked_server
import numpy as np
import synthetic
from bench import closed_loop, machine
from peer_calls import RecommendWire
from peer_servers import Started, own_server, started
from peers import CALLERS, JOBS, Job, spread

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/kernel_share.json"
WARM_UP = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    folder = ROOT / "build/peers"
    folder.mkdir(parents=True, exist_ok=True)
    measured = measure(synthetic.bundle(100_000, 64), folder / "clock.json", arguments.rounds)
    report = {"machine": machine(), **measured}
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({job["name"]: job["share"] for job in report["jobs"]}, indent=1))
    print(f"written: {RESULT.relative_to(ROOT)}")


def measure(bundle: Path, file: Path, rounds: int, jobs: Sequence[Job] = JOBS) -> dict[str, Any]:
    """Measure the jobs, in turn; the server writes the file."""
    with started(clocked(bundle, file), bundle) as server:
        found: dict[str, list[dict[str, float]]] = {job.name: [] for job in jobs}
        for _ in range(rounds):
            for job in jobs:
                found[job.name].append(asyncio.run(_round(server, job, file)))
    return {"callers": CALLERS, "jobs": [_summary(job, found[job.name]) for job in jobs]}


def clocked(bundle: Path, file: Path) -> Any:
    """Return Shortlist with clocks in it."""
    own = own_server(bundle, workers=0)

    def command(bundle: Path, port: int) -> list[str]:
        _, _, _, *rest = own.command(bundle, port)
        return [sys.executable, str(Path(clocked_server.__file__)), str(file), *rest]

    return replace(own, name="clocked", command=command)


async def _round(server: Started, job: Job, file: Path) -> dict[str, float]:
    wire = RecommendWire()
    await wire.connect(server.port, CALLERS)
    requests = [
        wire.request(f"user-{row}", job.candidate_count) for row in range(synthetic.USER_COUNT)
    ]

    async def call(number: int) -> float:
        await wire.ask(requests[number % len(requests)], number)
        return 0.0

    await closed_loop(call, CALLERS, WARM_UP)
    before = look(server, file)
    await closed_loop(call, CALLERS, job.requests)
    after = look(server, file)
    await wire.close()
    return {name: (after[name] - before.get(name, 0)) / job.requests / 1e3 for name in after}


def look(server: Started, file: Path) -> dict[str, int]:
    """Return what the server has counted so far."""
    file.unlink(missing_ok=True)
    server.send_signal(signal.SIGUSR1)
    while not file.exists():
        time.sleep(0.01)
    counted: dict[str, int] = json.loads(file.read_text())
    return counted


def _summary(job: Job, rounds: list[dict[str, float]]) -> dict[str, Any]:
    kernels = [sum(each[name] for name in clocked_server.KERNELS) for each in rounds]
    whole = [each["process"] for each in rounds]
    return {
        "name": job.name,
        "candidate_count": job.candidate_count,
        "cpu_us": {name: float(np.median([each[name] for each in rounds])) for name in rounds[0]},
        "share": spread([part / all_ for part, all_ in zip(kernels, whole, strict=True)]),
    }


if __name__ == "__main__":
    main()
