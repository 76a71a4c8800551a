"""Bundles with mutated files and manifests, hashes recomputed: refused by name, or served.

`make test` tries a few hundred, `make test-faults` 10,000. Each is loaded in a child process, whose
death would be a worker's.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import rich_world
from bundle_mutations import mutate
from shortlist_exporters.export import export_bundle

FULL = os.environ.get("SHORTLIST_FAULTS") == "full"
COUNT = int(os.environ.get("SHORTLIST_FAULTS_BUNDLES") or (10_000 if FULL else 250))
SEED = os.environ.get("SHORTLIST_SEED") or "20261"
CHILDREN = 2
LOADS_MAX = 500
"""Bundles after which a child gives way to a new one."""
HANG_S = 60
MEMORY_BYTES_MAX = 1 << 30
WELL = ("refused", "loaded")
FIELDS = ("manifest.json", "golden output", "input '", "vocabulary '")
"""How messages begin that name a field of the manifest, or something that it has named."""


class Child:
    """A process that loads bundles."""

    def __init__(self) -> None:
        self.loads = 0
        paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("bundle_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )

    def outcome(self, folder: Path) -> dict[str, Any]:
        """Return what it says of a bundle; how it ended, if it did."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.loads += 1
        try:
            self.process.stdin.write(f"{folder}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"outcome": f"died with {self.process.wait()} after the one before"}
        if not select.select([self.process.stdout], [], [], HANG_S)[0]:
            self.process.kill()
            self.process.wait()
            return {"outcome": f"hung for {HANG_S} s"}
        line = self.process.stdout.readline()
        if not line:
            return {"outcome": f"died with {self.process.wait()}"}
        told: dict[str, Any] = json.loads(line)
        return told

    def close(self) -> int:
        """End it; returns its exit code."""
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate(timeout=HANG_S)
        return self.process.wait(timeout=HANG_S)


def wrong_in(told: dict[str, Any], mutant: Path) -> str:
    """Return what should not be so; nothing where all is well."""
    if told["outcome"] not in WELL:
        return f"{told['outcome']} {told.get('message', '')}"
    if told["memory_bytes"] > MEMORY_BYTES_MAX:
        return f"the process has grown to {told['memory_bytes'] >> 20} MiB"
    if told["outcome"] == "loaded":
        return ""
    named = {path.relative_to(mutant).as_posix() for path in mutant.rglob("*")}
    named |= {"the manifest's files", *FIELDS, *listed_in(mutant)}
    message = told["message"]
    if "cannot be served" in message or not any(name in message for name in named):
        return f"refused without a file or a field: {message[:500]}"
    return ""


def listed_in(mutant: Path) -> list[str]:
    if not (mutant / "manifest.json").is_file():
        return []
    try:
        return list(json.loads((mutant / "manifest.json").read_text())["files"])
    except (OSError, ValueError, LookupError, TypeError):
        return []


def load(bundles: list[Path], folder: Path, numbers: range) -> tuple[Counter[str], list[str]]:
    """Load the mutants of some numbers, each of which can be made again by itself."""
    folder.mkdir()
    counts, wrong, child = Counter[str](), [], Child()
    for number in numbers:
        draw = random.Random(f"{SEED}/{number}")
        what = mutate(draw.choice(bundles), folder / "mutant", draw)
        told = child.outcome(folder / "mutant")
        counts[f"{told['outcome']} {told.get('error', '')}".strip()] += 1
        counts["requests answered"] += told.get("answered", 0)
        counts["requests refused"] += told.get("refused", 0)
        if problem := wrong_in(told, folder / "mutant"):
            wrong.append(f"{number}: {what}: {problem}")
            print(wrong[-1], flush=True)
        if child.process.poll() is not None or child.loads >= LOADS_MAX:
            if child.close():
                wrong.append(f"{number}: {what}: exit code {child.process.returncode}")
            child = Child()
    assert child.close() == 0
    return counts, wrong


@pytest.fixture(scope="module")
def rich_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with every section, type of column and transform."""
    folder = tmp_path_factory.mktemp("rich")
    export_bundle(rich_world.write_spec(folder / "spec"), folder / "bundle", version="1")
    return folder / "bundle"


def test_mutated_bundles_are_refused_by_name_or_served(
    tiny_bundle: Path, rich_bundle: Path, text_bundle: Path, tmp_path: Path
) -> None:
    begin, counts, wrong = time.monotonic(), Counter[str](), list[str]()
    with ThreadPoolExecutor(CHILDREN) as pool:
        loading = [
            pool.submit(
                load,
                [tiny_bundle, rich_bundle, text_bundle],
                tmp_path / str(first),
                range(first, COUNT, CHILDREN),
            )
            for first in range(CHILDREN)
        ]
    for part in loading:
        counted, problems = part.result()
        counts += counted
        wrong += problems
    print(
        f"{COUNT} mutated bundles, seed {SEED}, in {time.monotonic() - begin:.0f} s: "
        f"{dict(counts.most_common())}"
    )
    assert not wrong, "\n".join([f"of seed {SEED}:", *wrong])
    # The mutations did something, and not all of them the same.
    assert counts["refused BundleCorrupt"] > COUNT / 4
    assert counts["loaded"] > COUNT / 20
    assert counts["requests answered"] > 10 * counts["loaded"]
