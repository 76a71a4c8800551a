"""What the benchmarks share: servers of their own, and percentiles."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

TIMEOUT_S = 10.0
PERCENTILES = (50, 90, 99)


@contextmanager
def serving(command: list[str]) -> Iterator[str]:
    """Run a server that prints `ready on port N`; yields its address."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        try:
            yield f"127.0.0.1:{int(line.rsplit(maxsplit=1)[-1])}"
        finally:
            server.terminate()


def percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{percent}": float(np.percentile(values, percent)) for percent in PERCENTILES}
