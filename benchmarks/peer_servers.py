"""The peers: how each is installed, started and ended."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import noop_server
import psutil
from peer_calls import InferWire, JsonWire, NoopWire, RecommendWire, Wire, answered

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks/peers"
ENVIRONMENTS = ROOT / "build/peers"
READY_S = 300.0
END_S = 20.0


class Skipped(Exception):
    """A peer cannot be measured; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server that answers what Shortlist does."""

    name: str
    title: str
    wire: Callable[[], Wire]
    command: Callable[[Path, int], list[str]]
    """Takes the bundle and a port."""
    packages: tuple[str, ...] = ()
    """Whose versions are told."""
    note: str = ""


class Started:
    """A server that runs."""

    def __init__(self, peer: Peer, process: psutil.Process, port: int) -> None:
        self.peer = peer
        self.port = port
        self._process = process

    def cpu_s(self) -> float:
        """Return the CPU time of its processes."""
        return sum(
            float(sum(each.cpu_times()[:2]))
            for each in [self._process, *self._process.children(recursive=True)]
        )

    def send_signal(self, number: int) -> None:
        """Send a signal to its first process."""
        self._process.send_signal(number)


def _peer(name: str, title: str, wire: Callable[[], Wire], *packages: str, note: str = "") -> Peer:
    def command(bundle: Path, port: int) -> list[str]:
        python = ENVIRONMENTS / name / "bin/python"
        return [str(python), f"{name}_server.py", str(bundle), str(port)]

    return Peer(name=name, title=title, wire=wire, command=command, packages=packages, note=note)


PEERS = {
    peer.name: peer
    for peer in (
        _peer("reference", "reference server", RecommendWire, "grpcio", note="grpcio, 2 threads"),
        _peer(
            "triton",
            "Triton",
            InferWire,
            "nvidia-pytriton",
            note="Python backend, 2 instances, dynamic batching, gRPC",
        ),
        _peer("kserve", "KServe", InferWire, "kserve", note="Python server, gRPC"),
        _peer("mlserver", "MLServer", InferWire, "mlserver", note="gRPC"),
        _peer("bentoml", "BentoML", JsonWire, "bentoml", note="2 workers, JSON"),
        _peer("ray", "Ray Serve", JsonWire, "ray", note="2 replicas, JSON"),
        _peer("fastapi", "FastAPI", JsonWire, "fastapi", "uvicorn", note="2 workers, JSON"),
    )
}


def own_server(bundle: Path | None, *, workers: int) -> Peer:
    """Return Shortlist itself in so many processes, 0 for the one that it is by default; without a
    bundle the server of empty calls.
    """

    def command(bundle: Path, port: int) -> list[str]:
        command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(bundle)]
        command += ["--listen", f"127.0.0.1:{port}", "--drain-notice-ms", "0"]
        command += ["--log-level", "warning", "--workers", str(workers)]
        # How much it can do is measured here, and what it refuses in overload.py.
        return [*command, "--wait-ms-max", "10000", "--wait-ms-standing", "10000"]

    if bundle is None:
        return Peer(
            name="noop",
            title="empty call",
            wire=NoopWire,
            command=lambda _, port: [sys.executable, str(Path(noop_server.__file__)), str(port)],
        )
    return Peer(name="shortlist", title="Shortlist", wire=RecommendWire, command=command)


def installed(peer: Peer) -> dict[str, str]:
    """Install a peer into its environment, if it is not there yet; returns versions.

    Raises:
        Skipped: it cannot be installed here.
    """
    folder, requirements = ENVIRONMENTS / peer.name, FOLDER / f"requirements/{peer.name}.txt"
    stamp = folder / ".installed"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        uv = str(Path(sys.executable).with_name("uv"))
        made = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
        install = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python")]
        for command in (made, [*install, "--no-deps", "--requirement", str(requirements)]):
            # As the server's own: compiled for any CPU, not for this one.
            environment = os.environ | {"HNSWLIB_NO_NATIVE": "1"}
            run = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
            if run.returncode:
                raise Skipped(f"cannot be installed: {run.stderr.strip()[-500:]}")
        stamp.write_text(requirements.read_text())
    found = pins(requirements)
    return {name: found[name] for name in ("hnswlib", "numpy", "onnxruntime", *peer.packages)}


def pins(requirements: Path) -> dict[str, str]:
    """Return the version of each package that a file pins."""
    return dict(line.split("==") for line in requirements.read_text().splitlines())


@contextmanager
def started(peer: Peer, bundle: Path) -> Iterator[Started]:
    """Run a server until the block ends, which begins when it answers.

    Raises:
        Skipped: it does not.
    """
    port = _free_port()
    log = ENVIRONMENTS / f"{peer.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join([str(ROOT / "clients/python"), str(FOLDER)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    with log.open("wb") as output:
        server = psutil.Popen(
            peer.command(bundle, port),
            cwd=FOLDER,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(peer, server, port, log)
            yield Started(peer, server, port)
        finally:
            end(server)


def _wait(peer: Peer, server: psutil.Popen, port: int, log: Path) -> None:
    wire = peer.wire()
    request = wire.request("user-0", 100)
    give_up = time.monotonic() + READY_S
    while asyncio.run(answered(wire, port, request)) is None:
        if server.poll() is not None:
            raise Skipped(f"ends by itself: {log.read_text(errors='replace').strip()[-500:]}")
        if time.monotonic() > give_up:
            raise Skipped(f"does not answer within {READY_S:.0f} s: see build/peers/{log.name}")
        time.sleep(0.2)


def end(server: psutil.Popen) -> None:
    """End a server and all that it has started."""
    if server.poll() is not None:
        return
    family = [server, *server.children(recursive=True)]
    server.terminate()
    _, left = psutil.wait_procs(family, timeout=END_S)
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=END_S)


def _free_port() -> int:
    """Return a port that is free, as is the next one: some peers take two."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
