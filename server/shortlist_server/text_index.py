"""The texts of a bundle's items, ready to be searched: index, and what embeds queries."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.reader import Bundle
from shortlist_server.bundle.sections import Index, Texts
from shortlist_server.errors import BundleCorrupt, MissingExtra, NotConfigured
from shortlist_server.index.searcher import Searcher
from shortlist_server.index.subset import Subset, SubsetSearch
from shortlist_server.index.vector_index import Metric
from shortlist_server.llm.embedding_service import EmbeddingService
from shortlist_server.llm.local_embedder import LocalEmbedder
from shortlist_server.llm.text_points import Embedder, TextPoints
from shortlist_server.stages.text import TextItems

logger = logging.getLogger(__name__)

MakeSearcher = Callable[[Path, Index, NDArray[np.float32], Metric], Searcher]
"""Makes a searcher of an index file over vectors."""


def load_texts(
    bundle: Bundle,
    by_item: NDArray[np.float32] | None,
    make_searcher: MakeSearcher,
    *,
    remote: EmbeddingService | None,
    cache_count: int,
) -> TextItems | None:
    """Load the texts of a bundle's items; None where it has none.

    Args:
        bundle: The bundle.
        by_item: What `TextTable.by_item` gave; None where it has none.
        make_searcher: Makes the searcher of their embeddings.
        remote: The embedder that the server is configured with; None where it has none.
        cache_count: Most query texts whose points are remembered.

    Raises:
        BundleError: the index or the embedder inside the bundle is damaged, or is another one than
            the manifest says.
        NotConfigured: the configured embedder is not the one that embedded the items.
    """
    section, table = bundle.manifest.texts, bundle.texts
    if section is None or table is None or by_item is None:
        return None
    points, missing = text_points(bundle, section, remote=remote, cache_count=cache_count)
    searcher = make_searcher(
        bundle.path(section.index.file), section.index, table.embeddings, "cosine"
    )
    return TextItems(
        searcher=SubsetSearch(searcher, Subset(table.rows, len(by_item))),
        embeddings=by_item,
        points=points,
        missing=missing,
    )


def text_points(
    bundle: Bundle, section: Texts, *, remote: EmbeddingService | None, cache_count: int
) -> tuple[TextPoints | None, str]:
    """Return what embeds texts; else None, and what would have to be there.

    Raises:
        BundleError: the embedder inside the bundle is damaged, or is another one than the manifest
            says.
        NotConfigured: the configured embedder is not the one that embedded the items.
    """
    wanted = section.embedder
    if wanted.folder is None:
        if remote is None:
            return None, f"the embedder of the bundle's texts, {wanted.identity}"
        _check_service(bundle, section, remote)
        embedder: Embedder = remote
    else:
        try:
            embedder = LocalEmbedder(bundle.path(wanted.folder))
        except MissingExtra as error:
            logger.warning("the bundle has texts, and no query text can be answered: %s", error)
            return None, "the extra `text` (pip install 'shortlist[text]')"
        if embedder.identity != wanted.identity:
            raise BundleCorrupt(
                f"texts.embedder: expected {wanted.identity}, which embedded the texts, got "
                f"{embedder.identity} in {wanted.folder}"
            )
    if embedder.dimension != section.dimension:
        raise BundleCorrupt(
            f"texts.embedder: expected {section.dimension} dimensions, as the embeddings have, got "
            f"{embedder.dimension}"
        )
    return TextPoints(embedder, cache_count=cache_count), ""


def _check_service(bundle: Bundle, section: Texts, remote: EmbeddingService) -> None:
    """Check that a service is the one that embedded the texts of a bundle.

    Raises:
        NotConfigured: it is not.
    """
    wanted, got = section.embedder.service, remote.space
    pairs: dict[str, tuple[object, object]] = {"dimension": (section.dimension, remote.dimension)}
    if wanted is None or got is None:
        pairs["model"] = (section.embedder.identity, remote.identity)
    else:
        pairs["provider"] = (wanted.api, got.api)
        for name in ("model", "query_task", "item_task", "query_prefix", "item_prefix"):
            pairs[name] = (getattr(wanted, name), getattr(got, name))
    for name, (one, other) in pairs.items():
        if one != other:
            manifest = bundle.manifest
            raise NotConfigured(
                setting=f"text_embedder.{name}",
                expected=f"{one!r}, by which the texts of bundle {manifest.name} "
                f"{manifest.version} were embedded, and not {other!r}: their points are of "
                "different spaces",
            )
