"""Files that are read again when they change."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

LOOK_S = 1.0
"""Least time between two looks at whether a file has changed."""

Signature: TypeAlias = tuple[int, int, int]


def signature(file: Path) -> Signature:
    """Return what changes when a file does.

    Raises:
        OSError: there is none.
    """
    status = file.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


class FileWatch:
    """Tells once of each change of a file, which may come and go."""

    def __init__(self, file: Path, *, now: Callable[[], float] = time.monotonic) -> None:
        """Take the file as it is: what comes after this is a change.

        Args:
            file: The file.
            now: The clock, in seconds.
        """
        self._file = file
        self._now = now
        self._looked_at = now()
        self._seen = self._signature()

    @property
    def is_there(self) -> bool:
        """Whether there was a file when it was looked at last."""
        return self._seen is not None

    def changed(self) -> bool:
        """Whether it has changed since this was last asked; looks once in `LOOK_S`."""
        now = self._now()
        if now - self._looked_at < LOOK_S:
            return False
        self._looked_at = now
        before, self._seen = self._seen, self._signature()
        return self._seen != before

    def _signature(self) -> Signature | None:
        try:
            return signature(self._file)
        except OSError:
            return None
