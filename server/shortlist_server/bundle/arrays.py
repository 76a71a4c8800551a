"""Reads the arrays of a bundle, and refuses those that are not what its manifest says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.columns import NUMPY_DTYPES, ColumnArray, StringArray
from shortlist_server.bundle.manifest import Column, Manifest
from shortlist_server.bundle.sections import Strings
from shortlist_server.bundle.writer import MANIFEST
from shortlist_server.errors import BundleCorrupt

ID_BYTES_MAX = 256


class ArrayReader:
    """Reads the arrays of one bundle, checking each against what it must be."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Take the bundle's folder and its manifest."""
        self._folder = folder
        self._manifest = manifest
        self.item_count = manifest.item_count
        """Number of rows that rows of the catalogue may be of."""

    def array(
        self, name: str, dtype: type[np.generic], shape: tuple[int | None, ...]
    ) -> NDArray[Any]:
        """Read an array of this dtype and shape; None in a shape is any size."""
        if name not in self._manifest.files:
            raise BundleCorrupt(
                f"{MANIFEST}: {name}: expected to be listed in files, since the manifest refers to "
                "it"
            )
        try:
            array: NDArray[Any] = np.load(self._folder / name, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # numpy raises what its header parser raises
            raise BundleCorrupt(f"{name}: expected a .npy array: {error}") from error
        if not isinstance(array, np.ndarray):
            raise BundleCorrupt(f"{name}: expected a .npy array, got {type(array).__name__}")
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
        """Read offsets: from 0 to `total`, never falling."""
        offsets = self.array(name, np.int64, (None if count is None else count + 1,))
        if (
            not len(offsets)
            or offsets[0] != 0
            or offsets[-1] != total
            or (offsets[1:] < offsets[:-1]).any()
        ):
            raise BundleCorrupt(
                f"{name}: expected offsets from 0 to {total}, never falling, got others"
            )
        return offsets

    def rows(self, name: str) -> NDArray[np.int64]:
        """Read rows of the catalogue."""
        rows = self.array(name, np.int64, (None,))
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.item_count):
            raise BundleCorrupt(
                f"{name}: expected rows from 0 to {self.item_count - 1}, got others"
            )
        return rows

    def strings(self, files: Strings, count: int | None = None) -> StringArray:
        """Read texts."""
        utf8 = self.array(files.utf8, np.uint8, (None,))
        offsets = self.offsets(files.offsets, count=count, total=len(utf8))
        strings = StringArray(offsets, utf8)
        try:
            strings.tolist()
        except UnicodeDecodeError as error:
            raise BundleCorrupt(f"{files.utf8}: expected UTF-8: {error}") from error
        return strings

    def ids(self, files: Strings, count: int | None) -> list[str]:
        """Read ids: texts of 1 to 256 bytes, none twice."""
        texts = self.strings(files, count)
        ids = texts.tolist()
        if len(set(ids)) != len(ids):
            raise BundleCorrupt(
                f"{files.utf8}: expected ids without repetition, got {len(ids) - len(set(ids))} "
                "repeated"
            )
        lengths = np.diff(texts.offsets)
        if len(lengths) and not (lengths.min() >= 1 and lengths.max() <= ID_BYTES_MAX):
            raise BundleCorrupt(
                f"{files.utf8}: expected ids of 1 to {ID_BYTES_MAX} bytes, got one of "
                f"{lengths.max() if lengths.min() else 0}"
            )
        return ids

    def column(self, column: Column, count: int) -> ColumnArray:
        """Read a column over `count` rows."""
        list_offsets = None
        length: int | None = count
        if column.type.endswith("_list"):
            if column.list_offsets is None:
                raise BundleCorrupt(
                    f"{MANIFEST}: column {column.name!r}: expected list_offsets, got none"
                )
            length = None
        elif column.list_offsets is not None:
            raise BundleCorrupt(
                f"{MANIFEST}: column {column.name!r}: expected no list_offsets for {column.type}"
            )
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
            if values.dtype == np.float64 and not np.isfinite(values).all():
                raise BundleCorrupt(f"{column.values}: expected finite numbers, got others")
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
