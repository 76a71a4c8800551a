"""Looks at the texts of a bundle as the server would."""

from __future__ import annotations

from shortlist_server.bundle.reader import Bundle
from shortlist_server.errors import BundleCorrupt
from shortlist_server.index import hnsw
from shortlist_server.llm.local_embedder import LocalEmbedder


def verify_texts(bundle: Bundle) -> None:
    """Check the texts of a bundle as the server would: index and embedder.

    Raises:
        BundleError: the server would refuse it.
        MissingExtra: the package `tokenizers` is not installed.
    """
    section, table = bundle.manifest.texts, bundle.texts
    if section is None or table is None:
        return
    index = section.index
    hnsw.HnswIndex(
        bundle.path(index.file), table.embeddings, metric="cosine", m=index.m, name=index.file
    )
    if section.embedder.folder is None:
        return
    identity = LocalEmbedder(bundle.path(section.embedder.folder)).identity
    if identity != section.embedder.identity:
        raise BundleCorrupt(
            f"texts.embedder: expected {section.embedder.identity}, got {identity} in "
            f"{section.embedder.folder}"
        )
