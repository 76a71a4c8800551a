"""How much later a first list comes for a language model that hangs, and what waiting calls cost.

    python benchmarks/rerank.py          (make bench-rerank)

100,000 x 64 items behind one server, whose language model takes connections and never answers. One
caller asks in turn: Recommend without a language model, StreamRecommend without one, and
StreamRecommend with one, of which the first list is waited for; once alone, and once beside calls
that all wait for the model. All send a history, so that there is something to ask. Writes
benchmarks/results/rerank.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import synthetic
from bench import machine
from serving import percentiles, serving
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/rerank.json"
ITEMS, DIMENSION = 100_000, 64
TIMEOUT_S = 60.0
AIM_MS = 1.0
"""Most that the first list may be later, at the median."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1_000, help="of each kind")
    parser.add_argument("--waiting", type=int, default=64, help="calls that wait for the model")
    arguments = parser.parse_args()
    bundle = synthetic.bundle(ITEMS, DIMENSION)
    result = asyncio.run(_measure(bundle, arguments.calls, arguments.waiting))
    report = {"machine": machine(), **result}
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    print(f"written: {RESULT.relative_to(ROOT)}")


async def _measure(bundle: Path, calls: int, waiting: int) -> dict[str, Any]:
    hung: set[asyncio.StreamWriter] = set()
    arrived: asyncio.Queue[None] = asyncio.Queue()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hung.add(writer)
        arrived.put_nowait(None)
        # Its caller gives up: until then the request is read, and not answered.
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while await reader.read(1 << 16):
                pass
        hung.discard(writer)
        writer.close()

    model = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = model.sockets[0].getsockname()[1]
    settings = {
        "PROVIDER": "openai-compatible",
        "MODEL": "hangs",
        "BASE_URL": f"http://127.0.0.1:{port}/v1",
        "TIMEOUT_MS": "3600000",
        "BREAKER_CALLS": "10000",
        "BREAKER_CALLS_MIN": "10000",
        "CONCURRENCY_MAX": "1024",
        "CONNECTIONS_MAX": "1024",
    }
    for name, value in settings.items():
        os.environ[f"SHORTLIST_SERVER_LLM__{name}"] = value
    command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(bundle)]
    command += ["--listen", "127.0.0.1:0", "--drain-notice-ms", "0", "--log-level", "error"]
    with serving(command) as target:
        async with grpc.aio.insecure_channel(target) as channel:
            stub: Any = RecommendationServiceStub(channel)
            await _compared(stub, max(20, calls // 10), 0)  # warms up
            result = {"alone": await _compared(stub, calls, 0)}
            while not arrived.empty():
                arrived.get_nowait()
            beside = []
            for number in range(waiting):
                # One by one: a burst would be refused for load.
                beside.append(asyncio.create_task(_stay(stub, number)))
                await asyncio.wait_for(arrived.get(), TIMEOUT_S)
            result[f"beside {waiting} that wait"] = await _compared(stub, calls, waiting)
            assert len(hung) >= waiting, "calls that were to wait have ended"
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
    model.close()
    return {"aim_ms": AIM_MS, **result}


async def _compared(stub: Any, calls: int, seed: int) -> dict[str, Any]:
    """Ask in turn, so that all kinds meet the same machine."""
    spent: dict[str, list[float]] = {"recommend": [], "stream": [], "stream with rerank": []}
    for number in range(calls):
        reranked = _request(number)
        reranked.rerank.seed = seed
        kinds = [
            ("recommend", _whole, _request(number)),
            ("stream", _first, _request(number)),
            ("stream with rerank", _first, reranked),
        ]
        # Each kind comes after each other one as often.
        for kind, ask, request in kinds[number % 3 :] + kinds[: number % 3]:
            spent[kind].append(await ask(stub, request))
    times = {kind: percentiles([1e3 * one for one in seconds]) for kind, seconds in spent.items()}
    later = times["stream with rerank"]["p50"] - times["recommend"]["p50"]
    return {"ms": times, "first_list_later_ms_p50": later, "within_aim": later <= AIM_MS}


async def _whole(stub: Any, request: pb.RecommendRequest) -> float:
    begin = time.perf_counter()
    await stub.Recommend(request, timeout=TIMEOUT_S)
    return time.perf_counter() - begin


async def _first(stub: Any, request: pb.RecommendRequest) -> float:
    """Wait for the first list, and for no more."""
    begin = time.perf_counter()
    call = stub.StreamRecommend(pb.StreamRecommendRequest(request=request), timeout=TIMEOUT_S)
    message = await call.read()
    spent = time.perf_counter() - begin
    assert message.last != request.HasField("rerank")
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        await call.read()
    # What the server does to end the call is no part of the next one.
    await asyncio.sleep(0.002)
    return spent


async def _stay(stub: Any, number: int) -> None:
    request = _request(number)
    request.rerank.seed = 1_000_000 + number
    with contextlib.suppress(asyncio.CancelledError):
        await stub.Recommend(request, timeout=3_600)


def _request(number: int) -> pb.RecommendRequest:
    history = [types.HistoryEvent(item_id=f"item-{number + place}") for place in range(10)]
    user = types.UserQuery(id=f"user-{number % 10_000}", history=history)
    return pb.RecommendRequest(query=types.Query(user=user))


if __name__ == "__main__":
    main()
