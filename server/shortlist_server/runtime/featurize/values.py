"""Raw values: what kinds there are, and what they become as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.errors import FeatureTypeMismatch, OutOfRange

Raw = (
    str
    | int
    | float
    | bool
    | Sequence[str]
    | Sequence[int]
    | Sequence[float]
    | Sequence[bool]
    | None
)
"""A raw value of a source: a scalar or a list of scalars. None where it is absent."""

Elements = Sequence[Any] | NDArray[Any]
"""Scalars, one after the other: the values of a scalar source, or all that its lists hold."""

TEXT = frozenset({"string"})
WHOLE = frozenset({"int64"})
WHOLE_OR_BOOL = frozenset({"int64", "bool"})
REAL = frozenset({"int64", "double"})
NUMERIC = frozenset({"int64", "double", "bool"})

_KINDS: dict[type, str] = {str: "string", bool: "bool", int: "int64", float: "double"}

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_FLOAT32_TINY = float(np.finfo(np.float32).smallest_normal)
_DOUBLE_EXACT_MAX = 2**53


def kinds_of(elements: Elements) -> set[str]:
    """Return which kinds there are among elements.

    `string`, `bool`, `int64` and `double`; the name of the type for anything else.
    """
    if isinstance(elements, np.ndarray) and elements.dtype != object:
        types: set[type] = {elements.dtype.type} if elements.size else set()
    else:
        types = set(map(type, elements))
    return {_KINDS.get(each) or _kind_of_type(each) for each in types}


def _kind_of_type(of: type) -> str:
    if issubclass(of, str):
        return "string"
    if issubclass(of, np.bool_):
        return "bool"
    if issubclass(of, int) or (issubclass(of, np.integer) and np.can_cast(of, np.int64)):
        return "int64"
    if issubclass(of, float | np.floating):
        return "double"
    if issubclass(of, list | tuple | np.ndarray):
        return "list"
    return "nothing" if of is type(None) else of.__name__


def require(elements: Elements, allowed: frozenset[str], source: str) -> set[str]:
    """Return the kinds of elements, which must be allowed ones.

    Raises:
        FeatureTypeMismatch: they are not.
    """
    kinds = kinds_of(elements)
    if not kinds <= allowed:
        raise FeatureTypeMismatch(
            source, expected=" or ".join(sorted(allowed)), got=" and ".join(sorted(kinds - allowed))
        )
    return kinds


def integers(
    elements: Elements, source: str, dtype: np.dtype[Any] | type[np.int64] = np.int64
) -> NDArray[Any]:
    """Return integers and booleans as an array of an integer dtype.

    Raises:
        FeatureTypeMismatch: there are other values among them.
        OutOfRange: one does not fit the dtype.
    """
    require(elements, WHOLE_OR_BOOL, source)
    limits = np.iinfo(dtype)
    expected = f"integers from {limits.min} to {limits.max}"
    try:
        wide = np.array(elements, np.int64)
    except OverflowError as error:
        raise OutOfRange(source, expected=expected, got="one of more than 64 bits") from error
    if wide.size and not limits.min <= wide.min() <= wide.max() <= limits.max:
        raise OutOfRange(source, expected=expected, got=f"{wide.min()} to {wide.max()}")
    return wide.astype(dtype, copy=False)


def float32s(
    elements: Elements, source: str, allowed: frozenset[str] = NUMERIC
) -> NDArray[np.float32]:
    """Return numbers as TensorFlow would see them in float32.

    Integers are rounded once, not by way of float64. What is beyond float32 becomes its largest
    number, so that nothing infinite goes into a model; denormal numbers become 0, as TensorFlow's
    kernels treat them.

    Raises:
        FeatureTypeMismatch: there are other values among them.
        OutOfRange: an integer has more than 64 bits.
    """
    kinds = require(elements, allowed, source)
    if "double" not in kinds:
        return integers(elements, source).astype(np.float32)
    if len(kinds) == 1:
        return narrowed(np.asarray(elements, np.float64))
    # One array of all would round large integers twice, depending on what else is in the batch.
    whole = np.array([not isinstance(element, float | np.floating) for element in elements])
    mixed = np.empty(len(elements), np.float32)
    for part in (whole, ~whole):
        places = np.flatnonzero(part).tolist()
        mixed[part] = float32s([elements[place] for place in places], source, allowed)
    return mixed


def narrowed(numbers: NDArray[Any]) -> NDArray[np.float32]:
    """Round numbers to float32, with the largest for what is beyond it and 0 for denormal ones.

    NaN stays what it is.
    """
    clipped = np.clip(numbers, -_FLOAT32_MAX, _FLOAT32_MAX)
    rounded: NDArray[np.float32] = clipped.astype(np.float32, copy=False)
    rounded[np.abs(rounded) < _FLOAT32_TINY] = 0
    return rounded


def float32(value: Any, source: str, allowed: frozenset[str] = NUMERIC) -> float:
    """Return one number as `float32s` would."""
    if type(value) is not float:
        require((value,), allowed, source)
        if not isinstance(value, float | np.floating) and abs(int(value)) > _DOUBLE_EXACT_MAX:
            return float(integers((value,), source).astype(np.float32)[0])
    return narrow(float(value))


def narrow(value: float) -> float:
    """Round one number as `narrowed` would."""
    if value > _FLOAT32_MAX:
        return _FLOAT32_MAX
    if value < -_FLOAT32_MAX:
        return -_FLOAT32_MAX
    rounded = float(np.float32(value))
    return 0.0 if abs(rounded) < _FLOAT32_TINY else rounded
