"""What the processes of a server hold in memory, shared pages counted once (PSS).

    python benchmarks/memory.py          (make bench-memory)

Serves a synthetic bundle with one worker and with four, after requests have gone to all of them
by scan, by graph and through the ranker, again after a switch to another bundle, and again after
changed items were folded into a new index. PSS divides each page by the processes that have it, so
that the sum over supervisor, zygote and workers is what the server takes from the machine. Writes
benchmarks/results/memory.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import synthetic
from bench import machine
from shortlist.v1 import (
    bundle_pb2,
    bundle_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    types_pb2,
)
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub
from shortlist_server.access.api_keys import entry, make_key

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/memory.json"
CONNECTIONS = 12
"""To each worker, on average: all of them get some."""
AGE_MS = 1_000
PATIENCE_S = 1_200.0
CHANGED = 20_000
"""Items that change before they are folded in; half of them are new."""
CALL_ITEMS = 1_000
MIB = 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--requests", type=int, default=2_000, help="to each worker")
    arguments = parser.parse_args()
    bundle = synthetic.bundle(arguments.items, arguments.dimension)
    runs = []
    for workers in arguments.workers:
        with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
            runs.append(measure(bundle, workers, arguments.requests, Path(folder)))
    report = {
        "machine": machine(),
        "items": arguments.items,
        "dimension": arguments.dimension,
        "requests": arguments.requests,
        "runs": runs,
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    for line in table(report):
        print(line)


def table(report: dict[str, Any]) -> list[str]:
    """Return the result as Markdown."""
    one = report["runs"][0]["pss_mib"]
    lines = [
        "| workers | PSS, MiB | of one | after a switch | of one | after a folding | of one |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in report["runs"]:
        parts = [run[f"{when}pss_mib"] for when in ("", "after_switch_", "after_folding_")]
        cells = [f"{part:.0f} | {part / one:.2f}" for part in parts]
        lines.append(f"| {run['workers']} | {' | '.join(cells)} |")
    return lines


def measure(bundle: Path, workers: int, requests: int, folder: Path) -> dict[str, Any]:
    """Measure one server at first, after a switch, and after a folding."""
    bundles = folder / "bundles"
    for version in ("a", "b"):
        copied(bundle, bundles / version, version)
    key = make_key()
    (folder / "keys.toml").write_text(
        entry(key, name="all", scopes=["recommend", "admin", "catalog"])
    )
    command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--listen", "127.0.0.1:0"]
    command += ["--workers", str(workers), "--bundle", str(bundles / "a"), "--log-level", "error"]
    command += ["--bundles", str(bundles), "--state-dir", str(folder / "state")]
    command += ["--api-keys-file", str(folder / "keys.toml"), "--connection-age-ms", str(AGE_MS)]
    command += ["--catalog-store", str(folder / "catalog.sqlite")]
    command += ["--compact-at", str(CHANGED), "--compact-interval-s-min", "0"]
    # Measured is memory: no request is to be refused on a busy machine.
    command += ["--wait-ms-max", "60000", "--wait-ms-standing", "60000"]
    command += ["--default-timeout-ms", "60000", "--drain-notice-ms", "0"]
    metadata = (("authorization", f"Bearer {key}"),)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        target = f"127.0.0.1:{int(server.stdout.readline().rsplit(maxsplit=1)[-1])}"
        try:
            ask(target, metadata, workers, requests)
            before = pss_mib(server.pid)
            switch(target, metadata)
            until(lambda: len(processes(server.pid)) == workers + 2, "the end of the switch")
            ask(target, metadata, workers, requests)
            after = pss_mib(server.pid)
            seconds = fold(target, metadata, server.pid, workers)
            ask(target, metadata, workers, requests)
            folded = pss_mib(server.pid)
        finally:
            server.terminate()
    print(f"{workers} workers: {before} -> {after} -> {folded}, folded in {seconds:.0f} s")
    return {
        "workers": workers,
        "processes_pss_mib": before,
        "pss_mib": sum(before.values()),
        "after_switch_pss_mib": sum(after.values()),
        "after_folding_pss_mib": sum(folded.values()),
        "folding_seconds": seconds,
    }


def copied(bundle: Path, to: Path, version: str) -> None:
    """Copy a bundle by hard links, under another version."""
    shutil.copytree(bundle, to, copy_function=os.link)
    manifest = to / "manifest.json"
    document = json.loads(manifest.read_text())
    manifest.unlink()
    manifest.write_text(json.dumps({**document, "version": version}))


def switch(target: str, metadata: Any) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = bundle_pb2_grpc.BundleServiceStub(channel)
        listed = stub.ListBundles(
            bundle_pb2.ListBundlesRequest(), metadata=metadata, timeout=PATIENCE_S
        )
        (sha256,) = (one.id.sha256 for one in listed.bundles if not one.active)
        stub.ActivateBundle(
            bundle_pb2.ActivateBundleRequest(sha256=sha256), metadata=metadata, timeout=PATIENCE_S
        )


def fold(target: str, metadata: Any, pid: int, workers: int) -> float:
    """Change items, and wait until they are folded in; returns how long that took, in seconds."""
    draw = np.random.default_rng(1)
    with grpc.insecure_channel(target) as channel:
        stub = catalog_pb2_grpc.CatalogServiceStub(channel)
        dimension = len(
            stub.GetItem(
                catalog_pb2.GetItemRequest(item_id="item-0", with_vector=True),
                metadata=metadata,
                timeout=60,
            ).item.vector.values
        )
        for start in range(0, CHANGED, CALL_ITEMS):
            request = catalog_pb2.UpsertItemsRequest()
            for number in range(start, start + CALL_ITEMS):
                item = request.items.add(id=f"new-{number}" if number % 2 else f"item-{number}")
                item.attributes["title"].string_value = f"changed {number}"
                vector = draw.normal(size=dimension) / np.sqrt(dimension)
                item.vector.values.extend(vector.tolist())
            response = stub.UpsertItems(request, metadata=metadata, timeout=60)
            failed = [one for one in response.outcomes if one.HasField("error")]
            assert not failed, failed[0]
    begin = time.monotonic()

    def folded() -> bool:
        with grpc.insecure_channel(target) as channel:
            stub = catalog_pb2_grpc.CatalogServiceStub(channel)
            stats = stub.GetCatalogStats(
                catalog_pb2.GetCatalogStatsRequest(), metadata=metadata, timeout=60
            )
        return bool(stats.tail_row_count == 0) and len(processes(pid)) == workers + 2

    until(folded, "the folding")
    return time.monotonic() - begin


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not in {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.1)


def ask(target: str, metadata: Any, workers: int, requests: int) -> None:
    """Send requests of all kinds to all workers."""
    count = workers * CONNECTIONS
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(target, options=options) for _ in range(count)]
    stubs = [RecommendationServiceStub(channel) for channel in channels]
    calls = []
    for number in range(workers * requests):
        request = pb.RecommendRequest(
            query=types_pb2.Query(user=types_pb2.UserQuery(id=f"user-{number * 7 % 10_000}")),
            limit=100,
            attributes=["title"],
            retrieval=types_pb2.RetrievalOptions(candidate_count=1_000, exact=number % 20 == 0),
        )
        calls.append(stubs[number % count].Recommend.future(request, metadata=metadata, timeout=60))
        if len(calls) >= 4 * workers:
            calls.pop(0).result()
    for call in calls:
        call.result()
    for channel in channels:
        channel.close()


def pss_mib(pid: int) -> dict[str, float]:
    """Return the PSS of a process and of its descendants, in MiB."""
    found = {}
    for name, process in processes(pid).items():
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        kib = next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:"))
        found[name] = round(int(kib) / MIB, 1)
    return found


def processes(pid: int) -> dict[str, int]:
    """Return a server's processes: `supervisor`, `zygote ...`, `worker ...`."""
    found = {"supervisor": pid}
    for zygote in children(pid):
        found[f"zygote {zygote}"] = zygote
        found |= {f"worker {worker}": worker for worker in children(zygote)}
    return found


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:  # it has ended meanwhile
        return []
    return [int(child) for child in text.split()]


if __name__ == "__main__":
    main()
