"""Which bundle is loaded: as it was exported, or with the changes of its items folded in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from shortlist_server.app import generation_options, open_store
from shortlist_server.bundle.reader import read_manifest
from shortlist_server.catalog.compaction import MADE_BY
from shortlist_server.compacted_folders import CompactedFolders
from shortlist_server.config import ServerConfig
from shortlist_server.errors import BundleCorrupt, BundleError
from shortlist_server.generation import Generation, load_generation
from shortlist_server.index.recall import RecallMonitor
from shortlist_server.llm.embedding_service import EmbeddingService

logger = logging.getLogger(__name__)

T = TypeVar("T")


def load_newest(
    config: ServerConfig,
    folder: Path,
    monitor: RecallMonitor | None = None,
    *,
    text_embedder: EmbeddingService | None = None,
) -> Generation:
    """Load a bundle with the most changes folded in that there is.

    Args:
        config: The configuration.
        folder: The bundle as exported.
        monitor: As for `load_generation`.
        text_embedder: As for `app.generation_options`.

    Raises:
        BundleError: it cannot be served.
        CatalogError: the store of its changes cannot be used.
    """
    options = generation_options(config, text_embedder)
    return newest_that_loads(
        config,
        folder,
        lambda found, compacted: load_generation(
            found, options, compacted=compacted, monitor=monitor
        ),
    )


def newest_that_loads(config: ServerConfig, folder: Path, load: Callable[[Path, bool], T]) -> T:
    """Return what a folder is loaded as: the newest that changes were folded into, else the bundle
    as exported. One that cannot be loaded is named in the log.

    Args:
        config: The configuration.
        folder: The bundle as exported.
        load: Takes a folder, and whether it is one that changes were folded into.

    Raises:
        BundleError: the bundle as exported cannot be loaded.
        CatalogError: the store of its changes cannot be used.
    """
    for found in _usable(config, folder):
        try:
            return load(found, True)
        except BundleError as error:
            logger.error("%s is not served from: %s", found.name, error)
    return load(folder, False)


def _usable(config: ServerConfig, folder: Path) -> Iterator[Path]:
    """Yield the folders of this bundle, and of the store's changes, the newest first."""
    if not config.compaction_rows or config.catalog_store is None or config.state_dir is None:
        return
    manifest, sha256 = read_manifest(folder)
    found = CompactedFolders(config.state_dir).of(sha256)
    if not found:
        return
    with closing(open_store(config.catalog_store, manifest.name)) as store:
        identity, head = store.identity, store.head()
    for one in found:
        try:
            _check(one, sha256, identity, head)
        except BundleError as error:
            logger.error("%s is not served from: %s", one.name, error)
            continue
        yield one


def _check(folder: Path, sha256: str, store: str, head: int) -> None:
    """Check that a folder is of a bundle and of a store.

    Raises:
        BundleError: it is not.
    """
    compaction = read_manifest(folder, compacted=True)[0].compaction
    wanted = (sha256, store, MADE_BY)
    got = compaction and (compaction.sha256, compaction.store, compaction.made_by)
    if compaction is None or got != wanted:
        raise BundleCorrupt(f"expected changes of bundle, store and versions {wanted}, got {got}")
    if compaction.revision > head:
        raise BundleCorrupt(
            f"expected changes up to revision {head} of the store, got {compaction.revision}: the "
            "store was put back"
        )
