"""A bundle with the changes of its items folded in, as a server makes it for itself.

Its items are those of one revision of the catalogue; its identity, users, popularity and models are
the export's. What became of the export's items is kept, since an item that is gone may come back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.arrays import ArrayReader
from shortlist_server.bundle.manifest import canonical_sha256
from shortlist_server.bundle.sections import Compaction
from shortlist_server.bundle.writer import MANIFEST
from shortlist_server.errors import BundleCorrupt

GONE = -1
"""In place of the row of an item that is gone."""
SECTION = "compaction"
SEAL = "manifest_sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """An item that this bundle cannot serve as it was written."""

    item_id: str
    revision: int
    served: bool
    """Whether it is served all the same, by the vector that the bundle has for it."""
    reason: str
    text_later: bool = False
    """Whether its text is to be embedded when that can be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedChanges:
    """How the items of a compacted bundle came from those of the export."""

    revision: int
    """Revision of the catalogue that the items are of."""
    rows: NDArray[np.int64]
    """[exported items]: the row of each; GONE for one that is not there."""
    gone: list[str]
    """Ids of those that are gone, in order of their rows in the export."""
    revisions: NDArray[np.int64]
    """[items]: revision of the change that each is from; 0 where it is as exported."""
    vectors: NDArray[np.float32]
    """[n, dimension]: exported vectors of the items that are gone or changed, in order of their
    rows in the export.
    """
    misfits: tuple[Misfit, ...]


def replaced(rows: NDArray[np.int64], revisions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows in the export of the items that are gone or changed; see `FoldedChanges`."""
    there = rows != GONE
    changed = ~there
    changed[there] = revisions[rows[there]] > 0
    return np.flatnonzero(changed)


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of a compacted bundle with the hash of all that it says."""
    sections = document["sections"]
    open_document = {**document, "sections": {**sections, SECTION: _without_seal(sections)}}
    seal = canonical_sha256(open_document)
    return {
        **document,
        "sections": {**sections, SECTION: {**_without_seal(sections), SEAL: seal}},
    }


def check_seal(document: dict[str, Any]) -> None:
    """Check that the manifest of a compacted bundle says what was written.

    Raises:
        BundleCorrupt: it does not.
    """
    wanted = document["sections"][SECTION].get(SEAL)
    got = sealed(document)["sections"][SECTION][SEAL]
    if got != wanted:
        raise BundleCorrupt(f"{MANIFEST}: expected sha256 {wanted}, got {got}")


def _without_seal(sections: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sections[SECTION].items() if name != SEAL}


def read_folded(
    arrays: ArrayReader, folder: Path, section: Compaction, item_ids: list[str], dimension: int
) -> FoldedChanges:
    """Read how the items of a compacted bundle came from those of the export.

    Raises:
        BundleCorrupt: a file is not what the manifest says.
    """
    count = len(item_ids)
    rows = arrays.array(section.rows, np.int64, (None,))
    there = rows[rows != GONE]
    if len(there) and (there.min() < 0 or there.max() >= count):
        raise BundleCorrupt(f"{section.rows}: expected rows from -1 to {count - 1}, got others")
    if len(np.unique(there)) != len(there):
        raise BundleCorrupt(f"{section.rows}: expected no row twice, got some")
    gone = arrays.ids(section.gone, len(rows) - len(there))
    if both := set(gone).intersection(item_ids):
        raise BundleCorrupt(f"{section.gone.utf8}: expected none of the items, got {min(both)!r}")
    revisions = arrays.array(section.revisions, np.int64, (count,))
    if count and (revisions.min() < 0 or revisions.max() > section.revision):
        raise BundleCorrupt(
            f"{section.revisions}: expected revisions up to {section.revision}, got others"
        )
    return FoldedChanges(
        revision=section.revision,
        rows=rows,
        gone=gone,
        revisions=revisions,
        vectors=arrays.array(
            section.vectors, np.float32, (len(replaced(rows, revisions)), dimension)
        ),
        misfits=_read_misfits(folder, section.misfits),
    )


def _read_misfits(folder: Path, name: str) -> tuple[Misfit, ...]:
    try:
        return tuple(Misfit(**fields) for fields in json.loads((folder / name).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise BundleCorrupt(f"{name}: expected misfits, got {error!r}") from error
