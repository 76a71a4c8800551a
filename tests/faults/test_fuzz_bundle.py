"""Bundles with mutated files and manifests, hashes recomputed: refused by name, or served.

`make test` tries a few hundred, `make test-faults` 10,000. Each is loaded in a child process, whose
death would be a worker's.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

FULL = os.environ.get("SHORTLIST_FAULTS") == "full"
COUNT = 10_000 if FULL else 250
SEED = int(os.environ.get("SHORTLIST_SEED", "20261"))
HANG_S = 120
VALUES: list[Any] = [
    *(None, -1, 0, 1, 2**31, 1e308, 10**12, True),
    *("", "x", "../../etc/passwd", "/etc/passwd", "ranker.onnx", [], {}),
]
NUMBERS = (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\x3d\0\0\0", b"\x10\x27\0\0")


class Child:
    """A process that loads bundles."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("bundle_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def outcome(self, folder: Path) -> str:
        """Return what it says of a bundle; how it ended, if it did."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        while True:
            if not select.select([self.process.stdout], [], [], HANG_S)[0]:
                return "hangs"
            line = self.process.stdout.readline()
            if not line:
                return f"died with {self.process.wait()}"
            if line.startswith("outcome: "):
                return line.removeprefix("outcome: ").strip()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def mutate_file(path: Path, draw: random.Random) -> str:
    content = bytearray(path.read_bytes())
    kind = draw.choice(["flip", "truncate", "extend", "zero", "number"])
    place = draw.randrange(max(1, len(content)))
    if kind == "flip":
        for _ in range(draw.choice([1, 1, 3, 20])):
            content[draw.randrange(len(content))] = draw.randrange(256)
    elif kind == "truncate":
        del content[place:]
    elif kind == "extend":
        content += draw.randbytes(draw.randint(1, 64))
    elif kind == "zero":
        content[place : place + 16] = bytes(len(content[place : place + 16]))
    else:
        content[place : place + 4] = draw.choice(NUMBERS)
    path.write_bytes(bytes(content))
    return f"{kind} {path.name} at {place}"


def leaves(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to all values that hold no others."""
    if isinstance(part, dict):
        return [leaf for key, value in part.items() for leaf in leaves(value, (*path, key))]
    if isinstance(part, list):
        return [leaf for key, value in enumerate(part) for leaf in leaves(value, (*path, key))]
    return [path]


def mutate_manifest(manifest: dict[str, Any], draw: random.Random) -> str:
    *path, last = draw.choice([leaf for leaf in leaves(manifest) if leaf[0] != "files"])
    part: Any = manifest
    for key in path:
        part = part[key]
    part[last] = draw.choice(VALUES)
    return f"manifest {'.'.join(map(str, (*path, last)))} = {part[last]!r}"


def mutant(bundle: Path, folder: Path, draw: random.Random) -> str:
    """Write a bundle that differs somewhere; returns where."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    names = sorted(manifest["files"])
    if draw.random() < 0.25:
        what = mutate_manifest(manifest, draw)
    else:
        engines = [name for name in names if not name.endswith((".npy", ".json"))]
        chosen = draw.choice(names if draw.random() < 0.6 else engines)
        what = mutate_file(folder / chosen, draw)
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        entry |= {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return what


def test_mutated_bundles_are_refused_by_name_or_served(tiny_bundle: Path, tmp_path: Path) -> None:
    draw, counts, wrong = random.Random(SEED), Counter[str](), []
    child = Child()
    for _ in range(COUNT):
        what = mutant(tiny_bundle, tmp_path / "mutant", draw)
        told = child.outcome(tmp_path / "mutant")
        counts[told.partition(":")[0]] += 1
        if not told.startswith(("refused ", "loaded")):
            wrong.append(f"{what}: {told}")
        if child.process.poll() is not None or told == "hangs":
            child.close()
            child = Child()
    child.close()
    print(f"{COUNT} mutated bundles, seed {SEED}: {dict(counts.most_common())}")
    assert not wrong, "\n".join(wrong)
    # The mutations did something, and not all of them the same.
    assert counts["refused BundleCorrupt"] > COUNT / 4
    assert counts["loaded"] > COUNT / 50
