"""Where a server keeps the bundles that it has folded changes into: below `state_dir`."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from pathlib import Path

logger = logging.getLogger(__name__)

FOLDER = "compacted"
IDENTITY_DIGITS = 16


class CompactedFolders:
    """Folders named for the bundle that they came from, and the revision that they hold. A folder
    gets its name when it is whole: those whose names begin with a dot are being written.
    """

    def __init__(self, state_dir: Path) -> None:
        """Take the folder of the server's state."""
        self._root = state_dir / FOLDER

    def folder(self, sha256: str, revision: int) -> Path:
        """Return the folder of a bundle with the changes up to a revision."""
        return self._root / f"{sha256[:IDENTITY_DIGITS]}-{revision}"

    def of(self, sha256: str) -> list[Path]:
        """Return the folders that there are of a bundle, that of the latest revision first."""
        found = []
        for folder in self._root.glob(f"{sha256[:IDENTITY_DIGITS]}-*"):
            revision = folder.name.rpartition("-")[2]
            if revision.isascii() and revision.isdigit():
                found.append((int(revision), folder))
        return [folder for _, folder in sorted(found, reverse=True)]

    def keep_only(self, folders: Collection[Path]) -> None:
        """Remove all others, and what a writer left that was killed. None may be writing."""
        kept = {folder.name for folder in folders}
        for folder in self._root.glob("*"):
            if folder.name not in kept:
                logger.info("%s is removed: nothing serves from it", folder.name)
                shutil.rmtree(folder, ignore_errors=True)
