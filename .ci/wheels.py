"""Installs the built wheel into fresh environments and checks what is in them, and what is not.

base      the client: no numpy, no TensorFlow
server    no TensorFlow, no pyarrow; under 250 MB
replay    the server with pyarrow: no TensorFlow
export    TensorFlow and the bundle's parts; no grpcio-tools

The wheel has the playground's page, which `make playground` builds, in less than 200 KB.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build/wheels"
UV = Path(sys.executable).parent / "uv"
SERVER_BYTES_MAX = 250_000_000
PAGE = "shortlist_server/rpc/http/playground_page/"
PAGE_FILES = ("index.html", "playground.css", "playground.js", "icon.svg", "licences.txt")
PAGE_BYTES_MAX = 200_000

ENVIRONMENTS = {
    "base": (
        "",
        "constraints-dev.txt",
        ("numpy", "tensorflow", "pyarrow", "onnxruntime", "pydantic"),
    ),
    "server": (
        "[server]",
        "constraints-server.txt",
        ("tensorflow", "tf_keras", "pyarrow", "onnx", "grpc_tools", "tokenizers"),
    ),
    "replay": (
        "[server,replay]",
        "constraints-dev.txt",
        ("tensorflow", "tf_keras", "onnx", "grpc_tools"),
    ),
    "export": ("[export]", "constraints-export.txt", ("grpc_tools", "grpc_health")),
}


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    run(UV, "build", "--quiet", "--wheel", "--out-dir", OUT, ROOT)
    wheel = next(OUT.glob("*.whl"))
    check_page(wheel)
    for name, (extra, constraints, absent) in ENVIRONMENTS.items():
        folder = OUT / name
        run(UV, "venv", "--quiet", "--python", sys.executable, folder)
        python = folder / "bin/python"
        arguments = ["--constraint", ROOT / constraints, f"shortlist{extra} @ {wheel.as_uri()}"]
        run(UV, "pip", "install", "--quiet", "--python", python, *arguments)
        for module in absent:
            found = subprocess.run(
                [
                    python,
                    "-c",
                    f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is not "
                    "None)",
                ],
                check=False,
            )
            if found.returncode:
                sys.exit(f"shortlist{extra}: {module} must not be in this environment")
        size = sum(
            file.stat().st_size
            for file in folder.rglob("*")
            if file.is_file() and not file.is_symlink()
        )
        print(f"shortlist{extra}: {size / 1e6:.0f} MB, without {', '.join(absent)}")
        if name == "server" and size > SERVER_BYTES_MAX:
            sys.exit(f"shortlist[server]: expected at most {SERVER_BYTES_MAX / 1e6:.0f} MB")
        check_commands(name, folder / "bin")


def check_page(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        sizes = {
            entry.filename.removeprefix(PAGE): entry.compress_size
            for entry in opened.infolist()
            if entry.filename.startswith(PAGE)
        }
    if absent := set(PAGE_FILES) - set(sizes):
        sys.exit(f"the wheel lacks the playground's {sorted(absent)}; run `make playground` first")
    size = sum(sizes.values())
    print(f"playground: {size / 1e3:.0f} KB compressed")
    if size > PAGE_BYTES_MAX:
        sys.exit(f"playground: expected at most {PAGE_BYTES_MAX / 1e3:.0f} KB compressed")


def check_commands(name: str, folder: Path) -> None:
    """Each command works where its extra is installed, and says what to install where it is not."""
    run(folder / "shortlist", "--help", stdout=subprocess.DEVNULL)
    for command, homes in (
        ("shortlist-server", ("server", "replay")),
        ("shortlist-export", ("export",)),
    ):
        result = subprocess.run(
            [folder / command, "--help"], capture_output=True, text=True, check=False
        )
        if name in homes:
            assert result.returncode == 0, result.stderr
        elif name == "base":
            assert result.returncode == 1, result
            assert "pip install 'shortlist[" in result.stderr, result.stderr
            assert "Traceback" not in result.stderr, result.stderr


def run(*command: str | Path, **options: int) -> None:
    subprocess.run([str(part) for part in command], check=True, env=os.environ, **options)


if __name__ == "__main__":
    main()
