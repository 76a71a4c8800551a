"""What traces and the access log add to a request: over a real socket, one caller.

    python benchmarks/tracing_costs.py BUNDLE        (make demo makes build/demo/bundle)

A server for each setting runs all the while, and each is asked in turn, in random order, so that
what else the machine does hits all alike. Traces go to a collector in a process of its own, which
takes them and does nothing. Processor time is that of the server's whole process, with the thread
that makes the spans and sends them.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import psutil
from serving import TIMEOUT_S
from shortlist.v1 import recommendation_pb2 as pb
from shortlist.v1 import types_pb2 as types
from shortlist.v1.recommendation_pb2_grpc import RecommendationServiceStub

ROUNDS = 4_000
WARM_UP = 200
COLLECTOR = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *arguments): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("ready on port", server.server_port, flush=True)
server.serve_forever()
"""


class Served:
    """A server, and the times of its calls."""

    def __init__(self, stack: ExitStack, bundle: Path, settings: list[str]) -> None:
        command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(bundle)]
        command += ["--listen", "127.0.0.1:0", "--drain-notice-ms", "0", *settings]
        port, self._process = _start(stack, command)
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
        self._stub = RecommendationServiceStub(channel)
        self.times_us: list[float] = []
        self._cpu_s = 0.0

    def ask(self, user: int) -> None:
        """Time one call."""
        query = types.Query(user=types.UserQuery(id=str(user)))
        begin = time.perf_counter()
        self._stub.Recommend(pb.RecommendRequest(query=query, limit=20), timeout=TIMEOUT_S)
        self.times_us.append((time.perf_counter() - begin) * 1e6)

    def begin(self) -> None:
        """Forget the calls so far."""
        self.times_us.clear()
        self._cpu_s = self._cpu()

    def cpu_us(self) -> float:
        """Processor time of a call, in microseconds."""
        return (self._cpu() - self._cpu_s) / len(self.times_us) * 1e6

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


def _start(stack: ExitStack, command: list[str]) -> tuple[int, psutil.Process]:
    process = stack.enter_context(
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    )
    stack.callback(process.terminate)
    assert process.stdout is not None
    return int(process.stdout.readline().split()[-1]), psutil.Process(process.pid)


def main() -> None:
    bundle = Path(sys.argv[1])
    with ExitStack() as stack:
        port, _ = _start(stack, [sys.executable, "-c", COLLECTOR])
        traced = ["--otel-endpoint", f"http://127.0.0.1:{port}", "--trace-share"]
        settings = {
            "off": [],
            "off, again": [],
            "traced, sampled out": [*traced, "0"],
            "traced, sampled": [*traced, "1"],
            "access log, JSON": ["--access-log", "true", "--log-format", "json"],
        }
        servers = {name: Served(stack, bundle, more) for name, more in settings.items()}
        draw = np.random.default_rng(1)
        for round_ in range(WARM_UP + ROUNDS):
            if round_ == WARM_UP:
                for server in servers.values():
                    server.begin()
            user = int(draw.integers(1, 600))
            for name in draw.permutation(list(servers)):
                servers[str(name)].ask(user)
        time.sleep(2)  # for what waits to be sent
        plain, plain_cpu = np.median(servers["off"].times_us), servers["off"].cpu_us()
        print("setting              p50 us  added  p99 us  CPU us  added")
        for name, server in servers.items():
            p50, p99 = np.percentile(server.times_us, (50, 99))
            cpu = server.cpu_us()
            print(
                f"{name:20} {p50:6.0f} {p50 - plain:+6.0f} {p99:7.0f} {cpu:7.0f} "
                f"{cpu - plain_cpu:+6.0f}"
            )


if __name__ == "__main__":
    main()
