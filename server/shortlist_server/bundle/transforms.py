"""Transforms: what happens to a raw value on its way into a model, in order.

Each equals a Keras preprocessing layer, so that training and serving see the same numbers;
`runtime/featurize` implements them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Part(BaseModel):
    """Base of everything in a manifest: immutable, and no field is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Lookup(Part):
    """Token -> its index (Keras StringLookup, IntegerLookup).

    Indices: the mask token (if any) is 0; then `oov_count` indices for unknown tokens; then the
    vocabulary.
    """

    kind: Literal["lookup"] = "lookup"
    vocabulary: Name
    """Without special tokens: Keras's `get_vocabulary(include_special_tokens=False)`."""
    mask_token: str | int | None = None
    """Of the vocabulary's type, and not in it."""
    oov_count: Annotated[int, Field(ge=1)] = 1


class Hash(Part):
    """Value -> bucket by FarmHash64 fingerprint of its text (Keras Hashing without salt).

    With a mask value, that value is bucket 0 and the others share buckets 1 to `bins - 1`.
    """

    kind: Literal["hash"] = "hash"
    bins: Annotated[int, Field(ge=1)]
    mask_value: str | int | None = None


class Bucketize(Part):
    """Number -> index of its bucket (Keras Discretization): 0 below the first boundary.

    Numbers and boundaries are compared as float32, as inside a Keras model.
    """

    kind: Literal["bucketize"] = "bucketize"
    boundaries: Annotated[list[float], Field(min_length=1)]
    """Never falling."""


class Normalize(Part):
    """Number -> (number - mean) / max(sqrt(variance), 1e-7), in float32 (Keras Normalization)."""

    kind: Literal["normalize"] = "normalize"
    mean: float
    variance: Annotated[float, Field(ge=0)]


class Tokenize(Part):
    """Text -> list of token indices (Keras TextVectorization, output mode int).

    Index 0 is padding, 1 an unknown token, the vocabulary begins at 2. Keras's
    `output_sequence_length=n` is a Pad behind it with `length` n that keeps the `first`.
    """

    kind: Literal["tokenize"] = "tokenize"
    vocabulary: Name
    standardize: Literal["lower_and_strip_punctuation", "lower", "strip_punctuation"] | None = (
        "lower_and_strip_punctuation"
    )
    split: Literal["whitespace", "character"] | None = "whitespace"


class Pad(Part):
    """List -> list of exactly `length` elements."""

    kind: Literal["pad"] = "pad"
    length: Annotated[int, Field(ge=1, le=4096)]
    side: Literal["left", "right"] = "right"
    """Which side the padding goes."""
    keep: Literal["first", "last"] = "last"
    """Which elements of a longer list are kept. Histories are oldest first, so `last` keeps the
    newest.
    """
    value: float = 0
    """What it is padded with."""


class Length(Part):
    """List -> its length, at most `maximum`: the `sequence_lens` of a recurrent model."""

    kind: Literal["length"] = "length"
    maximum: Annotated[int, Field(ge=1, le=4096)]


class MultiHot(Part):
    """List of indices -> float32 vector with 1 where an index occurs (Keras CategoryEncoding,
    multi_hot).
    """

    kind: Literal["multi_hot"] = "multi_hot"
    size: Annotated[int, Field(ge=1, le=65536)]


Transform = Annotated[
    Lookup | Hash | Bucketize | Normalize | Tokenize | Pad | Length | MultiHot,
    Field(discriminator="kind"),
]
