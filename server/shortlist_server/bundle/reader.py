"""Reads bundles, and refuses those that are not what their manifest says.

Nothing in a bundle is executed, unpickled or followed out of its folder. Numbers are checked
against training in `runtime/golden.py`, the index against the vectors in `index/hnsw.py`.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from shortlist_server.bundle.arrays import ArrayReader
from shortlist_server.bundle.columns import ColumnArray
from shortlist_server.bundle.compaction import FoldedChanges, check_seal, read_folded
from shortlist_server.bundle.manifest import (
    FORMAT_VERSION,
    SECTIONS,
    Column,
    Manifest,
    Popularity,
    canonical_sha256,
)
from shortlist_server.bundle.sections import EMBEDDER_FILES, Strings, Texts
from shortlist_server.bundle.writer import MANIFEST, file_sha256
from shortlist_server.errors import BundleCorrupt, BundleMissing, BundleUnsupported

MANIFEST_BYTES_MAX = 16 << 20
TEXT_BYTES_MAX = 64 << 10
MAGNITUDE_MAX = 1e15
"""Largest component of an embedding: products and sums of them stay finite in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PopularityList:
    """Items by popularity, most popular first."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTable:
    """Known users: their features, and what they have seen."""

    ids: list[str]
    columns: dict[str, ColumnArray]
    seen_offsets: NDArray[np.int64]
    seen_rows: NDArray[np.int64]

    def seen(self, user_row: int) -> NDArray[np.int64]:
        """Return the rows of the items that a user has seen, oldest first."""
        return self.seen_rows[self.seen_offsets[user_row] : self.seen_offsets[user_row + 1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """Items as points by what their texts mean."""

    rows: NDArray[np.int64]
    """int64 [n], rising: the items that have a text."""
    embeddings: NDArray[np.float32]
    """float32 [n, dimension], of length 1."""

    def by_item(self, item_count: int) -> NDArray[np.float32]:
        """Return the points of all items, float32 [item_count, dimension]: zeros where one has no
        text; the very array where all have one.
        """
        if len(self.rows) == item_count:
            return self.embeddings
        points = np.zeros((item_count, self.embeddings.shape[1]), np.float32)
        points[self.rows] = self.embeddings
        return points


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """An opened bundle. Arrays are memory-mapped and read-only."""

    folder: Path
    manifest: Manifest
    sha256: str
    """Identity: SHA-256 of the canonical manifest, as exported."""
    item_ids: list[str]
    item_columns: dict[str, ColumnArray]
    item_embeddings: NDArray[np.float32]
    """float32 [items, dimension]."""
    vocabularies: Mapping[str, list[str] | list[int]]
    popularity: PopularityList | None
    users: UserTable | None
    """Rows of items in it, and in `popularity`, are those of the export."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """The bundle's own prompts for language models, by what they are for: templates, unread."""
    texts: TextTable | None = None
    folded: FoldedChanges | None = None
    """How the items came from those of the export; None where they are those."""

    @property
    def revision(self) -> int:
        """Revision of the catalogue that its items are of; 0 as exported."""
        return 0 if self.folded is None else self.folded.revision

    @property
    def exported_count(self) -> int:
        """Number of items as exported."""
        return len(self.item_ids) if self.folded is None else len(self.folded.rows)

    def path(self, name: str) -> Path:
        """Return where a file of the bundle is."""
        return self.folder / name


def open_bundle(folder: Path, *, compacted: bool = False) -> Bundle:
    """Open a bundle, verifying its hashes, shapes and references.

    Args:
        folder: The bundle.
        compacted: Whether it may be one that a server has folded changes into: that belongs to
            one store, and is right beside no other.

    Raises:
        BundleMissing: there is no bundle at `folder`.
        BundleUnsupported: its format is newer, or a required section is unknown.
        BundleCorrupt: a file is missing, cut, changed, or not what the manifest says; the message
            names it.
    """
    manifest, sha256 = read_manifest(folder, compacted=compacted)
    verify_files(folder, manifest)
    arrays = ArrayReader(folder, manifest)
    items = manifest.items
    embeddings = arrays.array(
        items.embeddings, np.float32, (manifest.item_count, manifest.dimension)
    )
    # NaN compares as false, and so is refused, too.
    if not (np.abs(embeddings) <= MAGNITUDE_MAX).all():
        raise BundleCorrupt(
            f"{items.embeddings}: expected finite numbers of at most {MAGNITUDE_MAX:g}, got others"
        )
    if manifest.metric == "cosine" and not np.allclose(
        np.linalg.norm(embeddings, axis=1), 1, atol=1e-3
    ):
        raise BundleCorrupt(
            f"{items.embeddings}: expected vectors of length 1 (metric cosine), got others"
        )
    popularity, users, compaction = manifest.popularity, manifest.users, manifest.compaction
    prompts = manifest.prompts
    texts = None if manifest.texts is None else _read_texts(arrays, manifest.texts)
    item_ids = arrays.ids(items.ids, manifest.item_count)
    folded = None
    if compaction is not None:
        folded = read_folded(arrays, folder, compaction, item_ids, manifest.dimension)
        arrays.item_count = len(folded.rows)
    return Bundle(
        folder=folder,
        manifest=manifest,
        sha256=sha256,
        item_ids=item_ids,
        item_columns={
            column.name: arrays.column(column, manifest.item_count) for column in items.columns
        },
        item_embeddings=embeddings,
        vocabularies={
            name: arrays.strings(vocabulary.tokens).tolist()
            if isinstance(vocabulary.tokens, Strings)
            else arrays.array(vocabulary.tokens, np.int64, (None,)).tolist()
            for name, vocabulary in manifest.vocabularies.items()
        },
        popularity=None if popularity is None else _read_popularity(arrays, popularity),
        users=None
        if users is None
        else _read_users(arrays, users.ids, users.columns, users.seen_offsets, users.seen_rows),
        texts=texts,
        folded=folded,
        prompts={} if prompts is None else {"rerank": _read_text(folder, manifest, prompts.rerank)},
    )


def read_manifest(folder: Path, *, compacted: bool = False) -> tuple[Manifest, str]:
    """Return the manifest of a bundle, and the bundle's identity; looks at no other file.

    Args:
        folder: The bundle.
        compacted: As for `open_bundle`.

    Raises:
        BundleError: as `open_bundle`.
    """
    document = _read_manifest(folder)
    manifest = _parse_manifest(document)
    if manifest.compaction is None:
        return manifest, canonical_sha256(document)
    if not compacted:
        raise BundleUnsupported(
            f"{folder}: expected a bundle as it was exported, got one that a server has made for "
            "itself; name the bundle that it came from"
        )
    check_seal(document)
    return manifest, manifest.compaction.sha256


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleMissing(
            f"{folder}: no such folder; expected a bundle, as `shortlist-export bundle` writes"
        )
    if not path.is_file():
        raise BundleMissing(f"{folder}: no {MANIFEST} in this folder; expected a bundle")
    if path.is_symlink():
        raise BundleCorrupt(f"{MANIFEST}: expected a regular file, got a link")
    if (size := path.stat().st_size) > MANIFEST_BYTES_MAX:
        raise BundleCorrupt(f"{MANIFEST}: expected at most {MANIFEST_BYTES_MAX} bytes, got {size}")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleCorrupt(f"{MANIFEST}: cannot be parsed: {error}") from error
    if not isinstance(document, dict):
        raise BundleCorrupt(f"{MANIFEST}: expected a JSON object, got {type(document).__name__}")
    return document


def _parse_manifest(document: dict[str, Any]) -> Manifest:
    version = document.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise BundleCorrupt(
            f"{MANIFEST}: format_version: expected an integer from 1, got {version!r}"
        )
    if version > FORMAT_VERSION:
        raise BundleUnsupported(
            f"{MANIFEST}: format_version: expected at most {FORMAT_VERSION}, got {version}; "
            "upgrade the server, or export the bundle with an older version"
        )
    try:
        manifest = Manifest.model_validate(document)
        for name, body in manifest.sections.items():
            if name in SECTIONS:
                SECTIONS[name].model_validate(body)
            elif body.get("required") is not False:
                raise BundleUnsupported(
                    f"{MANIFEST}: sections: expected one of {sorted(SECTIONS)}, got {name!r}, "
                    "which is required; "
                    "upgrade the server"
                )
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise BundleCorrupt(
            f"{MANIFEST}: {where}: {problem['msg']}, got {str(problem['input'])[:80]!r}"
        ) from error
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check that the files of a bundle are those that its manifest lists, by their hashes.

    Raises:
        BundleCorrupt: they are not; the message names the first.
    """
    # A model may keep weights in files beside it: what no hash covers must not be there.
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name not in manifest.files and name != MANIFEST:
            raise BundleCorrupt(f"{name}: expected only files that the manifest lists")
    needed = [model.file for model in manifest.models.values()] + [manifest.index.file]
    if manifest.golden is not None:
        needed += [manifest.golden.requests, *(output.values for output in manifest.golden.outputs)]
    if (texts := manifest.texts) is not None:
        needed.append(texts.index.file)
        if texts.embedder.folder is not None:
            needed += [f"{texts.embedder.folder}/{name}" for name in EMBEDDER_FILES]
    for name in needed:
        if name not in manifest.files:
            raise BundleCorrupt(f"{name}: expected to be listed in the manifest's files")
    for name, expected in manifest.files.items():
        path = folder / name
        try:
            status = path.lstat()
            # A link that leads to itself cannot be resolved.
            regular = stat.S_ISREG(status.st_mode)
            inside = regular and path.resolve().is_relative_to(folder.resolve())
        except OSError as error:
            raise BundleCorrupt(
                f"{name}: expected a file, which the manifest lists: {error.strerror}"
            ) from error
        if not inside:
            raise BundleCorrupt(
                f"{name}: expected a regular file inside the bundle, got a link or something else"
            )
        if status.st_size != expected.size_bytes:
            raise BundleCorrupt(
                f"{name}: expected {expected.size_bytes} bytes, got {status.st_size}; copy it again"
            )
        if (got := file_sha256(path)) != expected.sha256:
            raise BundleCorrupt(
                f"{name}: expected sha256 {expected.sha256}, got {got}; copy the bundle again"
            )


def _read_text(folder: Path, manifest: Manifest, name: str) -> str:
    if name not in manifest.files:
        raise BundleCorrupt(f"{name}: expected to be listed in the manifest's files")
    if (size := manifest.files[name].size_bytes) > TEXT_BYTES_MAX:
        raise BundleCorrupt(f"{name}: expected at most {TEXT_BYTES_MAX} bytes, got {size}")
    try:
        return (folder / name).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise BundleCorrupt(f"{name}: expected UTF-8, got {error.reason}") from error


def _read_popularity(arrays: ArrayReader, files: Popularity) -> PopularityList:
    rows = arrays.rows(files.rows)
    scores = arrays.array(files.scores, np.float32, (len(rows),))
    if len(np.unique(rows)) != len(rows):
        raise BundleCorrupt(f"{files.rows}: expected no row twice, got some")
    if not np.isfinite(scores).all() or (scores[1:] > scores[:-1]).any():
        raise BundleCorrupt(f"{files.scores}: expected finite numbers, never rising, got others")
    return PopularityList(rows=rows, scores=scores)


def _read_texts(arrays: ArrayReader, section: Texts) -> TextTable:
    rows = arrays.rows(section.rows)
    if not len(rows) or (rows[1:] <= rows[:-1]).any():
        raise BundleCorrupt(f"{section.rows}: expected one row or more, rising, got others")
    embeddings = arrays.array(section.embeddings, np.float32, (len(rows), section.dimension))
    # NaN is not close to 1.
    if not np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3):
        raise BundleCorrupt(f"{section.embeddings}: expected vectors of length 1, got others")
    return TextTable(rows=rows, embeddings=embeddings)


def _read_users(
    arrays: ArrayReader, ids: Strings, columns: list[Column], seen_offsets: str, seen_rows: str
) -> UserTable:
    names = arrays.ids(ids, None)
    rows = arrays.rows(seen_rows)
    return UserTable(
        ids=names,
        columns={column.name: arrays.column(column, len(names)) for column in columns},
        seen_offsets=arrays.offsets(seen_offsets, count=len(names), total=len(rows)),
        seen_rows=rows,
    )
