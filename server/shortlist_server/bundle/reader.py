"""Reads bundles, and refuses those that are not what their manifest says.

Nothing in a bundle is executed, unpickled or followed out of its folder. Numbers are checked
against training in `runtime/golden.py`, the index against the vectors in `index/hnsw.py`.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from shortlist_server.bundle.columns import NUMPY_DTYPES, ColumnArray, StringArray
from shortlist_server.bundle.manifest import (
    FORMAT_VERSION,
    SECTIONS,
    Column,
    Manifest,
    Strings,
    canonical_sha256,
)
from shortlist_server.bundle.writer import MANIFEST, file_sha256
from shortlist_server.errors import BundleCorrupt, BundleMissing, BundleUnsupported

MANIFEST_BYTES_MAX = 16 << 20


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
class Bundle:
    """An opened bundle. Arrays are memory-mapped and read-only."""

    folder: Path
    manifest: Manifest
    sha256: str
    """Identity: SHA-256 of the canonical manifest."""
    item_ids: list[str]
    item_columns: dict[str, ColumnArray]
    item_embeddings: NDArray[np.float32]
    """float32 [items, dimension]."""
    vocabularies: Mapping[str, list[str] | list[int]]
    popularity: PopularityList | None
    users: UserTable | None

    def path(self, name: str) -> Path:
        """Return where a file of the bundle is."""
        return self.folder / name


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle, verifying its hashes, shapes and references.

    Raises:
        BundleMissing: there is no bundle at `folder`.
        BundleUnsupported: its format is newer, or a required section is unknown.
        BundleCorrupt: a file is missing, cut, changed, or not what the manifest says; the message
            names it.
    """
    document = _read_manifest(folder)
    manifest = _parse_manifest(document)
    _verify_files(folder, manifest)
    arrays = _Arrays(folder, manifest)
    items = manifest.items
    embeddings = arrays.array(
        items.embeddings, np.float32, (manifest.item_count, manifest.dimension)
    )
    if not np.isfinite(embeddings).all():
        raise BundleCorrupt(f"{items.embeddings}: expected finite numbers, got NaN or infinity")
    if manifest.metric == "cosine" and not np.allclose(
        np.linalg.norm(embeddings, axis=1), 1, atol=1e-3
    ):
        raise BundleCorrupt(
            f"{items.embeddings}: expected vectors of length 1 (metric cosine), got others"
        )
    popularity, users = manifest.popularity, manifest.users
    return Bundle(
        folder=folder,
        manifest=manifest,
        sha256=canonical_sha256(document),
        item_ids=arrays.ids(items.ids, manifest.item_count),
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
        popularity=None
        if popularity is None
        else PopularityList(
            rows=arrays.rows(popularity.rows),
            scores=arrays.array(popularity.scores, np.float32, (None,)),
        ),
        users=None
        if users is None
        else _read_users(arrays, users.ids, users.columns, users.seen_offsets, users.seen_rows),
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleMissing(
            f"{folder}: no such folder; expected a bundle, as `shortlist-export bundle` writes"
        )
    if not path.is_file():
        raise BundleMissing(f"{folder}: no {MANIFEST} in this folder; expected a bundle")
    if (size := path.stat().st_size) > MANIFEST_BYTES_MAX:
        raise BundleCorrupt(f"{MANIFEST}: expected at most {MANIFEST_BYTES_MAX} bytes, got {size}")
    try:
        document = json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
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


def _verify_files(folder: Path, manifest: Manifest) -> None:
    for name, expected in manifest.files.items():
        path = folder / name
        try:
            status = path.lstat()
            inside = path.resolve().is_relative_to(folder.resolve())
        except OSError as error:
            raise BundleCorrupt(
                f"{name}: expected a file, which the manifest lists: {error.strerror}"
            ) from error
        if not stat.S_ISREG(status.st_mode) or not inside:
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


def _read_users(
    arrays: _Arrays, ids: Strings, columns: list[Column], seen_offsets: str, seen_rows: str
) -> UserTable:
    names = arrays.ids(ids, None)
    rows = arrays.rows(seen_rows)
    return UserTable(
        ids=names,
        columns={column.name: arrays.column(column, len(names)) for column in columns},
        seen_offsets=arrays.offsets(seen_offsets, count=len(names), total=len(rows)),
        seen_rows=rows,
    )


class _Arrays:
    """Reads the arrays of one bundle, checking each against what it must be."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest

    def array(
        self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]
    ) -> NDArray[Any]:
        if name not in self._manifest.files:
            raise BundleCorrupt(
                f"{MANIFEST}: {name}: expected to be listed in files, since the manifest refers to "
                "it"
            )
        try:
            array: NDArray[Any] = np.load(self._folder / name, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise BundleCorrupt(f"{name}: expected a .npy array: {error}") from error
        fits = array.ndim == len(shape) and all(
            wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
        )
        if array.dtype != dtype or not fits or not array.flags.c_contiguous:
            wanted = [size if size is not None else "any" for size in shape]
            raise BundleCorrupt(
                f"{name}: expected {np.dtype(dtype)} {wanted}, row-major, got {array.dtype} "
                f"{list(array.shape)}"
            )
        # A memory map that stays an np.memmap makes every slice slower; a plain view of it does
        # not.
        return array.view(np.ndarray)

    def offsets(self, name: str, *, count: int | None, total: int) -> NDArray[np.int64]:
        offsets = self.array(name, np.int64, (None if count is None else count + 1,))
        if (
            not len(offsets)
            or offsets[0] != 0
            or offsets[-1] != total
            or (np.diff(offsets) < 0).any()
        ):
            raise BundleCorrupt(
                f"{name}: expected offsets from 0 to {total}, never falling, got others"
            )
        return offsets

    def rows(self, name: str) -> NDArray[np.int64]:
        rows = self.array(name, np.int64, (None,))
        if len(rows) and not (rows.min() >= 0 and rows.max() < self._manifest.item_count):
            raise BundleCorrupt(
                f"{name}: expected rows from 0 to {self._manifest.item_count - 1}, got others"
            )
        return rows

    def strings(self, files: Strings, count: int | None = None) -> StringArray:
        utf8 = self.array(files.utf8, np.uint8, (None,))
        offsets = self.offsets(files.offsets, count=count, total=len(utf8))
        strings = StringArray(offsets, utf8)
        try:
            strings.tolist()
        except UnicodeDecodeError as error:
            raise BundleCorrupt(f"{files.utf8}: expected UTF-8: {error}") from error
        return strings

    def ids(self, files: Strings, count: int | None) -> list[str]:
        ids = self.strings(files, count).tolist()
        if len(set(ids)) != len(ids):
            raise BundleCorrupt(
                f"{files.utf8}: expected ids without repetition, got {len(ids) - len(set(ids))} "
                "repeated"
            )
        if "" in ids:
            raise BundleCorrupt(f"{files.utf8}: expected ids of 1 to 256 bytes, got an empty one")
        return ids

    def column(self, column: Column, count: int) -> ColumnArray:
        list_offsets = None
        length: int | None = count
        if column.type.endswith("_list"):
            if column.list_offsets is None:
                raise BundleCorrupt(
                    f"{MANIFEST}: column {column.name!r}: expected list_offsets, got none"
                )
            length = None
        if isinstance(column.values, Strings) != column.type.startswith("string"):
            raise BundleCorrupt(
                f"{MANIFEST}: column {column.name!r}: its values are not of type {column.type}"
            )
        values: NDArray[Any] | StringArray
        if isinstance(column.values, Strings):
            values = self.strings(column.values, length)
        else:
            values = self.array(
                column.values, NUMPY_DTYPES[column.type.removesuffix("_list")], (length,)
            )
        if column.list_offsets is not None:
            list_offsets = self.offsets(column.list_offsets, count=count, total=len(values))
        valid = None if column.valid is None else self.array(column.valid, np.bool_, (count,))
        return ColumnArray(
            name=column.name,
            type=column.type,
            values=values,
            list_offsets=list_offsets,
            valid=valid,
        )
