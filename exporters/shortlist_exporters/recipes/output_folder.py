"""The folder that a training leaves behind: whole, or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shortlist_exporters.errors import ExportError

SPEC_FILE = "export.json"
"""Every trained folder holds it; a folder without it is none of ours, and is not replaced."""


@contextmanager
def output_folder(out: Path, *, replace: bool) -> Iterator[Path]:
    """Give a folder to write in, which becomes `out` when the block ends without an error.

    Args:
        out: Where the finished folder shall stand.
        replace: Whether a folder that an earlier training left at `out` gives way.

    Raises:
        ExportError: there is something at `out` that may not be replaced.
    """
    check_output(out, replace=replace)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside its destination: a rename is atomic only within one file system.
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    # mkdtemp hides its folder from other users; a server often runs as another.
    scratch.chmod(0o755)
    try:
        written = scratch / "new"
        written.mkdir()
        yield written
        check_output(out, replace=replace)
        if out.exists():
            out.rename(scratch / "old")
        written.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_output(out: Path, *, replace: bool) -> None:
    """Check that a training may write to a place, or may replace what is there.

    Raises:
        ExportError: it may not.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not replace:
        raise ExportError(
            f"{out}: expected nothing there yet, got a {'folder' if out.is_dir() else 'file'}; "
            "choose another name, or have it replaced (--replace)"
        )
    if not (out / SPEC_FILE).is_file():
        raise ExportError(
            f"{out}: expected a trained model to replace, got something without {SPEC_FILE}; "
            "remove it yourself if that is meant"
        )
