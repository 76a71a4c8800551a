"""What has to be done with raw values to make an input of them.

What cannot work is refused here, before there is a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import numpy as np

from shortlist_server.bundle.manifest import Input
from shortlist_server.bundle.sections import Scalar
from shortlist_server.bundle.transforms import (
    Bucketize,
    Hash,
    Length,
    Lookup,
    MultiHot,
    Normalize,
    Pad,
    Tokenize,
    Transform,
)
from shortlist_server.errors import BundleCorrupt, RequestError
from shortlist_server.runtime.featurize.elements import (
    Buckets,
    Cast,
    ElementTransform,
    Normalization,
    TextHash,
    TokenLookup,
    VocabularyIndex,
    hash_kinds,
    vocabulary_kinds,
)
from shortlist_server.runtime.featurize.lists import HotVectors, Lengths, Padding
from shortlist_server.runtime.featurize.text import Tokenizer
from shortlist_server.runtime.featurize.values import (
    NUMERIC,
    REAL,
    TEXT,
    WHOLE_OR_BOOL,
    kinds_of,
    narrow,
)

Step = Callable[[Any, Any], tuple[Any, Lengths | None]]
"""From all elements and the lengths of their lists (None: no lists) to the same, one step on."""

Rows = Literal["scalar", "list"] | int
"""What there is for each value: a scalar, a list of any length, or a list of this length."""

EXACT_MAX = {"bool": 1, "int32": 2**31 - 1, "int64": 2**63 - 1, "float32": 2**24, "float64": 2**53}
"""Up to which each dtype holds all natural numbers."""

SPECIAL_FIRST_TOKENS = ("[UNK]", -1)
"""What Keras's `get_vocabulary()` puts first where there is one OOV index and no mask."""

KNOWN_ONLY = "known tokens only, as get_vocabulary(include_special_tokens=False) gives them"

SOURCES: dict[str, tuple[frozenset[str], Rows]] = {
    "user.id": (TEXT, "scalar"),
    "item.id": (TEXT, "scalar"),
    "history.item_id": (TEXT, "list"),
    "history.rating": (frozenset({"double"}), "list"),
    "history.time": (frozenset({"int64"}), "list"),
}
"""Kinds of the values of the sources that are no declared features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do with values."""

    takes_lists: bool
    steps: tuple[Step, ...]
    one: tuple[Callable[[Any], Any], ...] | None
    """The same for a single scalar that becomes a single number; None where it becomes more."""
    tail: tuple[int, ...]
    """Shape after the batch axis; -1 where it is the length of the lists."""


def plan(
    declared: Input,
    default: Scalar | Sequence[Scalar] | None,
    vocabularies: Mapping[str, VocabularyIndex],
) -> Plan:
    """Plan the transforms of an input.

    Raises:
        BundleCorrupt: they cannot work on such values, or cannot give the declared tensor.
        MissingExtra: they hash, and farmhash is not installed.
    """
    planner = _Planner(declared, default, vocabularies)
    for number, transform in enumerate(declared.transforms, 1):
        planner.add(transform, f"transform {number} ({transform.kind})")
    return planner.finish()


class _Planner:
    """Follows kinds, range and shape of the values through the transforms."""

    def __init__(
        self,
        declared: Input,
        default: Scalar | Sequence[Scalar] | None,
        vocabularies: Mapping[str, VocabularyIndex],
    ) -> None:
        self._declared = declared
        self._vocabularies = vocabularies
        self._where = "values"
        self._kinds, self._rows = SOURCES.get(declared.source) or _kinds_and_rows(default)
        self._takes_lists = self._rows == "list"
        self._steps: list[Step] = []
        self._one: list[Callable[[Any], Any]] | None = None if self._takes_lists else []
        self._raw = True
        self._bound: int | None = None
        """All elements are indices below this."""
        self._pad: Pad | None = None
        """Done last: what follows it is done to the elements and to the value that pads."""
        self._pad_value: float = 0
        self._pad_where = ""
        self._final = False

    def add(self, transform: Transform, where: str) -> None:
        self._where = where
        if self._final:
            raise self._refusal("multi_hot to be the last transform", "another after it")
        match transform:
            case Lookup():
                self._add_lookup(transform)
            case Hash():
                self._take(hash_kinds(transform))
                self._add_element(TextHash(transform, self._declared.source), transform.bins)
            case Bucketize():
                self._add_bucketize(transform)
            case Normalize():
                self._add_normalize(transform)
            case Tokenize():
                self._add_tokenize(transform)
            case Pad():
                self._add_pad(transform)
            case Length():
                self._add_length(transform.maximum)
            case MultiHot():
                self._add_multi_hot(transform.size)
            case _:
                assert_never(transform)

    def finish(self) -> Plan:
        """Add what leads to the declared tensor."""
        dtype = self._declared.dtype
        self._where = f"dtype {dtype}"
        if self._raw:
            self._take(NUMERIC if dtype.startswith("float") else WHOLE_OR_BOOL)
            self._add_element(Cast(np.dtype(dtype), self._declared.source), None)
        elif self._bound is None and not dtype.startswith("float"):
            raise self._refusal("a dtype of fractions, float32 or float64", dtype)
        self._add_padding()
        if self._bound is not None and self._bound - 1 > EXACT_MAX[dtype]:
            raise self._refusal(
                f"indices that it holds exactly, up to {EXACT_MAX[dtype]}",
                f"up to {self._bound - 1}",
            )
        return Plan(
            takes_lists=self._takes_lists,
            steps=tuple(self._steps),
            one=None if self._one is None else tuple(self._one),
            tail=self._tail(),
        )

    def _take(self, allowed: frozenset[str]) -> None:
        if not self._kinds & allowed:
            raise self._refusal(" or ".join(sorted(allowed)), " or ".join(sorted(self._kinds)))

    def _refusal(self, expected: str, got: str) -> BundleCorrupt:
        return BundleCorrupt(
            f"input {self._declared.name!r} from {self._declared.source!r}: {self._where}: "
            f"expected {expected}, got {got}; correct the input and export the bundle again"
        )

    def _add_element(self, transform: ElementTransform, bound: int | None) -> None:
        def step(flat: Any, lengths: Lengths | None) -> tuple[Any, Lengths | None]:
            return transform.many(flat), lengths

        self._steps.append(step)
        if self._one is not None:
            self._one.append(transform.one)
        if self._pad is not None:
            try:
                self._pad_value = transform.one(self._pad_value)
            except RequestError as error:
                got = f"{error.got}: {self._pad_value!r}, the padding"
                raise self._refusal(error.expected, got) from error
        self._raw = False
        self._bound = bound
        self._kinds = frozenset({"double" if bound is None else "int64"})

    def _vocabulary(self, name: str) -> VocabularyIndex:
        if name not in self._vocabularies:
            known = sorted(self._vocabularies)
            raise self._refusal(f"a vocabulary of the bundle, one of {known}", repr(name))
        return self._vocabularies[name]

    def _add_lookup(self, declared: Lookup) -> None:
        vocabulary = self._vocabulary(declared.vocabulary)
        self._take(vocabulary_kinds(vocabulary))
        mask = declared.mask_token
        if mask is not None and not kinds_of((mask,)) <= vocabulary_kinds(vocabulary):
            raise self._refusal(f"a mask token of type {vocabulary.type}", repr(mask))
        if mask in vocabulary:
            raise self._refusal("a mask token that is not in the vocabulary", repr(mask))
        if mask is None and declared.oov_count == 1 and vocabulary.first in SPECIAL_FIRST_TOKENS:
            raise self._refusal(
                KNOWN_ONLY, f"{vocabulary.first!r}, Keras's OOV token, as its first"
            )
        lookup = TokenLookup(declared, vocabulary, self._declared.source)
        self._add_element(lookup, lookup.bound)

    def _add_bucketize(self, declared: Bucketize) -> None:
        self._take(REAL)
        boundaries = declared.boundaries
        # Equal ones are fine with Keras: the bucket between them stays empty.
        if not all(map(_is_float32, boundaries)) or boundaries != sorted(boundaries):
            raise self._refusal("boundaries within float32 that never fall", str(boundaries))
        self._add_element(Buckets(declared, self._declared.source), len(boundaries) + 1)

    def _add_normalize(self, declared: Normalize) -> None:
        self._take(NUMERIC)
        if not _is_float32(declared.mean) or not _is_float32(declared.variance):
            got = f"{declared.mean} and {declared.variance}"
            raise self._refusal("mean and variance within float32", got)
        self._add_element(Normalization(declared, self._declared.source), None)

    def _add_tokenize(self, declared: Tokenize) -> None:
        self._take(TEXT)
        if self._rows != "scalar":
            raise self._refusal("one text", "a list")
        vocabulary = self._vocabulary(declared.vocabulary)
        if vocabulary.type == "int64":
            raise self._refusal("a vocabulary of type string", "int64")
        if "" in vocabulary:
            raise self._refusal(KNOWN_ONLY, "the empty text, Keras's padding token")
        tokenizer = Tokenizer(declared, vocabulary, self._declared.source)
        self._steps.append(lambda flat, _: tokenizer(flat))
        self._one = None
        self._rows = 1 if declared.split is None else "list"
        self._raw, self._bound, self._kinds = False, tokenizer.bound, frozenset({"int64"})

    def _add_pad(self, declared: Pad) -> None:
        if self._rows == "scalar":
            raise self._refusal("a list", "a scalar")
        if self._pad is not None:
            raise self._refusal(
                "lists that are not padded yet", f"{self._pad.length} elements always"
            )
        if self._kinds == TEXT:
            raise self._refusal("indices or numbers: look texts up or hash them first", "string")
        self._pad, self._pad_where = declared, self._where
        whole = float(declared.value).is_integer()
        self._pad_value = int(declared.value) if whole else declared.value
        self._rows = declared.length

    def _add_padding(self) -> None:
        """Add the padding that was put off, now that the elements are what they will be."""
        if self._pad is None:
            return
        value: Any = self._pad_value
        if self._bound is not None:
            if not isinstance(value, int) or value < 0:
                # -1 would silently be the last row of an embedding table.
                self._where = self._pad_where
                raise self._refusal("an index to pad with, 0 or more", repr(value))
            self._bound = max(self._bound, value + 1)
        elif self._declared.dtype == "float32":
            value = narrow(float(value))
        padding = Padding(self._pad, value)
        self._steps.append(padding)
        self._pad = None

    def _add_length(self, maximum: int) -> None:
        if self._rows != "list":
            got = "a scalar" if self._rows == "scalar" else f"{self._rows} elements always"
            raise self._refusal("lists that are not padded yet", got)

        def step(_: Any, lengths: Any) -> tuple[Any, None]:
            return np.minimum(lengths, maximum), None

        self._steps.append(step)
        self._rows = "scalar"
        self._raw, self._bound, self._kinds = False, maximum + 1, frozenset({"int64"})

    def _add_multi_hot(self, size: int) -> None:
        self._take(WHOLE_OR_BOOL)
        checked = not self._raw
        if self._raw:
            self._add_element(Cast(np.dtype(np.int64), self._declared.source), size)
        self._add_padding()
        if self._bound is not None and self._bound > size:
            raise self._refusal(f"indices below its size, {size}", f"up to {self._bound - 1}")
        self._steps.append(HotVectors(size, self._declared.source, checked=checked))
        self._one = None
        self._rows, self._bound, self._final = size, 2, True

    def _tail(self) -> tuple[int, ...]:
        """Return the shape after the batch axis, which must be what the transforms give."""
        axes = self._declared.shape[1:]
        dynamic = [place for place, axis in enumerate(axes) if isinstance(axis, str)]
        sizes = [axis for axis in axes if isinstance(axis, int) and axis != 1]
        self._where = "shape"
        if self._rows == "list":
            if dynamic != [0] or sizes:
                got = str(self._declared.shape)
                raise self._refusal("a dynamic second axis for lists, or the transform pad", got)
            length = -1
        elif self._rows == "scalar":
            if dynamic or sizes:
                raise self._refusal("[batch] or [batch, 1] for scalars", str(self._declared.shape))
            length = 1
        else:
            length = self._rows
            wanted = [] if dynamic or length == 1 else [length]
            if len(dynamic) > 1 or sizes != wanted:
                raise self._refusal(f"[batch, {length}]", str(self._declared.shape))
        return tuple(length if isinstance(axis, str) else axis for axis in axes)


def _kinds_and_rows(default: Scalar | Sequence[Scalar] | None) -> tuple[frozenset[str], Rows]:
    """Return of which kinds a source's values can be, judging by its default."""
    rows: Rows = "list" if isinstance(default, list | tuple) else "scalar"
    examples: Any = default if rows == "list" else () if default is None else (default,)
    kinds = frozenset(kinds_of(examples)) or TEXT | NUMERIC
    # The default of a double feature may be written without a point.
    return kinds | REAL if "int64" in kinds else kinds, rows


def _is_float32(value: float) -> bool:
    return abs(value) <= float(np.finfo(np.float32).max)
