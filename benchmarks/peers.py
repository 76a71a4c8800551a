"""What people use today beside Shortlist: the same files, the same candidates, the same answers.

    python benchmarks/peers.py [--peers reference triton ...]          (make bench-peers)

Each peer has an environment of its own under build/peers, made from peers/requirements; one that
cannot be installed or does not start is left out, and the reason is kept. A peer is measured alone
with Shortlist and with an empty grpc.aio call, in alternating rounds: one caller, for latency, then
several, for saturation. Writes benchmarks/results/peers.json, where peers that were not measured
now keep what was measured before; `report.py` makes the page of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import synthetic
from bench import closed_loop, machine, recall
from peer_calls import Items, NoopWire, Wire
from peer_servers import PEERS, Peer, Skipped, Started, installed, own_server, started
from serving import percentiles
from shortlist_server.generation import load_generation

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/peers.json"
CALLERS = 16
COMPARED = 200
"""Users whose lists are compared."""
AGREEMENT_MIN = 0.99
WARM_UP = 64
"""Requests before each measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked."""

    name: str
    candidate_count: int
    requests: int
    """Of all callers, in a round."""


JOBS = (
    Job(name="standard", candidate_count=500, requests=800),
    Job(name="light", candidate_count=100, requests=1_600),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="of one caller, in a round")
    arguments = parser.parse_args()
    bundle = synthetic.bundle(100_000, 64)
    report = json.loads(RESULT.read_text()) if RESULT.exists() else {"peers": {}}
    report["recall"] = recalls(bundle)
    for name in arguments.peers:
        report["peers"][name] = beside(PEERS[name], bundle, arguments)
        # What was measured is not lost to what comes after it.
        write(report)
    write(report)
    print(f"written: {RESULT.relative_to(ROOT)}")


def write(report: dict[str, Any]) -> None:
    RESULT.write_text(json.dumps(report, indent=1) + "\n")


def recalls(bundle: Path) -> dict[str, float]:
    """Return, by job, the share of the true candidates that the graph finds, for whoever asks."""
    generation = load_generation(bundle)
    users = [f"user-{row}" for row in range(COMPARED)]
    return {job.name: recall(generation, users, job.candidate_count)["graph"] for job in JOBS}


def beside(peer: Peer, bundle: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one peer beside Shortlist."""
    begin = {"title": peer.title, "note": peer.note, "machine": machine()}
    try:
        versions = installed(peer)
        with (
            started(own_server(bundle, workers=0), bundle) as one,
            started(own_server(bundle, workers=2), bundle) as two,
            started(own_server(None, workers=0), bundle) as noop,
            started(peer, bundle) as other,
        ):
            servers = {"shortlist": one, "shortlist-2": two, "noop": noop, "peer": other}
            measured = asyncio.run(Measurement(servers, arguments).run())
    except Skipped as reason:
        print(f"{peer.name}: skipped: {reason}", file=sys.stderr)
        return begin | {"skipped": str(reason)}
    return begin | {"versions": versions, "load_average": os.getloadavg(), **measured}


class Measurement:
    """One peer, Shortlist in one process and in two, and the empty call."""

    def __init__(self, servers: dict[str, Started], arguments: argparse.Namespace) -> None:
        self._servers = servers
        self._wires: dict[str, Wire] = {
            name: NoopWire() if name == "noop" else server.peer.wire()
            for name, server in servers.items()
        }
        self._arguments = arguments
        self._users = [f"user-{row}" for row in range(synthetic.USER_COUNT)]
        np.random.default_rng(1).shuffle(self._users)

    async def run(self) -> dict[str, Any]:
        """Compare the answers, then measure."""
        return {"jobs": [await self._job(job) for job in JOBS]}

    async def _job(self, job: Job) -> dict[str, Any]:
        asked = {
            name: [wire.request(user, job.candidate_count) for user in self._users]
            for name, wire in self._wires.items()
        }
        agreed = await self._agreement(asked)
        print(job.name, json.dumps(agreed))
        if agreed["same_items"] < AGREEMENT_MIN:
            raise Skipped(f"{job.name} job: other answers than Shortlist's: {agreed}")
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in asked}
        names = list(asked)
        for number in range(self._arguments.rounds):
            place = number % len(names)
            for name in names[place:] + names[:place]:
                call = self._call(name, asked[name])
                one = await self._burst(name, call, 1, self._arguments.requests)
                load = await self._burst(name, call, CALLERS, job.requests)
                rounds[name].append({"one": one, "load": load})
                print(job.name, number, name, json.dumps(rounds[name][-1]))
        return {
            "name": job.name,
            "candidate_count": job.candidate_count,
            "callers": CALLERS,
            "agreement": agreed,
            "servers": {name: summary(each) for name, each in rounds.items()},
            "ratios": ratios(rounds),
        }

    async def _agreement(self, asked: dict[str, list[bytes]]) -> dict[str, float]:
        """Return how far the peer's lists are Shortlist's."""
        lists: dict[str, list[Items]] = {}
        for name in ("shortlist", "peer"):
            wire = self._wires[name]
            await wire.connect(self._servers[name].port, 1)
            lists[name] = [
                wire.items(await wire.ask(request, 0)) for request in asked[name][:COMPARED]
            ]
            await wire.close()
        pairs = list(zip(lists["shortlist"], lists["peer"], strict=True))
        return {
            "users": len(pairs),
            "same_items": float(
                np.mean(
                    [len(set(ours[0]) & set(theirs[0])) / len(ours[0]) for ours, theirs in pairs]
                )
            ),
            "same_order": float(np.mean([ours[0] == theirs[0] for ours, theirs in pairs])),
        }

    def _call(self, name: str, requests: list[bytes]) -> Any:
        wire = self._wires[name]

        async def call(number: int) -> float:
            begin = time.perf_counter()
            await wire.ask(requests[number % len(requests)], number)
            return time.perf_counter() - begin

        return call

    async def _burst(self, name: str, call: Any, callers: int, requests: int) -> dict[str, Any]:
        mine, server, wire = psutil.Process(), self._servers[name], self._wires[name]
        # New connections: while others are measured, some servers end those that idle.
        await wire.connect(server.port, callers)
        await closed_loop(call, callers, WARM_UP)
        own, cpu, busy = _cpu_s(mine), server.cpu_s(), _busy_s()
        begin = time.perf_counter()
        measured = await closed_loop(call, callers, requests)
        wall = time.perf_counter() - begin
        own, cpu, busy = _cpu_s(mine) - own, server.cpu_s() - cpu, _busy_s() - busy
        await wire.close()
        return {
            "per_second": measured["per_second"],
            "server_cpu_us": cpu / requests * 1e6,
            "generator_cpu_us": own / requests * 1e6,
            "latency_ms": percentiles([latency * 1e3 for latency in measured["latencies"]]),
            # What is left of the machine's busy time: noise, and the servers that idle.
            "others_cores": max(0.0, (busy - cpu - own) / wall),
        }


FIGURES = {
    "per_second": ("load", "per_second"),
    "server_cpu_us": ("load", "server_cpu_us"),
    "generator_cpu_us": ("load", "generator_cpu_us"),
    "p50_ms": ("one", "latency_ms", "p50"),
    "p99_ms": ("one", "latency_ms", "p99"),
    "others_cores": ("load", "others_cores"),
}


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure and its range over the rounds."""
    return {
        figure: spread([_at(each, *path) for each in rounds]) for figure, path in FIGURES.items()
    }


def ratios(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return each figure of Shortlist over the peer's in the same round."""
    return {
        name: {
            figure: spread(
                [
                    _at(ours, *FIGURES[figure]) / max(1e-9, _at(theirs, *FIGURES[figure]))
                    for ours, theirs in zip(rounds[name], rounds["peer"], strict=True)
                ]
            )
            for figure in ("per_second", "server_cpu_us", "p50_ms", "p99_ms")
        }
        for name in ("shortlist", "shortlist-2")
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "low": min(values), "high": max(values)}


def _at(found: Any, *steps: str) -> float:
    for step in steps:
        found = found[step]
    return float(found)


def _cpu_s(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


if __name__ == "__main__":
    main()
