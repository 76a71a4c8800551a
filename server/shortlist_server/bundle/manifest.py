"""The manifest: what a bundle holds, and where every number of it comes from.

`docs/bundle.md` specifies the format in words. The server has no model-specific code: another
team's towers are another manifest.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

FORMAT_VERSION = 1
"""The newest format that this version writes and reads."""

Path = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$", max_length=256
    ),
]
"""A file of the bundle, relative to its folder. No absolute path, no `..`, no hidden file can be
spelled.
"""

Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
FeatureName = Annotated[
    str, StringConstraints(pattern=r"^(user|item|context)\..+$", min_length=6, max_length=160)
]
ValueType = Literal[
    "string", "int64", "double", "bool", "string_list", "int64_list", "double_list", "bool_list"
]
Dtype = Literal["float32", "float64", "int32", "int64", "bool"]
Scalar = str | bool | int | float


class Part(BaseModel):
    """Base of everything in a manifest: immutable, and no field is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class File(Part):
    """One file of the bundle, as it must be."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(ge=0)]


class Strings(Part):
    """N texts as two arrays: text i is `utf8[offsets[i]:offsets[i + 1]]`."""

    offsets: Path
    """int64 [N + 1], beginning with 0, never falling."""
    utf8: Path
    """uint8 [bytes]."""


class Column(Part):
    """A typed column over N rows. A list column has N + 1 offsets into its flat values."""

    name: Name
    type: ValueType
    values: Path | Strings
    """Strings for `string` and `string_list`; else int64, float64 or bool [N], or [total] for a
    list.
    """
    list_offsets: Path | None = None
    """int64 [N + 1] for list types: row i holds values `list_offsets[i]` to `list_offsets[i +
    1]`.
    """
    valid: Path | None = None
    """bool [N]: False where the row has no value. Absent means that every row has one."""


class Vocabulary(Part):
    """Known tokens, in order. Shared by name between model inputs."""

    type: Literal["string", "int64"]
    tokens: Path | Strings
    """Strings for `string`, int64 [N] for `int64`."""


# Transforms: what happens to a raw value on its way into a model, in order. Each equals a Keras
# preprocessing layer, so that training and serving see the same numbers; `runtime/featurize`
# implements them.


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


class Feature(Part):
    """A raw value that a request, a user table or an item column supplies."""

    name: FeatureName
    """`user.age`, `item.genres`, `context.hour`. `user.id` and `item.id` are the ids themselves."""
    type: ValueType
    default: Scalar | list[Scalar]
    """What is used where the value is absent; of the feature's type."""

    @model_validator(mode="after")
    def _default_of_type(self) -> Feature:
        kind = self.type.removesuffix("_list")
        held = self.default if isinstance(self.default, list) else [self.default]
        types = {"string": (str,), "int64": (int,), "double": (float, int), "bool": (bool,)}[kind]
        fits = isinstance(self.default, list) == self.type.endswith("_list") and all(
            isinstance(value, types) and (kind == "bool" or not isinstance(value, bool))
            for value in held
        )
        if not fits:
            raise ValueError(f"{self.name}: default must be {self.type}, got {self.default!r}")
        return self


class Input(Part):
    """One input tensor of a model."""

    name: Name
    dtype: Dtype
    shape: Annotated[list[int | str], Field(min_length=1)]
    """A text is a dynamic axis; the first is always dynamic."""
    source: Annotated[
        str,
        StringConstraints(
            pattern=r"^((user|item|context)\..+|history\.(item_id|rating|time)|retrieval\.score|request\.index)$"
        ),
    ]
    """Where the value comes from: the name of a feature; `history.item_id`, `history.rating` or
    `history.time`, lists over the user's history, oldest first; `retrieval.score`; or
    `request.index`: for each candidate, which row of the request-side inputs it belongs to. A model
    with a `request.index` input takes request-side inputs once per request, any other takes them
    repeated for each candidate.
    """
    transforms: list[Transform] = []


class Output(Part):
    """One output tensor of a model."""

    name: Name
    dtype: Literal["float32"] = "float32"
    shape: Annotated[list[int | str], Field(min_length=1)]


class Tolerance(Part):
    """Outputs agree where |a - b| <= absolute + relative * |b|, b being what training gave."""

    absolute: Annotated[float, Field(ge=0)] = 1e-5
    relative: Annotated[float, Field(ge=0)] = 1e-5


class Model(Part):
    """An ONNX model with the meaning of its tensors."""

    file: Path
    inputs: Annotated[list[Input], Field(min_length=1)]
    outputs: Annotated[list[Output], Field(min_length=1)]
    tolerance: Tolerance = Tolerance()


class Index(Part):
    """The nearest-neighbour index over the item embeddings; label i is row i."""

    kind: Literal["hnsw"] = "hnsw"
    file: Path
    m: Annotated[int, Field(ge=2, le=512)]
    ef_construction: Annotated[int, Field(ge=1, le=65536)]
    ef: Annotated[int, Field(ge=1, le=4096)]
    """Search width where a request does not set one."""
    seed: int


class Items(Part):
    """The catalogue. Row i of everything here is the same item."""

    ids: Strings
    embeddings: Path
    """float32 [items, dimension]; unit length where the metric is cosine."""
    columns: list[Column]


class Data(Part):
    """What the models were trained on."""

    name: str
    simulated: bool


class GoldenOutput(Part):
    """What one output of one model was for the golden requests, in the training framework."""

    model: Literal["query_tower", "item_tower", "ranker"]
    output: Name
    values: Path
    """float32: query_tower [requests, dimension], item_tower [requests, items, dimension], ranker
    [requests, items].
    """


class Golden(Part):
    """Requests with the outputs that they must give."""

    requests: Path
    """JSON, see `docs/bundle.md`."""
    origin: Name
    """What computed the outputs: `tensorflow`, or `onnxruntime` where the models came as ONNX
    files.
    """
    outputs: list[GoldenOutput]


# Sections: parts that a bundle may lack. A reader ignores an optional section that it does not know
# and refuses a required one by name.


class Section(Part):
    """Base of the sections."""

    required: bool


SectionT = TypeVar("SectionT", bound=Section)


class Tower(Section):
    """A tower: features in, one embedding out."""

    model: Model


class Ranker(Section):
    """The ranker: a query and candidates in, scores out."""

    model: Model
    weights: Annotated[dict[str, float], Field(min_length=1)]
    """Weight of each output in the ranking score; outputs not named have the weight 0."""


class Popularity(Section):
    """Items by popularity: the answer for users of whom nothing is known."""

    rows: Path
    """int64 [n]: rows of the catalogue, most popular first."""
    scores: Path
    """float32 [n]: never rising."""


class Users(Section):
    """Known users: their features and what they have seen."""

    ids: Strings
    columns: list[Column]
    seen_offsets: Path
    """int64 [users + 1]: user i has seen items `seen_rows[seen_offsets[i]:seen_offsets[i + 1]]`."""
    seen_rows: Path
    """int64 [total]: rows of the catalogue, oldest first within a user."""


SECTIONS: dict[str, type[Section]] = {
    "query_tower": Tower,
    "item_tower": Tower,
    "ranker": Ranker,
    "popularity": Popularity,
    "users": Users,
}
"""The sections that this version knows, by name."""


class Manifest(Part):
    """The whole manifest."""

    format_version: Literal[1]
    name: Name
    version: Name
    created: Annotated[datetime, Field(strict=False)]
    framework_versions: dict[str, str]
    data: Data
    metric: Literal["inner_product", "cosine", "l2"]
    dimension: Annotated[int, Field(ge=1, le=65536)]
    item_count: Annotated[int, Field(ge=1, le=2**31 - 1)]
    index: Index
    items: Items
    vocabularies: dict[str, Vocabulary]
    features: list[Feature]
    sections: dict[str, dict[str, Any]]
    """By name; `section()` gives them typed."""
    golden: Golden | None = None
    files: dict[Path, File]
    """Every file of the bundle but the manifest itself."""

    @property
    def query_tower(self) -> Tower | None:
        """The query tower, if the bundle has one."""
        return self._section("query_tower", Tower)

    @property
    def item_tower(self) -> Tower | None:
        """The item tower, if the bundle has one."""
        return self._section("item_tower", Tower)

    @property
    def ranker(self) -> Ranker | None:
        """The ranker, if the bundle has one."""
        return self._section("ranker", Ranker)

    @property
    def popularity(self) -> Popularity | None:
        """The popularity list, if the bundle has one."""
        return self._section("popularity", Popularity)

    @property
    def users(self) -> Users | None:
        """The known users, if the bundle has them."""
        return self._section("users", Users)

    def _section(self, name: str, kind: type[SectionT]) -> SectionT | None:
        body = self.sections.get(name)
        return None if body is None else kind.model_validate(body)

    @property
    def models(self) -> dict[str, Model]:
        """The models by section name: `query_tower`, `item_tower`, `ranker`."""
        sections = {
            "query_tower": self.query_tower,
            "item_tower": self.item_tower,
            "ranker": self.ranker,
        }
        return {name: section.model for name, section in sections.items() if section is not None}


def canonical_sha256(document: dict[str, Any]) -> str:
    """Return the identity of a manifest: SHA-256 of its JSON with sorted keys and no white
    space.
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
