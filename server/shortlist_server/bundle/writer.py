"""Writes bundles: everything into a temporary folder, then one rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server import fault_points
from shortlist_server.bundle.columns import ColumnArray, StringArray
from shortlist_server.bundle.manifest import Column, Manifest
from shortlist_server.bundle.sections import Strings
from shortlist_server.errors import BundleError

MANIFEST = "manifest.json"


class BundleWriter:
    """A bundle being written: `with BundleWriter(out) as writer: ...; writer.finish(manifest)`.

    The files gather in a hidden folder beside `out`, which becomes `out` by a rename in `finish`. A
    writer that is killed leaves that hidden folder, which the next writer to the same place
    removes; it never leaves half a bundle.
    """

    def __init__(self, out: Path, *, replace: bool = False) -> None:
        """Begin a bundle.

        Args:
            out: The folder that will be the bundle.
            replace: Whether a bundle that is already there gives way.

        Raises:
            BundleError: `out` exists and is not to be replaced, or is something else than a bundle.
        """
        self.out = out.absolute()
        if not self.out.exists():
            # A writer that was killed between its two renames has left the bundle beside its place.
            for old in _left(self.out, "replaced"):
                old.rename(self.out)
                break
        if self.out.exists():
            if not replace:
                raise BundleError(
                    f"{out}: already exists; name another folder, or ask for it to be replaced"
                )
            if not (self.out / MANIFEST).is_file():
                raise BundleError(
                    f"{out}: expected a bundle to replace, found no {MANIFEST} in it; remove it "
                    "yourself"
                )
        self.folder = self.out.parent / f".{self.out.name}.writing-{os.getpid()}"
        self._finished = False

    def __enter__(self) -> BundleWriter:
        self.out.parent.mkdir(parents=True, exist_ok=True)
        for left in (*_left(self.out, "writing"), *_left(self.out, "replaced")):
            shutil.rmtree(left)
        self.folder.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._finished:
            shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name: str) -> Path:
        """Return where to write the file `name`, its folder made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def array(self, name: str, values: NDArray[Any]) -> str:
        """Write a `.npy` file; returns its name."""
        np.save(self.path(name), np.ascontiguousarray(values), allow_pickle=False)
        return name

    def strings(self, stem: str, texts: Sequence[str] | StringArray) -> Strings:
        """Write texts as two `.npy` files."""
        packed = texts if isinstance(texts, StringArray) else StringArray.of(texts)
        return Strings(
            offsets=self.array(f"{stem}.offsets.npy", packed.offsets),
            utf8=self.array(f"{stem}.utf8.npy", packed.utf8),
        )

    def column(self, stem: str, column: ColumnArray) -> Column:
        """Write a column as one to four `.npy` files."""
        return Column.model_validate(
            {
                "name": column.name,
                "type": column.type,
                "values": self.strings(f"{stem}.values", column.values)
                if isinstance(column.values, StringArray)
                else self.array(f"{stem}.values.npy", column.values),
                "list_offsets": None
                if column.list_offsets is None
                else self.array(f"{stem}.lists.npy", column.list_offsets),
                "valid": None
                if column.valid is None
                else self.array(f"{stem}.valid.npy", column.valid),
            }
        )

    def json(self, name: str, document: Any) -> str:
        """Write a `.json` file; returns its name."""
        text = json.dumps(document, ensure_ascii=False, indent=1)
        self.path(name).write_text(text + "\n", encoding="utf-8")
        return name

    def link(self, source: Path, name: str) -> str:
        """Have the file `name` be the same as another one; returns its name. A link where both are
        on one disk: files of bundles are never written again.
        """
        try:
            os.link(source, self.path(name))
        except OSError:
            shutil.copyfile(source, self.path(name))
        return name

    def finish(
        self,
        manifest: dict[str, Any],
        verify: Callable[[Path], None] = lambda folder: None,
        seal: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document,
    ) -> Manifest:
        """Add the hash of every file to the manifest, write it, make all durable, and put the
        bundle in place.

        Args:
            manifest: All fields of the manifest but `files`, as JSON types.
            verify: Called with the folder before it is put in place; what it raises keeps the
                bundle from being.
            seal: Takes the whole manifest, and returns what is to be written.
        """
        files = {
            str(path.relative_to(self.folder)): {
                "sha256": file_sha256(path),
                "size_bytes": path.stat().st_size,
            }
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }
        checked = Manifest.model_validate({**manifest, "files": files})
        document = checked.model_dump(mode="json", exclude_none=True)
        self.json(MANIFEST, seal(document))
        fault_points.hit("bundle.before_sync")
        for path in [*self.folder.rglob("*"), self.folder]:
            _sync(path)
        verify(self.folder)
        self._put_in_place()
        self._finished = True
        return checked

    def _put_in_place(self) -> None:
        # A folder cannot be renamed over one that is not empty. Between the two renames no bundle
        # is at `out`; a kill in between leaves the old one, whole, beside it, and the next writer
        # puts it back.
        old = self.out.parent / f".{self.out.name}.replaced-{os.getpid()}"
        if self.out.exists():
            self.out.rename(old)
        fault_points.hit("bundle.before_rename")
        self.folder.rename(self.out)
        fault_points.hit("bundle.after_rename")
        _sync(self.out.parent)
        shutil.rmtree(old, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _left(out: Path, how: str) -> list[Path]:
    """Return the folders beside a place that a writer to it has left that is no longer there."""
    return [
        folder
        for folder in out.parent.glob(f".{out.name}.{how}-*")
        if not _is_running(folder.name.rpartition("-")[2])
    ]


def _is_running(pid: str) -> bool:
    return pid.isdigit() and Path(f"/proc/{pid}").exists()
