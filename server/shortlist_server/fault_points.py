"""Points at which a process can be made to kill itself, for tests of what a crash leaves behind.

A process started with SHORTLIST_FAULT_POINT=name:n dies by SIGKILL when it comes to the point of
that name for the n-th time (n counts from 1). Without it a point is the call of an empty function.
The environment is read here, once, and not in `config.py`: this is no setting of the server.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable

VARIABLE = "SHORTLIST_FAULT_POINT"


def _nothing(point: str) -> None:
    pass


def _killer(setting: str) -> Callable[[str], None]:
    name, separator, count = setting.rpartition(":")
    if not separator or not count.isascii() or not count.isdigit() or int(count) < 1:
        raise ValueError(f"{VARIABLE}: expected name:n with n from 1, got {setting!r}")
    hits = itertools.count(1)
    last = int(count)

    def kill_at_last(point: str) -> None:
        if point == name and next(hits) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill_at_last


_setting = os.environ.get(VARIABLE)
hit: Callable[[str], None] = _killer(_setting) if _setting else _nothing
"""Marks a point by its name, such as `append.before_commit`."""
