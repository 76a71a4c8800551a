"""The server with a clock around its kernels and its stages: its benchmark mode.

    python clocked_server.py FILE serve --bundle ...

On SIGUSR1 it writes FILE: nanoseconds of CPU time by name, of the threads that were inside, and of
the whole process. The server itself knows nothing of it: it has no clock that nobody reads.
"""

from __future__ import annotations

import functools
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hnswlib
from shortlist_server import cli
from shortlist_server.funnel import budget, funnel, reranking
from shortlist_server.runtime.onnx_session import OnnxSession

KERNELS = ("query_tower", "search", "ranker", "selection")
spent: Counter[str] = Counter()


def main() -> int:
    path = Path(sys.argv[1])
    clock(OnnxSession, "run", lambda session, *_: Path(session.declared.file).stem)
    clock(hnswlib.Index, "knn_query", lambda *_: "search")
    clock(reranking, "ordered", lambda *_: "selection")
    clock(funnel, "short_list", lambda *_: "selection")
    clock_stages()
    signal.signal(signal.SIGUSR1, lambda *_: write(path))
    return cli.main(sys.argv[2:])


def clock(owner: Any, name: str, label: Callable[..., str]) -> None:
    """Count the CPU time inside a function under a name that its arguments tell."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def timed(*arguments: Any, **named: Any) -> Any:
        begin = time.thread_time_ns()
        try:
            return inner(*arguments, **named)
        finally:
            spent[label(*arguments)] += time.thread_time_ns() - begin

    setattr(owner, name, timed)


def clock_stages() -> None:
    """Count the CPU time inside each stage, as `stage NAME`."""
    enter, leave = budget.Stage.__enter__, budget.Stage.__exit__
    begun: list[int] = []

    def timed_enter(stage: Any) -> Any:
        entered = enter(stage)
        begun.append(time.thread_time_ns())
        return entered

    def timed_leave(stage: Any, *error: Any) -> None:
        leave(stage, *error)
        spent[f"stage {stage._name}"] += time.thread_time_ns() - begun.pop()

    budget.Stage.__enter__ = timed_enter  # type: ignore[method-assign]  # that is the purpose
    budget.Stage.__exit__ = timed_leave  # type: ignore[method-assign]  # the same


def write(path: Path) -> None:
    """Write what has been counted so far."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({**spent, "process": time.process_time_ns()}))
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main())
