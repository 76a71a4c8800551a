"""The C++ stubs, generated as protos/README.md says, compiled, and called against a real server.

Run by `make test-clients` where gRPC for C++ is installed; not by `make test`, since it takes a
compiler some ten seconds.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import text_world
from conftest import RunningServer
from shortlist_server.generation import load_generation

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def test_cpp_stubs_compile_and_call_a_server(tmp_path: Path) -> None:
    out = ROOT / "build/cpp"
    variables = [f"BUF={ROOT / '.venv-protos/bin/buf'}", f"OUT={out}"]
    subprocess.run(["make", "--jobs=2", "--directory", HERE, *variables], check=True)
    bundle = text_world.write_bundle(tmp_path / "text")
    generation = load_generation(bundle)
    server = RunningServer(bundle, generation)
    try:
        ended = subprocess.run(
            [out / "call", server.target], capture_output=True, text=True, timeout=120, check=False
        )
    finally:
        server.stop()
        generation.close()
    first, second, refused = ended.stdout.splitlines()
    assert re.fullmatch(r"i\d+", first)
    assert re.fullmatch(r"i\d+", second)
    assert first != second
    assert refused == "3 limit: expected 1..500, or unset for 20, got 501"
    assert ended.returncode == 0
