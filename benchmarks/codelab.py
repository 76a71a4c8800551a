"""The drop-in for the TensorFlow and Flutter codelab beside a backend as the codelab has it.

    SHORTLIST_DATA=path/to/ml-100k python benchmarks/codelab.py       (make bench-codelab)

Both answer `POST /recommend {"user_id": ...}` by the same models, those of the codelab's notebooks,
trained once and exported twice: peers/flask_saved_models.py calls two TensorFlow SavedModels in its
own process, under gunicorn with threads; the drop-in is `shortlist-server serve --codelab`, once as
the codelab, which ranks 10 films and recommends again what was seen, and once by its defaults: 200
films, nothing that was seen. All users are asked first: the answers must be the same. Then, in
alternating rounds, one caller and eight, each on a connection that it keeps. A core's requests are
those of a second of CPU time of the server's processes. Writes benchmarks/results/codelab.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from bench import closed_loop, machine
from serving import percentiles
from shortlist_exporters.export import export_bundle
from shortlist_server.bundle.reader import open_bundle

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build/codelab"
RESULT = ROOT / "benchmarks/results/codelab.json"
BIN = Path(sys.executable).parent
PORT = 15_730
"""Of the first server; the others have the next ones."""
READY_S = 120
CALLERS = 8
WARM_UP = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A server that answers the app."""

    name: str
    port: int
    command: list[str]
    environment: dict[str, str]


class Caller:
    """One who asks on a connection that is kept, and reads no more of an answer than it must."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def connect(self) -> None:
        """Connect; must come first."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self, user_id: str) -> bytes:
        """Return the body of the answer."""
        body = json.dumps({"user_id": user_id}).encode()
        self._writer.write(
            b"POST /recommend HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"content-type: application/json; charset=utf-8\r\n"
            + f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        _, sized, rest = head.partition(b"content-length:")
        if sized:
            return await self._reader.readexactly(int(rest.partition(b"\r\n")[0]))
        chunk = await self._reader.readuntil(b"\r\n0\r\n\r\n")
        size, _, content = chunk.partition(b"\r\n")
        return content[: int(size, 16)]

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=600, help="of one caller, in a round")
    parser.add_argument("--gunicorn-threads", type=int, default=4)
    parser.add_argument(
        "--tensorflow-threads", type=int, default=1, help="of its pools; 0 leaves it to TensorFlow"
    )
    arguments = parser.parse_args()
    data = os.environ.get("SHORTLIST_DATA")
    if not data:
        sys.exit("set SHORTLIST_DATA to a folder with MovieLens 100K")
    users = prepare(data)
    load_before = os.getloadavg()
    with contextlib.ExitStack() as stack:
        running = {
            backend.name: (backend, stack.enter_context(serving(backend)))
            for backend in backends(arguments)
        }
        result = asyncio.run(measure(running, users, arguments))
    made = machine()
    made["versions"] |= {name: version(name) for name in ("tensorflow", "flask", "gunicorn")}
    report = {
        "machine": made,
        "data": open_bundle(OUT / "bundle").manifest.data.name,
        "item_count": open_bundle(OUT / "bundle").manifest.item_count,
        "rounds": arguments.rounds,
        "requests": arguments.requests,
        "callers": CALLERS,
        "gunicorn_threads": arguments.gunicorn_threads,
        "tensorflow_threads": arguments.tensorflow_threads,
        "load_average_before": load_before,
        "load_average_after": os.getloadavg(),
        "system": platform.platform(),
        **result,
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("agreement", "backends")}, indent=1))
    print(f"written: {RESULT.relative_to(ROOT)}")


def prepare(data: str) -> list[str]:
    """Train once, export for both; returns the ids of the users."""
    trained, bundle, models = OUT / "trained", OUT / "bundle", OUT / "saved_models"
    if not trained.is_dir():
        train = [str(BIN / "shortlist-export"), "train", "--data", data, "--features", "ids"]
        subprocess.run([*train, "--seed", "42", "--out", str(trained)], check=True)
    export_bundle(trained, bundle, version="1", replace=True)
    # In a process of its own: this one is to stay small, and to fork nothing of TensorFlow's.
    code = "import sys, pathlib, saved_models; saved_models.write(*map(pathlib.Path, sys.argv[1:]))"
    subprocess.run(
        [sys.executable, "-c", code, str(trained), str(models)],
        cwd=ROOT / "benchmarks/peers",
        env=os.environ | QUIET,
        check=True,
    )
    users = open_bundle(bundle).users
    assert users is not None
    ids = list(users.ids)
    np.random.default_rng(1).shuffle(ids)
    return ids


AS_THE_CODELAB = ["--codelab-candidate-count", "10", "--codelab-exclude-seen", "false"]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def backends(arguments: argparse.Namespace) -> list[Backend]:
    """Return the servers that are compared."""
    serve = [str(BIN / "shortlist-server"), "serve", "--bundle", str(OUT / "bundle")]
    serve += ["--listen", "127.0.0.1:0", "--drain-notice-ms", "0", "--log-level", "error"]
    # As of Flask, nothing is refused or given up here: see overload.py for that.
    serve += ["--wait-ms-max", "10000", "--wait-ms-standing", "10000"]
    serve += ["--default-timeout-ms", "60000"]
    threads = str(arguments.gunicorn_threads)
    gunicorn = [str(BIN / "gunicorn"), "--bind", f"127.0.0.1:{PORT}", "--workers", "1"]
    gunicorn += ["--worker-class", "gthread", "--threads", threads, "--keep-alive", "75"]
    models = {
        "SAVED_MODELS": str(OUT / "saved_models"),
        "TENSORFLOW_THREADS": str(arguments.tensorflow_threads),
    }
    return [
        Backend(
            name="Flask and two SavedModels",
            port=PORT,
            command=[*gunicorn, "--log-level", "error", "flask_saved_models:app"],
            environment=QUIET | models,
        ),
        *(
            Backend(
                name=name,
                port=PORT + place,
                command=[
                    *serve,
                    "--http",
                    f"127.0.0.1:{PORT + place}",
                    "--codelab",
                    *flags,
                ],
                environment={"OMP_NUM_THREADS": "1"},
            )
            for place, name, flags in (
                (1, "drop-in, as the codelab", AS_THE_CODELAB),
                (2, "drop-in, by its defaults", []),
            )
        ),
    ]


@contextlib.contextmanager
def serving(backend: Backend) -> Iterator[psutil.Process]:
    """Run a server until the block ends, which begins when it takes connections."""
    with subprocess.Popen(
        backend.command,
        cwd=ROOT / "benchmarks/peers",
        env=os.environ | backend.environment,
        stdout=subprocess.DEVNULL,
    ) as server:
        try:
            end = time.monotonic() + READY_S
            while asyncio.run(_refused(backend.port)):
                assert server.poll() is None, f"{backend.name} did not start"
                assert time.monotonic() < end, f"{backend.name} does not answer"
                time.sleep(0.1)
            yield psutil.Process(server.pid)
        finally:
            server.terminate()


async def _refused(port: int) -> bool:
    caller = Caller(port)
    try:
        await caller.connect()
        await caller.ask("1")
    except OSError:
        return True
    caller.close()
    return False


async def measure(
    running: dict[str, tuple[Backend, psutil.Process]],
    users: list[str],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Compare the answers, then measure in rounds; each backend comes first as often."""
    callers: dict[str, list[Caller]] = {}
    for name, (backend, _) in running.items():
        callers[name] = [Caller(backend.port) for _ in range(CALLERS)]
        for caller in callers[name]:
            await caller.connect()
    agreed = await agreement(callers, users)
    names = list(running)
    for name in names:
        await closed_loop(_call(callers[name], users), CALLERS, WARM_UP)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(arguments.rounds):
        place = number % len(names)
        for name in names[place:] + names[:place]:
            call = _call(callers[name], users)
            process = running[name][1]
            found = {
                "one": await _round(call, process, 1, arguments.requests),
                "load": await _round(call, process, CALLERS, 3 * arguments.requests),
                "rss_mib": _sum(process, lambda each: each.memory_info().rss / 2**20),
            }
            rounds[name].append(found)
            print(number, name, json.dumps(found))
    for each in callers.values():
        for caller in each:
            caller.close()
    return {
        "agreement": agreed,
        "backends": {name: _summary(rounds[name]) for name in names},
        "rounds_of": rounds,
    }


async def agreement(callers: dict[str, list[Caller]], users: list[str]) -> dict[str, Any]:
    """Return for how many users each of the others answers as the first backend does."""
    answers = {
        name: [json.loads(await own[0].ask(user))["movies"] for user in [*users, "nobody", ""]]
        for name, own in callers.items()
    }
    first, *others = answers
    same = {
        name: {
            "same_order": sum(map(list.__eq__, answers[first], answers[name])),
            "same_films": sum(
                sorted(one) == sorted(other)
                for one, other in zip(answers[first], answers[name], strict=True)
            ),
        }
        for name in others
    }
    return {"user_count": len(users) + 2, "with": first, **same}


def _call(callers: list[Caller], users: list[str]) -> Any:
    async def call(number: int) -> float:
        begin = time.perf_counter()
        await callers[number % len(callers)].ask(users[number % len(users)])
        return time.perf_counter() - begin

    return call


async def _round(call: Any, process: psutil.Process, callers: int, requests: int) -> dict[str, Any]:
    def spent() -> float:
        return _sum(process, lambda each: sum(each.cpu_times()[:2]))

    mine = psutil.Process()
    before, own, busy, begin = spent(), sum(mine.cpu_times()[:2]), _busy_s(), time.perf_counter()
    measured = await closed_loop(call, callers, requests)
    wall = time.perf_counter() - begin
    cpu, own, busy = spent() - before, sum(mine.cpu_times()[:2]) - own, _busy_s() - busy
    return {
        "per_second": measured["per_second"],
        "per_core_second": requests / cpu,
        "latency_ms": percentiles([latency * 1e3 for latency in measured["latencies"]]),
        # What is left of the machine's busy time: the noise.
        "others_cores": max(0.0, (busy - cpu - own) / wall),
    }


def _sum(process: psutil.Process, of: Any) -> float:
    return float(sum(of(each) for each in [process, *process.children(recursive=True)]))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def _summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure, with its range over the rounds."""

    def of(*steps: str) -> dict[str, float]:
        values: list[Any] = list(rounds)
        for step in steps:
            values = [value[step] for value in values]
        return {"median": float(np.median(values)), "low": min(values), "high": max(values)}

    return {
        kind: {
            "per_second": of(kind, "per_second"),
            "per_core_second": of(kind, "per_core_second"),
            "p50_ms": of(kind, "latency_ms", "p50"),
            "p99_ms": of(kind, "latency_ms", "p99"),
            "others_cores": of(kind, "others_cores"),
        }
        for kind in ("one", "load")
    } | {"rss_mib": of("rss_mib")}


if __name__ == "__main__":
    main()
