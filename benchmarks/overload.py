"""Goodput and latency against offered load, up to twice what the server can do.

    python benchmarks/overload.py          (make bench-overload)

Calls come at random (a Poisson process) at shares of the saturation rate, which a closed loop of 16
callers finds first; nobody waits for an answer before asking again. Writes
benchmarks/results/overload.json; `report.py` makes the page and the plot of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import synthetic
from bench import closed_loop, machine
from serving import percentiles, serving
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/overload.json"
SHARES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
TIMEOUT_S = 1.0
CANDIDATE_COUNT = 500
CHANNELS = 8
Ask = Callable[[int], Awaitable[float]]
"""Makes the call of a number; returns how long it took, in seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="at each rate")
    parser.add_argument("--compute-threads", type=int, nargs="*", default=[0, 2])
    arguments = parser.parse_args()
    bundle = synthetic.bundle(100_000, 64)
    report = {
        "machine": machine(),
        "timeout_s": TIMEOUT_S,
        "runs": [
            measure(bundle, threads, arguments.seconds) for threads in arguments.compute_threads
        ],
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {RESULT.relative_to(ROOT)}")


def measure(bundle: Path, compute_threads: int, seconds: float) -> dict[str, Any]:
    """Measure one server at all rates."""
    command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(bundle)]
    command += ["--listen", "127.0.0.1:0", "--drain-notice-ms", "0", "--log-level", "error"]
    command += ["--compute-threads", str(compute_threads)]
    with serving(command) as target:
        return {
            "compute_threads": compute_threads,
            **asyncio.run(_measure(target, seconds)),
        }


async def _measure(target: str, seconds: float) -> dict[str, Any]:
    # Several connections, as several callers have.
    channels = [
        grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(CHANNELS)
    ]
    stubs: list[Any] = [RecommendationServiceStub(channel) for channel in channels]

    async def ask(number: int) -> float:
        request = pb.RecommendRequest(
            query=types.Query(user=types.UserQuery(id=f"user-{number % 10_000}")),
            retrieval=types.RetrievalOptions(candidate_count=CANDIDATE_COUNT),
        )
        begin = time.perf_counter()
        await stubs[number % CHANNELS].Recommend(request, timeout=TIMEOUT_S)
        return time.perf_counter() - begin

    patiently = patient(ask)
    await closed_loop(patiently, 4, 200)
    saturation = (await closed_loop(patiently, 16, 2_000))["per_second"]
    print(f"saturation {saturation:.0f}/s")
    rates = []
    for share in SHARES:
        found = await open_loop(ask, share * saturation, seconds)
        rates.append({"share": share, "offered": share * saturation, **found})
        print(json.dumps(rates[-1]))
    for channel in channels:
        await channel.close()
    return {"saturation": saturation, "rates": rates}


def patient(ask: Ask) -> Ask:
    """Return a caller who asks again where he is refused for load, until he is answered."""

    async def patiently(number: int) -> float:
        while True:
            try:
                return await ask(number)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise

    return patiently


async def open_loop(ask: Any, rate: float, seconds: float) -> dict[str, Any]:
    """Ask at random at a rate; returns how the calls ended, and how long the answered ones took."""
    draw = np.random.default_rng(3)
    latencies: list[float] = []
    ends: Counter[str] = Counter()

    async def one(number: int) -> None:
        try:
            latencies.append(await ask(number))
            ends["OK"] += 1
        except grpc.aio.AioRpcError as error:
            ends[error.code().name] += 1

    calls: list[asyncio.Task[None]] = []
    begin = due = time.perf_counter()
    while due < begin + seconds:
        due += draw.exponential(1 / rate)
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        calls.append(asyncio.create_task(one(len(calls))))
    spent = time.perf_counter() - begin
    await asyncio.gather(*calls)
    return {
        "sent_per_second": len(calls) / spent,
        "goodput": ends["OK"] / spent,
        "ends": dict(ends),
        "latency_ms": percentiles([latency * 1e3 for latency in latencies]) if latencies else {},
    }


if __name__ == "__main__":
    main()
