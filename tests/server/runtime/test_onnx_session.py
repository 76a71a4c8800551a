from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def run_traced(program: str, home: Path, trace: Path) -> str:
    """Run a program with a fresh HOME, its network calls written to `trace`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_DATA_HOME": str(home)}
    home.mkdir()
    result = subprocess.run(
        [
            "strace",
            "-f",
            "-qq",
            "-e",
            "trace=connect,sendto,sendmsg,sendmmsg",
            "-o",
            trace,
            sys.executable,
            "-c",
            program,
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed: cannot watch the network"
)
def test_runtime_never_phones_home(tiny_bundle: Path, tmp_path: Path) -> None:
    """Loading and running the models of a bundle writes nothing into HOME and sends nothing
    anywhere.
    """
    program = (
        "import os, time\n"
        "from pathlib import Path\n"
        "from shortlist_server.generation import load_generation\n"
        f"load_generation(Path({str(tiny_bundle)!r}))\n"
        "time.sleep(1)\n"  # a reporter would work in the background
        "print(sorted(os.listdir(os.environ['HOME'])))\n"
    )
    assert run_traced(program, tmp_path / "home", tmp_path / "trace") == "[]"
    network = [line for line in (tmp_path / "trace").read_text().splitlines() if "AF_INET" in line]
    assert network == []


def test_telemetry_is_off_before_onnxruntime_is_imported() -> None:
    program = (
        "import builtins, os, sys\n"
        "plain = builtins.__import__\n"
        "def watch(name, *rest, **more):\n"
        "    if name == 'onnxruntime' and 'onnxruntime' not in sys.modules:\n"
        "        print(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "    return plain(name, *rest, **more)\n"
        "builtins.__import__ = watch\n"
        "import shortlist_server.app\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["1"]
