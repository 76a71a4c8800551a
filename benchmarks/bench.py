"""Stages, latency and throughput over a real socket, with the index's recall beside them.

    python benchmarks/bench.py            (make bench)

Measures the MovieLens bundle of `make demo` and a synthetic one of 100,000 items, and an empty
grpc.aio call beside them in the same run, in alternating rounds; then what filters cost and miss,
and what each option costs. Writes benchmarks/results/bench.json; `report.py` makes the page of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filter_table
import grpc
import noop_server
import numpy as np
import option_costs
import synthetic
from serving import TIMEOUT_S, percentiles, serving
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Query, User
from shortlist_server.generation import Generation, load_generation

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/bench.json"
CALLERS = (1, 4, 16)
LIMIT = 20
SIZES = (10_000, 100_000)
"""Items of the catalogues that filters are measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked of one bundle."""

    name: str
    bundle: Path
    candidate_count: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="alternations of no-op and Recommend at one caller"
    )
    parser.add_argument(
        "--requests", type=int, default=400, help="requests in each measurement of one caller"
    )
    parser.add_argument("--queries", type=int, default=200, help="queries in the filter tables")
    arguments = parser.parse_args()
    standard = synthetic.bundle(100_000, 64)
    jobs = [
        Job(name="demo", bundle=ROOT / "build/demo/bundle", candidate_count=200),
        Job(name="standard", bundle=standard, candidate_count=500),
        Job(name="light", bundle=standard, candidate_count=100),
    ]
    report = {
        "machine": machine(),
        "jobs": [measure(job, arguments) for job in jobs],
        "filters": [
            filter_table.measure(synthetic.bundle(size, 64), arguments.queries) for size in SIZES
        ],
        "options": option_costs.measure(standard),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {RESULT.relative_to(ROOT)}")


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    model = [
        line
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit.stdout.strip(),
        "cpu": model[0].split(":")[1].strip() if model else platform.processor(),
        "cores": len(model),
        "python": platform.python_version(),
        "versions": {
            name: version(name)
            for name in ("grpcio", "hnswlib", "numpy", "onnxruntime", "protobuf")
        },
    }


def measure(job: Job, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one job, from its kernels out to 16 callers."""
    generation = load_generation(job.bundle)
    table, vocabularies = generation.bundle.users, generation.bundle.vocabularies
    users = [str(user) for user in (vocabularies["users"] if table is None else table.ids)]
    np.random.default_rng(1).shuffle(users)
    result: dict[str, Any] = {
        "name": job.name,
        "bundle": generation.bundle.manifest.name,
        "item_count": generation.catalog.size,
        "dimension": generation.bundle.manifest.dimension,
        "candidate_count": job.candidate_count,
        "limit": LIMIT,
        "recall": recall(generation, users[:200], job.candidate_count),
        "stages_us": stages(generation, users[:500], job.candidate_count),
    }
    del generation
    command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(job.bundle)]
    command += ["--listen", "127.0.0.1:0", "--drain-notice-ms", "0", "--log-level", "warning"]
    # How much the server can do is measured here, and what it refuses in overload.py.
    command += ["--wait-ms-max", "10000", "--wait-ms-standing", "10000"]
    with (
        serving(command) as target,
        serving([sys.executable, str(Path(noop_server.__file__))]) as noop,
    ):
        result |= asyncio.run(over_the_wire(job, users, target, noop, arguments))
    print(json.dumps({key: result[key] for key in ("name", "recall", "one_caller")}, indent=1))
    return result


def recall(generation: Generation, users: list[str], k: int) -> dict[str, float]:
    """Return the share of the true k nearest items that the graph finds, and that the served
    default finds.
    """
    found: dict[str, list[float]] = {"graph": [], "served": []}
    width = generation.bundle.manifest.index.ef
    for user in users:
        query = Query(subject=User(id=user))
        truth = rows(generation, query, Options(limit=k, candidate_count=k, exact=True))
        for name, ef in (("graph", width), ("served", None)):
            got = rows(generation, query, Options(limit=k, candidate_count=k, ef=ef))
            found[name].append(len(truth & got) / max(1, len(truth)))
    return {name: float(np.mean(shares)) for name, shares in found.items()}


def rows(generation: Generation, query: Query, options: Options) -> set[int]:
    answer = generation.funnel.retrieve(query, options, Budget(TIMEOUT_S))
    return set(answer.items.rows.tolist())


def stages(
    generation: Generation, users: list[str], candidate_count: int
) -> dict[str, dict[str, float]]:
    """Return the time of each stage inside the process, one request after the other."""
    options = Options(limit=LIMIT, candidate_count=candidate_count)
    times: dict[str, list[float]] = {}
    for user in users:
        answer = generation.funnel.recommend(
            Query(subject=User(id=user)), options, Budget(TIMEOUT_S)
        )
        for report in answer.stages[1:]:
            times.setdefault(report.name, []).append(report.duration_ns / 1e3)
    return {name: percentiles(values) for name, values in times.items()}


async def over_the_wire(
    job: Job, users: list[str], target: str, noop: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Measure latency beside the empty call at one caller, then throughput at several."""
    async with (
        grpc.aio.insecure_channel(target) as channel,
        grpc.aio.insecure_channel(noop) as empty_channel,
    ):
        stub = RecommendationServiceStub(channel)
        requests = [
            pb.RecommendRequest(
                query=types.Query(user=types.UserQuery(id=user)),
                limit=LIMIT,
                retrieval=types.RetrievalOptions(candidate_count=job.candidate_count),
                attributes=["title"],
            )
            for user in users
        ]
        empty: Any = empty_channel.unary_unary(noop_server.METHOD)

        async def recommend(number: int) -> float:
            begin = time.perf_counter()
            answer = await stub.Recommend(requests[number % len(requests)], timeout=TIMEOUT_S)  # type: ignore[misc]
            spent = time.perf_counter() - begin
            stage_sum = sum(stage.duration.ToNanoseconds() for stage in answer.info.stages) / 1e9
            beyond.append(spent - stage_sum)
            return spent

        async def call_nothing(number: int) -> float:
            begin = time.perf_counter()
            await empty(b"", timeout=TIMEOUT_S)
            return time.perf_counter() - begin

        beyond: list[float] = []
        for call in (recommend, call_nothing):
            await closed_loop(call, 1, arguments.requests)
        rounds = []
        for _ in range(arguments.rounds):
            nothing = await closed_loop(call_nothing, 1, arguments.requests)
            beyond.clear()
            whole = await closed_loop(recommend, 1, arguments.requests)
            rounds.append(
                {
                    "noop_p50_us": float(np.median(nothing["latencies"])) * 1e6,
                    "recommend_p50_us": float(np.median(whole["latencies"])) * 1e6,
                    "beyond_stages_p50_us": float(np.median(beyond)) * 1e6,
                }
            )
        load = []
        for callers in CALLERS:
            measured = await closed_loop(recommend, callers, arguments.requests * min(callers, 4))
            latencies = [latency * 1e6 for latency in measured["latencies"]]
            load.append(
                {
                    "callers": callers,
                    "per_second": measured["per_second"],
                    "latency_us": percentiles(latencies),
                }
            )
    ratios = [entry["beyond_stages_p50_us"] / entry["noop_p50_us"] for entry in rounds]
    return {
        "one_caller": {
            **{name: float(np.median([entry[name] for entry in rounds])) for name in rounds[0]},
            "beyond_over_noop": float(np.median(ratios)),
            "beyond_over_noop_range": [min(ratios), max(ratios)],
        },
        "load": load,
    }


async def closed_loop(
    call: Callable[[int], Awaitable[float]], callers: int, requests: int
) -> dict[str, Any]:
    """Let each of several callers ask one thing after the other."""
    latencies: list[float] = []

    async def caller(first: int) -> None:
        for number in range(first, requests, callers):
            latency = await call(number)
            latencies.append(latency)

    begin = time.perf_counter()
    await asyncio.gather(*(caller(first) for first in range(callers)))
    return {"latencies": latencies, "per_second": len(latencies) / (time.perf_counter() - begin)}


if __name__ == "__main__":
    main()
