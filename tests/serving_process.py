"""`shortlist-server` as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

COMMAND = [sys.executable, "-m", "shortlist_server.cli"]


def run_server(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env=os.environ | environment,
    )


class ServingProcess:
    """A server that is ready; leaving it ends it, as an operator would."""

    def __init__(self, bundle: Path | None, *arguments: str | Path, **environment: str) -> None:
        if bundle is not None:
            arguments = ("--bundle", bundle, *arguments)
        settings = ("--listen", "127.0.0.1:0", "--drain-notice-ms", "0", *arguments)
        self.process = subprocess.Popen(
            [*COMMAND, "serve", *map(str, settings)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready on port "), self.process.communicate()[1]
        self.target = f"127.0.0.1:{line.split()[-1]}"

    def end(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """End it; returns the exit code and what it logged."""
        self.process.send_signal(how)
        _, log = self.process.communicate(timeout=30)
        return self.process.returncode, log

    def __enter__(self) -> ServingProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.end()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
