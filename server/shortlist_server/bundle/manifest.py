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
    Field,
    StringConstraints,
    model_validator,
)

from shortlist_server.bundle.sections import (
    Compaction,
    FileName,
    Index,
    Prompts,
    Scalar,
    Section,
    Sources,
    Strings,
    Texts,
)
from shortlist_server.bundle.transforms import Name, Part, Transform

FORMAT_VERSION = 1
"""The newest format that this version writes and reads."""

FeatureName = Annotated[
    str, StringConstraints(pattern=r"^(user|item|context)\..+$", min_length=6, max_length=160)
]
ValueType = Literal[
    "string", "int64", "double", "bool", "string_list", "int64_list", "double_list", "bool_list"
]
Dtype = Literal["float32", "float64", "int32", "int64", "bool"]
TEXT_SOURCE = "text.embedding"
"""Source of inputs that take the point of an item's text as it is."""


class File(Part):
    """One file of the bundle, as it must be."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(ge=0)]


class Column(Part):
    """A typed column over N rows. A list column has N + 1 offsets into its flat values."""

    name: Name
    type: ValueType
    values: FileName | Strings
    """Strings for `string` and `string_list`; else int64, float64 or bool [N], or [total] for a
    list.
    """
    list_offsets: FileName | None = None
    """int64 [N + 1] for list types: row i holds values `list_offsets[i]` to `list_offsets[i +
    1]`.
    """
    valid: FileName | None = None
    """bool [N]: False where the row has no value. Absent means that every row has one."""


class Vocabulary(Part):
    """Known tokens, in order. Shared by name between model inputs."""

    type: Literal["string", "int64"]
    tokens: FileName | Strings
    """Strings for `string`, int64 [N] for `int64`."""


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
            pattern=r"^((user|item|context)\..+|history\.(item_id|rating|time)|retrieval\.score|text\.embedding|request\.index)$"
        ),
    ]
    """Where the value comes from: the name of a feature; `history.item_id`, `history.rating` or
    `history.time`, lists over the user's history, oldest first; `retrieval.score`;
    `text.embedding`, the point of the item's text, zeros where it has none; or
    `request.index`: for each candidate, which row of the request-side inputs it belongs to. A model
    with a `request.index` input takes request-side inputs once per request, any other takes them
    repeated for each candidate.
    """
    transforms: list[Transform] = Field(default=[])

    @model_validator(mode="after")
    def _takes_points_as_they_are(self) -> Input:
        if self.source == TEXT_SOURCE and (
            self.dtype != "float32" or len(self.shape) != 2 or self.transforms
        ):
            raise ValueError(
                f"input {self.name!r} from {TEXT_SOURCE!r}: expected float32 [batch, dimension] "
                f"and no transforms, got {self.dtype} {self.shape} and {len(self.transforms)}"
            )
        return self


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

    file: FileName
    inputs: Annotated[list[Input], Field(min_length=1)]
    outputs: Annotated[list[Output], Field(min_length=1)]
    tolerance: Tolerance = Tolerance()


class Items(Part):
    """The catalogue. Row i of everything here is the same item."""

    ids: Strings
    embeddings: FileName
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
    values: FileName
    """float32: query_tower [requests, dimension], item_tower [requests, items, dimension], ranker
    [requests, items].
    """


class Golden(Part):
    """Requests with the outputs that they must give."""

    requests: FileName
    """JSON, see `docs/bundle.md`."""
    origin: Name
    """What computed the outputs: `tensorflow`, or `onnxruntime` where the models came as ONNX
    files.
    """
    outputs: list[GoldenOutput]


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

    rows: FileName
    """int64 [n]: rows of the catalogue, most popular first."""
    scores: FileName
    """float32 [n]: never rising."""


class Users(Section):
    """Known users: their features and what they have seen."""

    ids: Strings
    columns: list[Column]
    seen_offsets: FileName
    """int64 [users + 1]: user i has seen items `seen_rows[seen_offsets[i]:seen_offsets[i + 1]]`."""
    seen_rows: FileName
    """int64 [total]: rows of the catalogue, oldest first within a user."""


SECTIONS: dict[str, type[Section]] = {
    "query_tower": Tower,
    "item_tower": Tower,
    "ranker": Ranker,
    "popularity": Popularity,
    "users": Users,
    "sources": Sources,
    "compaction": Compaction,
    "texts": Texts,
    "prompts": Prompts,
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
    files: dict[FileName, File]
    """Every file of the bundle but the manifest itself."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Manifest:
        for what, names in (
            ("item columns", [column.name for column in self.items.columns]),
            ("features", [feature.name for feature in self.features]),
            ("user columns", [column.name for column in self.users.columns] if self.users else []),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{what}: {twice[0]!r} is there twice")
        for name, vocabulary in self.vocabularies.items():
            if isinstance(vocabulary.tokens, Strings) != (vocabulary.type == "string"):
                raise ValueError(
                    f"vocabulary {name!r}: its tokens are not of type {vocabulary.type}"
                )
        if self.ranker is not None:
            outputs = [output.name for output in self.ranker.model.outputs]
            if unknown := sorted(set(self.ranker.weights) - set(outputs)):
                raise ValueError(f"ranker weights: expected {outputs}, got {unknown[0]!r}")
        declared = {feature.name: feature.type for feature in self.features}
        for column in self.users.columns if self.users else []:
            wanted = declared.get(f"user.{column.name}", column.type)
            if column.type != wanted and (column.type, wanted) != ("int64", "double"):
                raise ValueError(
                    f"user column {column.name!r}: expected {wanted}, as its feature, "
                    f"got {column.type}"
                )
        self._check_sources(declared)
        self._check_texts()
        self._check_text_inputs()
        if not 1970 <= self.created.year <= 9000:
            raise ValueError(f"created: expected a year from 1970 to 9000, got {self.created}")
        return self

    def _check_sources(self, declared: dict[str, ValueType]) -> None:
        columns = {column.name: column.type for column in self.items.columns}
        for entry in self.sources.list if self.sources else ():
            if not entry.attribute:
                continue
            if entry.attribute not in columns:
                raise ValueError(f"source: {entry.attribute!r} is no item column")
            if entry.feature and entry.feature not in declared:
                raise ValueError(f"source: {entry.feature!r} is no declared feature")
            wanted = columns[entry.attribute].removesuffix("_list")
            if entry.feature:
                got = declared[entry.feature].removesuffix("_list")
            else:
                got = {str: "string", bool: "bool", int: "int64"}.get(type(entry.value), "double")
            if got != wanted and (got, wanted) != ("int64", "double"):
                raise ValueError(
                    f"source: {entry.feature or entry.value!r}: expected {wanted}, the type of "
                    f"{entry.attribute}, got {got}"
                )

    def _check_texts(self) -> None:
        columns = {column.name: column.type for column in self.items.columns}
        for name in self.texts.attributes if self.texts else ():
            if (got := columns.get(name, "string")) not in ("string", "string_list"):
                raise ValueError(
                    f"texts: item column {name!r}: expected string or string_list, got {got}"
                )

    def _check_text_inputs(self) -> None:
        for name, model in self.models.items():
            for tensor in model.inputs:
                if tensor.source != TEXT_SOURCE:
                    continue
                where = f"{name}: input {tensor.name!r} from {TEXT_SOURCE!r}"
                if name == "query_tower":
                    raise ValueError(f"{where}: expected a source of the request")
                if self.texts is None:
                    raise ValueError(f"{where}: expected a section `texts`, got none")
                if tensor.shape[1] not in (self.texts.dimension, str(tensor.shape[1])):
                    raise ValueError(
                        f"{where}: expected [batch, {self.texts.dimension}], the dimension of "
                        f"the texts, got {tensor.shape}"
                    )

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

    @property
    def sources(self) -> Sources | None:
        """The sources of candidates, if the bundle says."""
        return self._section("sources", Sources)

    @property
    def compaction(self) -> Compaction | None:
        """What a server notes that has folded changes in; None in a bundle as exported."""
        return self._section("compaction", Compaction)

    @property
    def texts(self) -> Texts | None:
        """The text embeddings of the items, if the bundle has them."""
        return self._section("texts", Texts)

    @property
    def prompts(self) -> Prompts | None:
        """The prompts for language models, if the bundle has its own."""
        return self._section("prompts", Prompts)

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
