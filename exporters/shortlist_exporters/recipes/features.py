"""From the columns of a data set to the inputs of a model.

Everything is worked out as the manifest's transforms, so that training, which runs them through the
server's own `Featurizer`, and serving see the same numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from shortlist_server.bundle.manifest import TEXT_SOURCE, Feature, Input, ValueType
from shortlist_server.bundle.transforms import Bucketize, Lookup, Normalize, Pad, Transform
from shortlist_server.runtime.featurize import Featurizer, VocabularyIndex

VOCABULARY_MAX = 10_000
"""Tokens that a column's vocabulary holds, the most frequent ones. Ids are not bounded by it."""

LIST_LENGTH_MAX = 32
"""Elements that are used of a list."""

BUCKET_COUNT = 20
"""Buckets of equal share into which numbers are put."""

NEARLY_UNIQUE = 0.5
"""Share of distinct texts from which a column names its row (a title) rather than describes it."""

NAME_LENGTH_MAX = 100
"""Characters of a column's name: what a manifest holds, with room for `user.` and `_bucket`."""

SMALL_COLUMN = 50
"""Distinct texts up to which a column is used whatever their share."""

TEXT_INPUT = "text_embedding"
"""No column's input is called so: those begin with the side."""

Side = Literal["user", "item", "context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """One input of a model, and how many rows its embedding has."""

    declared: Input
    """As the export spec declares it; its first axis is `batch`."""
    index_count: int
    """How many indices it takes, from 0. 0 for plain numbers, which have no embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSet:
    """What one side of a model is fed with."""

    side: Side
    features: tuple[Feature, ...] = ()
    inputs: tuple[ModelInput, ...] = ()
    vocabularies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Columns that are not used, with the reason."""

    def __add__(self, other: FeatureSet) -> FeatureSet:
        return FeatureSet(
            side=self.side,
            features=self.features + other.features,
            inputs=self.inputs + other.inputs,
            vocabularies={**self.vocabularies, **other.vocabularies},
            skipped={**self.skipped, **other.skipped},
        )

    def tensors(self, table: pa.Table) -> dict[str, NDArray[Any]]:
        """Return the inputs for every row of a table, by input name; but for points of texts.

        Args:
            table: A column `id`, and one for each feature, by its name without `user.` or the like.
        """
        vocabularies = {name: VocabularyIndex(tokens) for name, tokens in self.vocabularies.items()}
        defaults = {feature.name: feature.default for feature in self.features}
        return {
            tensor.declared.name: Featurizer(
                tensor.declared,
                default=defaults.get(tensor.declared.source, ""),
                vocabularies=vocabularies,
            )(table[tensor.declared.source.partition(".")[2]].to_pylist())
            for tensor in self.inputs
            if tensor.declared.source != TEXT_SOURCE
        }


def id_features(side: Side, ids: pa.ChunkedArray) -> FeatureSet:
    """Return the ids as a feature: an index for each, in their order, and 0 for an unknown one."""
    tokens = tuple(pc.unique(ids).to_pylist())
    source = f"{side}.id"
    return FeatureSet(
        side=side,
        inputs=(_looked_up(f"{side}_id", source, source, len(tokens)),),
        vocabularies={source: tokens},
    )


def text_features(dimension: int) -> FeatureSet:
    """Return the points of the items' texts as a feature; see `Examples`, which has them.

    Args:
        dimension: Components of a point.
    """
    declared = Input(
        name=TEXT_INPUT, dtype="float32", shape=["batch", dimension], source=TEXT_SOURCE
    )
    return FeatureSet(side="item", inputs=(ModelInput(declared=declared, index_count=0),))


def column_features(side: Side, table: pa.Table) -> FeatureSet:
    """Return what the columns of a table tell a model.

    Texts and lists of texts become indices; numbers become a normalised number and a bucket; truth
    values become 0 or 1. A column that has one value, or a text for nearly every row, tells nothing
    and is skipped.

    Args:
        side: Whose table it is.
        table: A column `id`, which is left out, and others of the types of a `Dataset`.
    """
    found = FeatureSet(side=side)
    for name in table.column_names:
        if name == "id":
            continue
        if not re.fullmatch(f".{{1,{NAME_LENGTH_MAX}}}", name):
            found += _skip(
                side, name, f"its name is not 1 to {NAME_LENGTH_MAX} characters in one line"
            )
        else:
            stem = f"{side}_{re.sub(r'[^A-Za-z0-9]+', '_', name)}"
            taken = {tensor.declared.name for tensor in found.inputs}
            # Two columns may differ in nothing that a tensor's name can hold.
            while stem in taken or f"{stem}_bucket" in taken:
                stem += "_"
            found += _column(side, name, stem, table[name])
    return found


def time_features(times: pa.ChunkedArray) -> FeatureSet:
    """Return the time of the request as a feature, `context.time`; empty where no time is known.

    A request that does not say otherwise is asked as of the newest interaction.
    """
    known = times.drop_null()
    if not len(known) or pc.count_distinct(known).as_py() < 2:
        return FeatureSet(side="context")
    return _numbers("context", "time", "context_time", times, default=pc.max(known).as_py())


def _column(side: Side, name: str, stem: str, values: pa.ChunkedArray) -> FeatureSet:
    kind = values.type
    if pa.types.is_floating(kind):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, kind), values)
    known = values.drop_null()
    flat = pc.list_flatten(known) if pa.types.is_list(kind) else known
    if not len(flat) or (not pa.types.is_list(kind) and pc.count_distinct(flat).as_py() < 2):
        return _skip(side, name, "the same value everywhere")
    if pa.types.is_string(kind):
        return _texts(side, name, stem, known)
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return _text_lists(side, name, stem, known)
    if pa.types.is_integer(kind):
        middle = pc.quantile(known, 0.5, interpolation="lower")[0].as_py()
        return _numbers(side, name, stem, known, default=int(middle))
    if pa.types.is_floating(kind):
        return _numbers(side, name, stem, known, default=pc.quantile(known, 0.5)[0].as_py())
    if pa.types.is_boolean(kind):
        return _truths(side, name, stem)
    return _skip(side, name, f"no use for type {kind}")


def _skip(side: Side, name: str, reason: str) -> FeatureSet:
    return FeatureSet(side=side, skipped={f"{side}.{name}": reason})


def _texts(side: Side, name: str, stem: str, known: pa.ChunkedArray) -> FeatureSet:
    distinct = pc.count_distinct(known).as_py()
    if distinct > max(SMALL_COLUMN, NEARLY_UNIQUE * len(known)):
        return _skip(side, name, f"nearly every row has its own text ({distinct} of {len(known)})")
    source, tokens = f"{side}.{name}", _frequent_tokens(known)
    if not tokens:
        return _skip(side, name, "no text occurs twice")
    return FeatureSet(
        side=side,
        features=(_feature(source, "string", ""),),
        inputs=(_looked_up(stem, source, source, len(tokens)),),
        vocabularies={source: tokens},
    )


def _looked_up(name: str, source: str, vocabulary: str, size: int) -> ModelInput:
    declared = Input(
        name=name,
        dtype="int64",
        shape=["batch"],
        source=source,
        transforms=[Lookup(vocabulary=vocabulary)],
    )
    return ModelInput(declared=declared, index_count=size + 1)


def _text_lists(side: Side, name: str, stem: str, known: pa.ChunkedArray) -> FeatureSet:
    source, tokens = f"{side}.{name}", _frequent_tokens(pc.list_flatten(known))
    if not tokens:
        return _skip(side, name, "no text occurs twice")
    length = min(pc.max(pc.list_value_length(known)).as_py(), LIST_LENGTH_MAX)
    declared = Input(
        name=stem,
        dtype="int64",
        shape=["batch", length],
        source=source,
        # The mask token keeps index 0 free for padding.
        transforms=[
            Lookup(vocabulary=source, mask_token=""),
            Pad(length=length, keep="first", value=0),
        ],
    )
    return FeatureSet(
        side=side,
        features=(_feature(source, "string_list", []),),
        inputs=(ModelInput(declared=declared, index_count=len(tokens) + 2),),
        vocabularies={source: tokens},
    )


def _frequent_tokens(values: pa.ChunkedArray) -> tuple[str, ...]:
    """Return the most frequent texts, by frequency, then by text.

    A text that occurs once stays out: it teaches the model what to make of unknown ones.
    """
    counted = [
        (-entry["counts"].as_py(), entry["values"].as_py()) for entry in pc.value_counts(values)
    ]
    return tuple(text for count, text in sorted(counted)[:VOCABULARY_MAX] if count < -1 and text)


def _numbers(
    side: Side, name: str, stem: str, values: pa.ChunkedArray, *, default: float
) -> FeatureSet:
    source = f"{side}.{name}"
    numbers = np.asarray(values.drop_null(), np.float64)
    # Few distinct values (a month, a number of stars) get a bucket each, many get buckets of equal
    # share.
    distinct = np.unique(numbers)
    if len(distinct) <= BUCKET_COUNT:
        boundaries = (distinct[1:] + distinct[:-1]) / 2
    else:
        boundaries = np.unique(np.quantile(numbers, np.arange(1, BUCKET_COUNT) / BUCKET_COUNT))
    normalize = Normalize(mean=float(numbers.mean()), variance=float(numbers.var()))
    bucketize = Bucketize(boundaries=boundaries.tolist())
    kind: ValueType = "int64" if pa.types.is_integer(values.type) else "double"
    return FeatureSet(
        side=side,
        features=(_feature(source, kind, default),),
        inputs=(
            _single(stem, source, "float32", [normalize], 0),
            _single(f"{stem}_bucket", source, "int64", [bucketize], len(boundaries) + 1),
        ),
    )


def _truths(side: Side, name: str, stem: str) -> FeatureSet:
    source = f"{side}.{name}"
    return FeatureSet(
        side=side,
        features=(_feature(source, "bool", False),),
        inputs=(_single(stem, source, "float32", [], 0),),
    )


def _single(
    name: str,
    source: str,
    dtype: Literal["float32", "int64"],
    transforms: list[Transform],
    index_count: int,
) -> ModelInput:
    declared = Input(name=name, dtype=dtype, shape=["batch"], source=source, transforms=transforms)
    return ModelInput(declared=declared, index_count=index_count)


def _feature(name: str, kind: ValueType, default: Any) -> Feature:
    return Feature(name=name, type=kind, default=default)
