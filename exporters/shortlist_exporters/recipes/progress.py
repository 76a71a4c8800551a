"""Shows how a training gets on: bars on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from shortlist_exporters.recipes.keras import tf


class EpochProgress(tf.keras.callbacks.Callback):  # type: ignore[misc]  # TensorFlow ships no types
    """A Keras callback that shows epochs and steps on standard error.

    Args:
        name: What is trained, for people.
        epochs: How many there will be.
        steps: Steps of each.
    """

    def __init__(self, name: str, *, epochs: int, steps: int) -> None:
        super().__init__()
        self._name = name
        self._epochs = epochs
        self._steps = steps
        self._begin = 0.0
        self._bars: Progress | None = None
        self._task = TaskID(0)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Open a bar."""
        self._begin = time.perf_counter()
        console = Console(file=sys.stderr)
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bars = Progress(*columns, console=console)
            self._task = self._bars.add_task(self._title(epoch), total=self._steps)
            self._bars.start()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Move the bar on."""
        if self._bars is not None:
            self._bars.update(self._task, completed=batch + 1)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Close the bar, or write the line."""
        seconds = time.perf_counter() - self._begin
        figures = ", ".join(
            f"{name} {value:.4f}"
            for name, value in (logs or {}).items()
            if name in ("softmax_loss", "rmse")
        )
        if self._bars is not None:
            self._bars.update(self._task, description=f"{self._title(epoch)}: {figures}")
            self.close()
        else:
            line = f"{self._title(epoch)}: {figures}, {self._steps} steps, {seconds:.1f} s"
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Give the terminal back after a training that did not come to its end."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _title(self, epoch: int) -> str:
        return f"{self._name}, epoch {epoch + 1} of {self._epochs}"
