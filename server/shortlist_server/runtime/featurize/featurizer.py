"""Featurizer: raw values to one model input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.manifest import Input
from shortlist_server.bundle.sections import Scalar
from shortlist_server.errors import BundleCorrupt, FieldRequired, InvalidValue, RequestError
from shortlist_server.runtime.featurize.elements import VocabularyIndex
from shortlist_server.runtime.featurize.lists import Lengths, flatten
from shortlist_server.runtime.featurize.plan import plan
from shortlist_server.runtime.featurize.values import Raw


class Featurizer:
    """Turns the raw values of one source into one model input.

    A value gives the same numbers alone as in any batch. No call changes it: threads may share it.
    """

    def __init__(
        self,
        declared: Input,
        *,
        default: Scalar | Sequence[Scalar] | None,
        vocabularies: Mapping[str, VocabularyIndex],
    ) -> None:
        """Prepare the transforms of an input.

        Args:
            declared: The input.
            default: Stands in for absent values, and shows of which type they are: a list for list
                sources. None where no value is ever absent; they are scalars then, but `history.*`.
            vocabularies: By name, at least those that the transforms use.

        Raises:
            BundleCorrupt: the transforms cannot work on such values, or cannot give the tensor.
            MissingExtra: they hash, and farmhash is not installed.
        """
        self._source = declared.source
        self._default = default
        self._dtype = np.dtype(declared.dtype)
        self._plan = plan(declared, default, vocabularies)
        self._one = self._plan.one
        self._tail = self._plan.tail
        if default is not None:
            try:
                self((None,))
            except RequestError as error:
                raise BundleCorrupt(
                    f"input {declared.name!r} from {declared.source!r}: default {default!r}: "
                    f"expected {error.expected}, got {error.got}; correct the default"
                ) from error

    def __call__(self, values: Sequence[Raw] | NDArray[Any]) -> NDArray[Any]:
        """Return the input for n values: [n, *declared.shape[1:]], of the declared dtype.

        Raises:
            FeatureTypeMismatch: a value is not of a type that the transforms take.
            FieldRequired: a value is absent and there is no default.
            InvalidValue: lists that are not padded have different lengths, or a text is no Unicode.
            OutOfRange: an integer is too large, or an index is not below the size of multi_hot.
        """
        try:
            if self._one is not None and len(values) == 1:
                return self._single(values[0])
            return self._batch(values)
        except UnicodeEncodeError as error:
            raise InvalidValue(
                self._source, expected="Unicode text", got="a lone surrogate"
            ) from error

    def _single(self, value: Any) -> NDArray[Any]:
        assert self._one is not None
        if value is None:
            value = self._absent()
        for transform in self._one:
            value = transform(value)
        single = np.array((value,), self._dtype)
        return single.reshape(1, *self._tail) if self._tail else single

    def _batch(self, values: Sequence[Raw] | NDArray[Any]) -> NDArray[Any]:
        flat: Any = self._present(values)
        lengths: Lengths | None = None
        if self._plan.takes_lists:
            flat, lengths = flatten(flat, self._source)
        for step in self._plan.steps:
            flat, lengths = step(flat, lengths)
        tail = self._tail
        if -1 in tail:
            tail = tuple(self._common(lengths) if axis == -1 else axis for axis in tail)
        array: NDArray[Any] = flat.astype(self._dtype, copy=False).reshape(len(values), *tail)
        return array

    def _present(self, values: Sequence[Raw] | NDArray[Any]) -> Sequence[Raw] | NDArray[Any]:
        """Return the values with the default where there is none."""
        if isinstance(values, np.ndarray) and values.dtype != object:
            return values
        if not isinstance(values, list | tuple):
            # A StringArray decodes all its texts whenever something goes over them.
            values = list(values)
        if any(map(is_, values, repeat(None))):
            default = self._absent()
            return [default if value is None else value for value in values]
        return values

    def _absent(self) -> Any:
        if self._default is None:
            raise FieldRequired(self._source, expected="a value: there is no default", got="none")
        return self._default

    def _common(self, lengths: Any) -> int:
        """Return how long all lists are."""
        if not len(lengths):
            return 0
        if lengths.min() != lengths.max():
            raise InvalidValue(
                self._source,
                expected="lists of one length, since the input does not pad them",
                got=f"{lengths.min()} to {lengths.max()} elements",
            )
        return int(lengths[0])
