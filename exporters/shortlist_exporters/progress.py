"""Progress of long work: bars on a terminal, one line a step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def step(name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show that a step of some work is under way, and how far it is.

    Args:
        name: What is being done, for people.
        total: How much there is to do; None where that is unknown.

    Yields:
        A function to call with how much is done so far.
    """
    console = Console(file=sys.stderr)
    begin = time.perf_counter()
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as bars:
            task = bars.add_task(name, total=total)
            yield lambda done: bars.update(task, completed=done)
            bars.update(task, total=total or 1, completed=total or 1)
    else:
        yield lambda done: None
        amount = "" if total is None else f" ({total})"
        print(f"{name}{amount}: {time.perf_counter() - begin:.1f} s", file=sys.stderr, flush=True)
