"""A Milvus of the tests' own: Milvus Lite as a process, which speaks Milvus' protocol over TCP."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path


class MilvusServer:
    """One server on a port of its own; what it holds outlives a restart."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="shortlist-milvus-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        arguments = ["--data-dir", self._folder / "data", "--host", "127.0.0.1"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "milvus_lite",
                    "server",
                    *arguments,
                    "--port",
                    f"{self._port}",
                ],
                stdout=log,
                stderr=log,
            )
        for _ in range(3_000):
            with socket.socket() as asking:
                if asking.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            assert self._process.poll() is None, (self._folder / "log").read_text()
            time.sleep(0.01)
        raise AssertionError("milvus-lite does not listen")

    def pause(self) -> None:
        """Have it take connections and answer nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)
