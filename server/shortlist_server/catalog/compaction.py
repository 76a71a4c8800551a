"""Folds the changes of a bundle's items into a bundle of their own, with an index over what they
have become.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from shortlist_server import __version__
from shortlist_server.bundle.columns import ColumnArray
from shortlist_server.bundle.compaction import GONE, SECTION, replaced, sealed
from shortlist_server.bundle.manifest import Column, Manifest
from shortlist_server.bundle.reader import Bundle
from shortlist_server.bundle.sections import Index, Strings
from shortlist_server.bundle.writer import BundleWriter
from shortlist_server.catalog.changes import ChangedItems
from shortlist_server.catalog.tail import TailView
from shortlist_server.errors import BundleError
from shortlist_server.funnel.arrays import Floats, Rows
from shortlist_server.index import hnsw
from shortlist_server.index.vector_index import Metric
from shortlist_server.runtime.onnx_session import ONNXRUNTIME_VERSION

MADE_BY = f"shortlist {__version__}, onnxruntime {ONNXRUNTIME_VERSION}"
"""Other versions may compute other vectors: what these have folded in is theirs alone."""


def write_compacted(bundle: Bundle, items: ChangedItems, store: str, out: Path) -> Manifest:
    """Write a bundle that holds the items as they stand, and is otherwise the same.

    Args:
        bundle: The bundle that the changes were applied to, as exported or compacted.
        items: Its items, changed.
        store: Identity of the store that the changes are from.
        out: The folder that will be the bundle; one that is there gives way.

    Raises:
        BundleError: no item is left, and a bundle has one at least.
        OSError: it cannot be written.
    """
    live, tail = items.catalog()
    kept: Rows = np.flatnonzero(live.alive.mask)
    if not len(kept):
        raise BundleError(f"{out.name}: expected an item that is left, got none")
    base_size = len(bundle.item_ids)
    own, beside = kept[kept < base_size], kept[kept >= base_size] - base_size
    exported = items.exported_now
    rows = np.full(live.row_count, GONE)
    rows[kept] = np.arange(len(kept))
    now = np.where(exported == GONE, GONE, rows[exported])
    revisions = np.array([live.revision_of(row) for row in kept.tolist()], np.int64)
    vectors = np.concatenate([bundle.item_embeddings[own], tail.vectors[beside]])
    stem = f"compacted/{items.revision}"
    document = bundle.manifest.model_dump(mode="json", exclude_none=True)
    with BundleWriter(out, replace=out.exists()) as writer:
        for name in set(bundle.manifest.files) - set(_replaced_files(bundle.manifest)):
            writer.link(bundle.path(name), name)
        index = writer.path(f"{stem}/index.bin")
        _build(vectors, index, bundle.manifest.metric, bundle.manifest.index)
        if bundle.manifest.texts is not None:
            document["sections"]["texts"] |= _write_texts(bundle, tail, rows, writer, stem)
        document |= {
            "item_count": len(kept),
            "index": {**document["index"], "file": f"{stem}/index.bin"},
            "items": {
                "ids": writer.strings(
                    f"{stem}/ids", [live.item_id(row) for row in kept.tolist()]
                ).model_dump(),
                "embeddings": writer.array(f"{stem}/embeddings.npy", vectors),
                "columns": [
                    writer.column(
                        f"{stem}/columns/{position:03}",
                        _joined(column, own, [tail.cells[row][name] for row in beside.tolist()]),
                    ).model_dump(exclude_none=True)
                    for position, (name, column) in enumerate(bundle.item_columns.items())
                ],
            },
        }
        # The golden requests name items that may be gone, or others now. The models are the same
        # files, and were held to them when the bundle was loaded as exported.
        document.pop("golden", None)
        document.pop("files")
        gone = items.gone
        document["sections"][SECTION] = {
            "required": True,
            "sha256": bundle.sha256,
            "store": store,
            "revision": items.revision,
            "made_by": MADE_BY,
            "rows": writer.array(f"{stem}/rows.npy", now),
            "gone": writer.strings(f"{stem}/gone", gone).model_dump(),
            "revisions": writer.array(f"{stem}/revisions.npy", revisions),
            "vectors": writer.array(
                f"{stem}/vectors.npy", items.exported_vectors(replaced(now, revisions))
            ),
            "misfits": writer.json(
                f"{stem}/misfits.json", [asdict(misfit) for misfit in items.noted()]
            ),
        }
        return writer.finish(document, seal=sealed)


def _write_texts(
    bundle: Bundle, tail: TailView, rows: Rows, writer: BundleWriter, stem: str
) -> dict[str, Any]:
    """Write the points of the texts that the items have now; returns what the section says of them.

    Raises:
        BundleError: no item has a text, and the section has one at least.
    """
    section, table = bundle.manifest.texts, bundle.texts
    assert section is not None
    assert table is not None
    beside = np.flatnonzero(np.any(tail.texts, axis=1))
    now = rows[np.concatenate([table.rows, beside + len(bundle.item_ids)])]
    kept = now != GONE
    if not kept.any():
        raise BundleError("texts: expected an item that has one, got none")
    # They rise: the items keep their order, and those beside the index follow.
    points = np.concatenate([table.embeddings, tail.texts[beside]])[kept]
    _build(points, writer.path(f"{stem}/texts.bin"), "cosine", section.index)
    return {
        "rows": writer.array(f"{stem}/text_rows.npy", now[kept]),
        "embeddings": writer.array(f"{stem}/text_embeddings.npy", points),
        "index": {**section.index.model_dump(mode="json"), "file": f"{stem}/texts.bin"},
    }


def _build(vectors: Floats, path: Path, metric: Metric, index: Index) -> None:
    """Write an index as another was built."""
    hnsw.build(
        vectors,
        path,
        metric=metric,
        m=index.m,
        ef_construction=index.ef_construction,
        seed=index.seed,
    )


def _joined(column: ColumnArray, rows: Rows, cells: list[Any]) -> ColumnArray:
    """Return some rows of a column, and more cells after them."""
    known = column.tolist()
    return ColumnArray.of(
        column.name, column.type, [*(known[row] for row in rows.tolist()), *cells]
    )


def _replaced_files(manifest: Manifest) -> Iterator[str]:
    """Return the files of a bundle that a compaction writes anew or leaves out."""
    yield manifest.index.file
    yield manifest.items.embeddings
    yield from _files(manifest.items.ids)
    for column in manifest.items.columns:
        yield from _files(column)
    if (texts := manifest.texts) is not None:
        yield from (texts.rows, texts.embeddings, texts.index.file)
    if manifest.golden is not None:
        yield manifest.golden.requests
        yield from (output.values for output in manifest.golden.outputs)
    if (compaction := manifest.compaction) is not None:
        yield from _files(compaction.gone)
        yield from (compaction.rows, compaction.revisions, compaction.vectors, compaction.misfits)


def _files(part: Column | Strings) -> Iterator[str]:
    if isinstance(part, Strings):
        yield from (part.offsets, part.utf8)
        return
    if isinstance(part.values, Strings):
        yield from _files(part.values)
    else:
        yield part.values
    yield from (name for name in (part.list_offsets, part.valid) if name is not None)
