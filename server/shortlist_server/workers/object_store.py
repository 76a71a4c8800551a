"""Bundles in an object store, or behind any other URL that fsspec opens. The only importer of
fsspec, which is an optional extra.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from shortlist_server.bundle.manifest import Manifest
from shortlist_server.bundle.reader import MANIFEST_BYTES_MAX, read_manifest, verify_files
from shortlist_server.bundle.writer import MANIFEST
from shortlist_server.errors import (
    BundleCorrupt,
    BundleError,
    BundleMissing,
    ConfigError,
    MissingExtra,
)
from shortlist_server.workers.bundle_folder import FoundBundle, describe, newest_first

logger = logging.getLogger(__name__)

PART_BYTES = 4 << 20
LOADING = ".loading-"
"""Beginning of the names of folders that are being downloaded."""


class ObjectStore:
    """Looks for bundles below a URL; downloads those that are switched to into a cache."""

    def __init__(self, url: str, cache: Path) -> None:
        """Open the store.

        Args:
            url: Where bundles are, each in a folder of its own: s3://bucket/bundles.
            cache: The folder that downloaded bundles are kept in; made if missing.

        Raises:
            ConfigError: the URL is of a kind that cannot be opened, or the cache cannot be written.
            MissingExtra: fsspec is not installed.
        """
        try:
            import fsspec
        except ImportError as error:
            raise MissingExtra(feature="a store of bundles", extra="object-store") from error
        try:
            self._files: Any
            self._files, self._root = fsspec.core.url_to_fs(url)
            cache.mkdir(parents=True, exist_ok=True)
        except (ImportError, ValueError) as error:
            raise ConfigError(f"bundles: {url}: cannot be opened: {error}") from error
        except OSError as error:
            raise ConfigError(f"state_dir: {cache}: cannot be made: {error.strerror}") from error
        self._cache = cache
        self._seen: dict[str, FoundBundle] = {}

    def look(self) -> list[FoundBundle]:
        """Return what there is, the newest bundle first. Only manifests are read."""
        seen = {}
        try:
            self._files.invalidate_cache()
            entries = self._files.ls(self._root, detail=True)
        except Exception as error:  # each store has its own
            logger.warning("bundles: the store cannot be listed now: %r", error)
            return newest_first(list(self._seen.values()))
        for entry in entries:
            name = entry["name"].rstrip("/").rpartition("/")[2]
            if entry["type"] == "directory" and name and not name.startswith("."):
                found = self._look_at(name)
                if found is not None:
                    seen[name] = found
        self._seen = seen
        return newest_first(list(seen.values()))

    def fetch(self, found: FoundBundle) -> Path:
        """Download a bundle, unless it has been, and return its folder.

        Raises:
            BundleMissing: it is no longer there.
            BundleCorrupt: a file is not what the manifest says.
        """
        target = self._cache / found.sha256
        if target.is_dir():
            return target
        for left in self._cache.glob(f"{LOADING}*"):
            shutil.rmtree(left, ignore_errors=True)
        loading = self._cache / f"{LOADING}{found.sha256}"
        try:
            manifest = self._fetch_manifest(found.folder.name, loading)
            for name, file in manifest.files.items():
                self._download(f"{found.folder.name}/{name}", loading / name, file.size_bytes)
            _, sha256 = read_manifest(loading)
            if sha256 != found.sha256:
                raise BundleCorrupt(f"{MANIFEST}: it has changed since the store was looked into")
            verify_files(loading, manifest)
            loading.rename(target)
        except BundleError:
            raise
        except Exception as error:  # each store has its own
            raise BundleMissing(f"{found.folder.name}: cannot be downloaded: {error!r}") from error
        finally:
            shutil.rmtree(loading, ignore_errors=True)
        return target

    def keep_only(self, folders: set[Path]) -> None:
        """Remove what was downloaded, but for these folders."""
        for folder in self._cache.iterdir():
            if folder not in folders:
                shutil.rmtree(folder, ignore_errors=True)

    def _look_at(self, name: str) -> FoundBundle | None:
        """Return what a folder's manifest says; None where there is none."""
        folder = self._cache / f"{LOADING}manifest" / name
        try:
            if not self._files.exists(f"{self._root}/{name}/{MANIFEST}"):
                return None
            self._fetch_manifest(name, folder)
            manifest, sha256 = read_manifest(folder)
        except BundleError as error:
            problem = str(error).replace(str(folder), name)
            return FoundBundle(folder=Path(name), problem=problem)
        except Exception as error:  # each store has its own
            return FoundBundle(folder=Path(name), problem=f"cannot be read: {error!r}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        stamp = ((sha256, 0, 0, 0),)
        return FoundBundle(folder=Path(name), stamp=stamp, **describe(manifest, sha256))

    def _fetch_manifest(self, name: str, folder: Path) -> Manifest:
        """Download the manifest of a bundle, and read it."""
        self._download(f"{name}/{MANIFEST}", folder / MANIFEST, MANIFEST_BYTES_MAX, exact=False)
        return read_manifest(folder)[0]

    def _download(self, name: str, to: Path, size: int, *, exact: bool = True) -> None:
        """Download a file that must be of this size, or is at most so large."""
        to.parent.mkdir(parents=True, exist_ok=True)
        received = 0
        with self._files.open(f"{self._root}/{name}", "rb") as source, to.open("wb") as file:
            while part := source.read(PART_BYTES):
                received += len(part)
                if received > size:
                    raise BundleCorrupt(f"{name}: expected at most {size} bytes, got more")
                file.write(part)
        if exact and received != size:
            raise BundleCorrupt(f"{name}: expected {size} bytes, got {received}")
