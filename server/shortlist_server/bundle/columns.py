"""Texts and typed columns as plain arrays: what the files of a bundle hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CellValue = (
    str
    | int
    | float
    | bool
    | tuple[str, ...]
    | tuple[int, ...]
    | tuple[float, ...]
    | tuple[bool, ...]
)
"""What one row of a column holds."""

NUMPY_DTYPES: dict[str, type[np.generic]] = {
    "int64": np.int64,
    "double": np.float64,
    "bool": np.bool_,
}
"""dtype of the values of each scalar type but `string`."""


@dataclass(frozen=True, slots=True)
class StringArray:
    """N texts in one UTF-8 buffer: text i is `utf8[offsets[i]:offsets[i + 1]]`.

    Ten million short texts cost their bytes plus 8 each, where Python strings cost 60 more.
    """

    offsets: NDArray[np.int64]
    """int64 [N + 1]."""
    utf8: NDArray[np.uint8]
    """uint8 [bytes]."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> StringArray:
        """Pack texts."""
        encoded = [text.encode() for text in texts]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(text) for text in encoded], out=offsets[1:])
        return cls(offsets, np.frombuffer(b"".join(encoded), np.uint8))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> str:
        # Views give Python numbers and slices several times faster than arrays do.
        offsets = self.offsets.data
        return str(self.utf8.data[offsets[row] : offsets[row + 1]], "utf-8")

    def __iter__(self) -> Iterator[str]:
        return iter(self.tolist())

    def tolist(self) -> list[str]:
        """Return all texts as Python strings."""
        data = self.utf8.tobytes()
        bounds = self.offsets.tolist()
        return [data[start:end].decode() for start, end in zip(bounds, bounds[1:], strict=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnArray:
    """A typed column over N rows."""

    name: str
    type: str
    """A `ValueType` of the manifest."""
    values: NDArray[Any] | StringArray
    list_offsets: NDArray[np.int64] | None = None
    valid: NDArray[np.bool_] | None = None
    """bool [N]: False where the row has no value; None where every row has one."""

    @classmethod
    def of(cls, name: str, value_type: str, cells: Sequence[Any]) -> ColumnArray:
        """Pack Python values; None is no value.

        Raises:
            TypeError: a cell is not of the column's type.
        """
        scalar_type = value_type.removesuffix("_list")
        valid = np.array([cell is not None for cell in cells], np.bool_)
        list_offsets = None
        if value_type.endswith("_list"):
            lists = [() if cell is None else cell for cell in cells]
            list_offsets = np.zeros(len(lists) + 1, np.int64)
            np.cumsum([len(cell) for cell in lists], out=list_offsets[1:])
            flat = [value for cell in lists for value in cell]
        else:
            empty = {"string": "", "int64": 0, "double": 0.0, "bool": False}[scalar_type]
            flat = [empty if cell is None else cell for cell in cells]
        return cls(
            name=name,
            type=value_type,
            values=_pack(name, scalar_type, flat),
            list_offsets=list_offsets,
            valid=None if valid.all() else valid,
        )

    def __len__(self) -> int:
        return len(self.values if self.list_offsets is None else self.list_offsets[1:])

    def __getitem__(self, row: int) -> CellValue | None:
        if self.valid is not None and not self.valid[row]:
            return None
        if self.list_offsets is None:
            value = self.values[row]
            return value if isinstance(value, str) else value.item()
        start, end = int(self.list_offsets[row]), int(self.list_offsets[row + 1])
        if isinstance(self.values, StringArray):
            return tuple(self.values[position] for position in range(start, end))
        return tuple(self.values[start:end].tolist())

    def tolist(self) -> list[CellValue | None]:
        """Return all rows as Python values."""
        flat: list[Any] = self.values.tolist()
        if self.list_offsets is not None:
            bounds = self.list_offsets.tolist()
            flat = [tuple(flat[start:end]) for start, end in zip(bounds, bounds[1:], strict=False)]
        if self.valid is None:
            return flat
        return [
            cell if known else None for cell, known in zip(flat, self.valid.tolist(), strict=True)
        ]


def _pack(name: str, scalar_type: str, flat: list[Any]) -> NDArray[Any] | StringArray:
    kinds: dict[str, tuple[type, ...]] = {
        "string": (str,),
        "int64": (int,),
        "double": (float, int),
        "bool": (bool,),
    }
    for value in flat:
        # bool is a subclass of int, and True is not meant as 1 here
        if not isinstance(value, kinds[scalar_type]) or (
            isinstance(value, bool) and scalar_type != "bool"
        ):
            raise TypeError(f"column {name!r}: expected {scalar_type}, got {value!r}")
    if scalar_type == "string":
        return StringArray.of(flat)
    return np.array(flat, NUMPY_DTYPES[scalar_type])
