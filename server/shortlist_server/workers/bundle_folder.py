"""The folder of bundles that a server can switch to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Protocol, TypeAlias

from shortlist_server.bundle.manifest import Manifest
from shortlist_server.bundle.reader import read_manifest, verify_files
from shortlist_server.bundle.writer import MANIFEST
from shortlist_server.errors import BundleError, ConfigError

Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""What changes when a file of a folder does: of each its name, size, time and inode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBundle:
    """A bundle, or what looks like one."""

    folder: Path
    name: str = ""
    version: str = ""
    sha256: str = ""
    """Empty, with the other texts, where its manifest cannot be read."""
    created: str = ""
    """RFC 3339, UTC."""
    problem: str = ""
    """Why it cannot be served; empty where its files are what its manifest says."""
    stamp: Stamp = ()


class BundleSource(Protocol):
    """Where bundles come from. Methods may take long: they are called in a thread."""

    def look(self) -> list[FoundBundle]:
        """Return what there is, the newest bundle first."""
        ...

    def fetch(self, found: FoundBundle) -> Path:
        """Return the local folder of a bundle.

        Raises:
            BundleError: it cannot be had.
        """
        ...

    def keep_only(self, folders: set[Path]) -> None:
        """Remove what was downloaded, but for these folders."""
        ...


class BundleFolder:
    """Looks for bundles in a folder; hashes of files that are as they were are not computed
    again.
    """

    def __init__(self, root: Path) -> None:
        """Take the folder.

        Raises:
            ConfigError: there is none.
        """
        if not root.is_dir():
            raise ConfigError(f"bundles: expected a folder, got {root}, where there is none")
        self._root = root
        self._seen: dict[Path, FoundBundle] = {}

    def look(self) -> list[FoundBundle]:
        """Return what there is, the newest bundle first.

        A folder counts once its manifest is there: copy a bundle under a name that begins with a
        dot, and rename it. One that is half copied is listed with its problem, and looked at again
        when its files have changed.
        """
        seen = {}
        for folder in self._folders():
            try:
                stamp = tuple(sorted(_stamps(folder)))
            except OSError:  # it is being moved or removed
                continue
            known = self._seen.get(folder)
            if known is None or known.stamp != stamp:
                known = _look_at(folder, stamp)
            seen[folder] = known
        self._seen = seen
        return newest_first(list(seen.values()))

    def fetch(self, found: FoundBundle) -> Path:
        """Return the folder of a bundle; see `BundleSource`."""
        return found.folder

    def keep_only(self, folders: set[Path]) -> None:
        """Remove nothing: they are not the server's."""

    def _folders(self) -> list[Path]:
        try:
            return [
                folder
                for folder in self._root.iterdir()
                if not folder.name.startswith(".") and (folder / MANIFEST).is_file()
            ]
        except OSError:  # an unmounted share may come back
            return []


def newest_first(found: list[FoundBundle]) -> list[FoundBundle]:
    """Return bundles by when they were built."""
    return sorted(found, key=lambda bundle: (bundle.created, bundle.folder.name), reverse=True)


def _stamps(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    for path in folder.rglob("*"):
        status = path.lstat()
        yield str(path), status.st_size, status.st_mtime_ns, status.st_ino


def _look_at(folder: Path, stamp: Stamp) -> FoundBundle:
    described: dict[str, str] = {}
    problem = ""
    try:
        manifest, sha256 = read_manifest(folder)
        described = describe(manifest, sha256)
        verify_files(folder, manifest)
    except BundleError as error:
        # Callers learn a bundle's name, not where it is.
        problem = str(error).replace(str(folder), folder.name)
    return FoundBundle(folder=folder, problem=problem, stamp=stamp, **described)


def describe(manifest: Manifest, sha256: str) -> dict[str, str]:
    """Return the identity of a bundle, and when it was built, so that texts compare as times."""
    created = manifest.created
    utc = created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)
    return {
        "name": manifest.name,
        "version": manifest.version,
        "sha256": sha256,
        "created": utc.isoformat(timespec="microseconds"),
    }
