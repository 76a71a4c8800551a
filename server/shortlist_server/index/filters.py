"""Filters over the attributes of items: columns in, masks out.

A condition costs one pass over its column; the mask of a whole filter is kept under the filter's
canonical text. Texts are held as numbers into a sorted vocabulary, so that equality and order are
comparisons of integers.
"""

from __future__ import annotations

import bisect
import difflib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.errors import AttributeTypeMismatch, UnknownAttribute
from shortlist_server.funnel.allowed import Selection
from shortlist_server.funnel.arrays import Mask
from shortlist_server.funnel.filter import (
    AllOf,
    AnyOf,
    Condition,
    Contains,
    Exists,
    Filter,
    IsIn,
    NoneOf,
    Range,
    Scalar,
    canonical,
    joined,
)
from shortlist_server.index.vector_index import Checkpoint

NEAR_COUNT = 5
"""How many attributes of a similar name an error lists first."""


class AttributeColumn:
    """One attribute of all items, ready to be compared."""

    def __init__(
        self,
        kind: str,
        values: NDArray[Any] | Sequence[str],
        list_offsets: NDArray[np.int64] | None,
        valid: NDArray[np.bool_] | None,
    ) -> None:
        """Prepare a column.

        Args:
            kind: Its type, as the bundle declares it: `string`, `int64_list`, ...
            values: [items], or flat values of lists; texts as Python strings.
            list_offsets: int64 [items + 1] where it is a list column.
            valid: bool [items], False where an item has no value; None where every item has one.
        """
        vocabulary: list[str] = []
        if kind.removesuffix("_list") == "string":
            vocabulary = sorted(set(values))
            codes = {text: code for code, text in enumerate(vocabulary)}
            values = np.fromiter((codes[text] for text in values), np.int32, len(values))
        self._take(kind, np.asarray(values), vocabulary, list_offsets, valid)

    @classmethod
    def joined(cls, parts: Sequence[AttributeColumn]) -> AttributeColumn:
        """Return the items of several columns of one attribute as one, in order; much cheaper than
        to prepare their values again.
        """
        # The runs are sorted, which makes this a merge.
        every = sorted(text for part in parts for text in part.vocabulary)
        vocabulary = list(dict.fromkeys(every))
        values = [part.values for part in parts]
        if vocabulary:
            codes = {text: code for code, text in enumerate(vocabulary)}
            values = [
                np.array([codes[text] for text in part.vocabulary], np.int32)[part.values]
                for part in parts
            ]
        offsets = None
        if parts[0].is_list:
            counts = [np.diff(part._offsets) for part in parts if part._offsets is not None]
            offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        valid = None
        if any(part.valid is not None for part in parts):
            valid = np.concatenate([part.exists() for part in parts])
        joined = cls.__new__(cls)
        joined._take(parts[0].kind, np.concatenate(values), vocabulary, offsets, valid)
        return joined

    def _take(
        self,
        kind: str,
        values: NDArray[Any],
        vocabulary: list[str],
        list_offsets: NDArray[np.int64] | None,
        valid: NDArray[np.bool_] | None,
    ) -> None:
        self.kind = kind
        self.element_kind = kind.removesuffix("_list")
        self.is_list = list_offsets is not None
        self.valid = valid
        self._offsets = list_offsets
        self.vocabulary = vocabulary
        self._codes = {text: code for code, text in enumerate(vocabulary)}
        self.values = values
        # Which item each flat value belongs to.
        self._owners = (
            np.empty(0, np.int32)
            if list_offsets is None
            else np.repeat(np.arange(len(list_offsets) - 1, dtype=np.int32), np.diff(list_offsets))
        )

    @property
    def size(self) -> int:
        """Number of items."""
        return len(self.values) if self._offsets is None else len(self._offsets) - 1

    def codes_of(self, row: int) -> NDArray[Any]:
        """Return the values of one item, [n]: texts as numbers; none where it has no value."""
        if self.valid is not None and not self.valid[row]:
            return self.values[:0]
        if self._offsets is None:
            return self.values[row : row + 1]
        return self.values[self._offsets[row] : self._offsets[row + 1]]

    def code_of(self, value: Any) -> Any:
        """Return a value as what `codes_of` gives for it, or the value itself where no item has
        it.
        """
        return self._codes.get(value, value) if self.element_kind == "string" else value

    def exists(self) -> Mask:
        """Return which items have a value."""
        return np.ones(self.size, np.bool_) if self.valid is None else self.valid.copy()

    def one_of(self, wanted: Iterable[Scalar]) -> Mask:
        """Return which items have, or hold, one of these values."""
        if self.element_kind == "string":
            numbers = [self._codes[str(text)] for text in wanted if text in self._codes]
        elif self.element_kind == "int64":
            # Beyond 64 bits nothing is stored.
            numbers = [int(value) for value in wanted]
        else:
            numbers = list(wanted)  # type: ignore[arg-type]  # of the column's type: checked before
        if len(numbers) == 1:
            return self._of_items(self.values == numbers[0])
        return self._of_items(np.isin(self.values, np.array(numbers, self.values.dtype)))

    def between(
        self, low: Scalar | None, low_included: bool, high: Scalar | None, high_included: bool
    ) -> Mask:
        """Return which items lie between bounds; None is no bound."""
        if self.element_kind == "string":
            first, end = self.codes_between(low, low_included, high, high_included)
            return self._of_items((self.values >= first) & (self.values < end))
        mask = np.ones(len(self.values), np.bool_)
        if low is not None:
            mask &= self.values >= low if low_included else self.values > low
        if high is not None:
            mask &= self.values <= high if high_included else self.values < high
        return self._of_items(mask)

    def codes_between(
        self, low: Scalar | None, low_included: bool, high: Scalar | None, high_included: bool
    ) -> tuple[int, int]:
        """Return the texts that lie between bounds, as the first of their numbers and the one after
        the last; see `code_of`.
        """
        first, end = 0, len(self.vocabulary)
        if low is not None:
            find = bisect.bisect_left if low_included else bisect.bisect_right
            first = find(self.vocabulary, str(low))
        if high is not None:
            find = bisect.bisect_right if high_included else bisect.bisect_left
            end = find(self.vocabulary, str(high))
        return first, end

    def _of_items(self, hits: Mask) -> Mask:
        """Return which items have a hit among their values."""
        if self._offsets is not None:
            mask = np.zeros(self.size, np.bool_)
            mask[self._owners[hits]] = True
            hits = mask
        return hits if self.valid is None else hits & self.valid


class SelectionCache:
    """The selections that were asked for last, by their canonical text."""

    def __init__(self, size: int, bytes_max: int) -> None:
        """Begin with none.

        Args:
            size: Number of rows that a mask has.
            bytes_max: Memory that masks may take, in bytes.
        """
        # A mask takes a byte an item; the rows beside it, eight for each that matches.
        self.entries_max = max(2, bytes_max // max(1, 9 * size))
        self._kept: OrderedDict[str, Selection] = OrderedDict()
        self._lock = Lock()

    def get(self, text: str, make: Callable[[], Selection]) -> Selection:
        """Return the selection of a text, made if it is not there."""
        with self._lock:
            if (known := self._kept.get(text)) is not None:
                self._kept.move_to_end(text)
                return known
        made = make()
        with self._lock:
            made = self._kept.setdefault(text, made)
            while len(self._kept) > self.entries_max:
                self._kept.popitem(last=False)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions:
    """Bounds of the filters."""

    cache_bytes_max: int
    """Memory that masks may take, in bytes: one byte an item and a filter, and eight for each item
    that matches.
    """


class AttributeFilters:
    """The attributes of a catalogue, and the masks of the filters that were asked for last."""

    def __init__(
        self, columns: Mapping[str, AttributeColumn], size: int, options: FilterOptions
    ) -> None:
        """Take the columns.

        Args:
            columns: By name of the attribute.
            size: Number of items.
            options: Bounds.
        """
        self.columns = columns
        self._size = size
        self._cache = SelectionCache(size, options.cache_bytes_max)

    def select(self, wanted: Filter | None, unwanted: Filter | None = None) -> Selection | None:
        """Return the items that match one filter and not the other; None where both are None.

        Raises:
            UnknownAttribute: a filter names an attribute that there is not.
            AttributeTypeMismatch: a value, or the condition, does not fit the attribute's type.
        """
        for part in (wanted, unwanted):
            if part is not None:
                self.check(part)
        filter_ = joined(wanted, unwanted)
        if filter_ is None:
            return None
        text = canonical(filter_)
        return self._cache.get(
            text,
            lambda: Selection(
                text, lambda: self.mask(filter_), partial(self.mask, filter_), filter=filter_
            ),
        )

    def chosen(self, wanted: Filter) -> Selection:
        """Return the items that match a filter; raises as `select` does."""
        selection = self.select(wanted)
        assert selection is not None
        return selection

    def column(self, name: str, field: str) -> AttributeColumn:
        """Return the column of an attribute.

        Raises:
            UnknownAttribute: there is none; the error lists those of a similar name first.
        """
        if (column := self.columns.get(name)) is None:
            raise UnknownAttribute(field, expected=near_first(name, self.columns), got=name)
        return column

    def check(self, filter_: Filter) -> None:
        """Check names and types of a filter against the columns; raises like `select`."""
        if isinstance(filter_, (AllOf, AnyOf, NoneOf)):
            for part in filter_.filters:
                self.check(part)
            return
        column = self.column(filter_.attribute, f"{filter_.field}.attribute")
        _check_condition(filter_, column)

    def mask(self, filter_: Filter, checkpoint: Checkpoint = lambda: None) -> Mask:
        """Return which items match, bool [items], for a filter that was checked.

        The checkpoint is called before each part of a list; what it raises ends the work.
        """
        match filter_:
            case AllOf():
                return self._fold(filter_.filters, np.logical_and, checkpoint)
            case AnyOf():
                return self._fold(filter_.filters, np.logical_or, checkpoint)
            case NoneOf():
                return ~self._fold(filter_.filters, np.logical_or, checkpoint)
            case IsIn():
                return self.columns[filter_.attribute].one_of(filter_.values)
            case Range():
                return self.columns[filter_.attribute].between(
                    filter_.low, filter_.low_included, filter_.high, filter_.high_included
                )
            case Contains():
                return self.columns[filter_.attribute].one_of((filter_.value,))
            case Exists():
                return self.columns[filter_.attribute].exists()

    def _fold(
        self, filters: Sequence[Filter], join: Callable[..., Mask], checkpoint: Checkpoint
    ) -> Mask:
        checkpoint()
        # A copy: a mask that a column keeps must not be changed.
        mask = self.mask(filters[0], checkpoint).copy()
        for part in filters[1:]:
            checkpoint()
            join(mask, self.mask(part, checkpoint), out=mask)
        return mask


def near_first(name: str, names: Iterable[str]) -> str:
    """Return names for an error: those similar to what was written first, then the others."""
    every = sorted(names)
    if not every:
        return "none: the bundle has no item attributes"
    near = difflib.get_close_matches(name, every, n=NEAR_COUNT, cutoff=0.6)
    rest = [other for other in every if other not in near]
    listed = ", ".join((near + rest)[:100])
    return f"{listed} (did you mean {near[0]!r}?)" if near else listed


def value_fits(value: Scalar, kind: str) -> bool:
    """Whether a value may be compared with an attribute of this scalar type."""
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    if kind == "double":
        # Rounded, an integer beyond 2^53 would match what is not equal to it. Python compares an
        # int with a float exactly.
        return isinstance(value, (int, float)) and float(value) == value
    return isinstance(value, int if kind == "int64" else str)


def _check_condition(condition: Condition, column: AttributeColumn) -> None:
    field, name = condition.field, condition.attribute
    match condition:
        case Contains():
            if not column.is_list:
                raise AttributeTypeMismatch(
                    field,
                    expected="equals, is_in or range: contains is for multi-valued attributes",
                    got=f"contains, and {name} is {column.kind}",
                )
            values: Iterable[Scalar] = (condition.value,)
        case IsIn():
            values = condition.values
        case Range():
            if column.element_kind == "bool":
                raise AttributeTypeMismatch(
                    field, expected="equals: true and false have no order", got="range"
                )
            values = [bound for bound in (condition.low, condition.high) if bound is not None]
        case Exists():
            return
    if column.is_list and not isinstance(condition, Contains):
        raise AttributeTypeMismatch(
            field,
            expected=f"contains or exists: {name} is {column.kind}",
            got="range" if isinstance(condition, Range) else _written(condition),
        )
    for position, value in enumerate(values):
        if not value_fits(value, column.element_kind):
            raise AttributeTypeMismatch(
                _value_field(condition, position),
                expected=_expected(column.element_kind, value, name),
                got=f"{_type_name(value)} {value!r}"[:200],
            )


def _expected(kind: str, value: Scalar, name: str) -> str:
    exactly = kind == "double" and isinstance(value, int) and not isinstance(value, bool)
    between = ": an integer beyond 2^53 only where a double holds it exactly" if exactly else ""
    return f"{kind}, the type of {name}{between}"


def _value_field(condition: Condition, position: int) -> str:
    """Return the path of the value in the request, as the condition is written there."""
    field = condition.field
    match field.rpartition(".")[2]:
        case "equals" | "contains":
            return f"{field}.value"
        case "is_in":
            return f"{field}.values[{position}]"
        case "range":
            assert isinstance(condition, Range)
            low = "at_least" if condition.low_included else "above"
            high = "at_most" if condition.high_included else "below"
            return f"{field}.{high if position or condition.low is None else low}"
    return field  # the value of a source


def _written(condition: Condition) -> str:
    """Return the name of a condition on values, as the request has it."""
    name = condition.field.rpartition(".")[2]
    return name if name in ("equals", "contains") else "is_in"


def _type_name(value: Scalar) -> str:
    for kind, name in ((str, "string"), (bool, "bool"), (int, "int64")):
        if isinstance(value, kind):
            return name
    return "double"
