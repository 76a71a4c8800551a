"""The terminal that the output goes to, if it is one."""

from __future__ import annotations

import os
import shutil
import sys

BOLD, DIM = "\x1b[1m", "\x1b[2m"
_PLAIN = "\x1b[0m"


def styled(text: str, style: str) -> str:
    """Return the text in a style, BOLD or DIM, where styles are shown and wanted."""
    if not _is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"{style}{text}{_PLAIN}"


def terminal_width() -> int | None:
    """Return the columns of the terminal; None where the output goes elsewhere, uncut."""
    return shutil.get_terminal_size().columns if _is_terminal() else None


def terminal_size() -> tuple[int | None, int | None]:
    """Return lines and columns of the terminal; None where the output goes elsewhere."""
    if not _is_terminal():
        return None, None
    size = shutil.get_terminal_size()
    return size.lines, size.columns


def _is_terminal() -> bool:
    # None where the caller closed it, as in `shortlist info >&-`.
    return sys.stdout is not None and sys.stdout.isatty()
