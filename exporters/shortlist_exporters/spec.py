"""The export spec: trained models and their data, ready to become a bundle.

`shortlist-export train` writes one (`export.json`, beside the towers); who trained elsewhere writes
one by hand, in JSON or TOML. Its inputs, features and transforms are those of the manifest, so that
a spec says everything that a bundle needs and nothing twice. Paths are relative to the spec's
folder. `docs/bring-your-own-model.md` walks through an example.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from shortlist_server.bundle.manifest import Data, Feature, Input, Tolerance
from shortlist_server.bundle.sections import SourceEntry
from shortlist_server.bundle.transforms import Name

from shortlist_exporters.errors import SpecError


class Part(BaseModel):
    """Base of everything in a spec: immutable, and no field is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class VocabularySpec(Part):
    """Known tokens, in order."""

    file: str
    """A text file, UTF-8, one token a line; or `.json`, a list of strings (for tokens that hold
    line breaks).
    """
    type: Literal["string", "int64"] = "string"


class ModelSpec(Part):
    """A trained model: its file and the meaning of its inputs."""

    model: str
    """A TensorFlow SavedModel folder with a `serving_default` signature, or an `.onnx` file."""
    inputs: Annotated[list[Input], Field(min_length=1)]
    tolerance: Tolerance = Tolerance()


class TowerSpec(ModelSpec):
    """A tower: features in, one embedding [batch, dimension] float32 out."""

    output: Name
    """Name of the output tensor that is the embedding."""


class RankerSpec(ModelSpec):
    """A ranker: a query and candidates in, scores [candidates] or [candidates, 1] float32 out."""

    weights: Annotated[dict[str, float], Field(min_length=1)]
    """Weight of each output tensor in the ranking score."""


class TableSpec(Part):
    """A table of items or users: CSV or Parquet, one row each."""

    file: str
    id: str = "id"
    """Name of the column that holds the ids."""
    columns: list[str] | None = None
    """Which other columns to take; all where absent."""
    lists: dict[str, str] = {}
    """CSV only: columns that hold several values, with the separator between them."""


class ItemsSpec(TableSpec):
    """The catalogue."""

    embeddings: str | None = None
    """`.npy` file, float32 [items, dimension], rows in the order of the table. Absent: the item
    tower embeds them.
    """


class InteractionsSpec(Part):
    """What users did: gives seen items and popularity. CSV or Parquet."""

    file: str
    user: str = "user_id"
    item: str = "item_id"
    time: str | None = None
    """Column by which a user's items are put in order, oldest first; the file's order where
    absent.
    """


class GoldenSpec(Part):
    """Requests with the outputs that the training framework gave; recorded at export where
    absent.
    """

    requests: str
    """JSON as in the bundle, see `docs/bundle.md`."""
    outputs: dict[str, str]
    """`.npy` files by `model.output`, for example `query_tower.embedding`."""
    origin: str


class TextsSpec(Part):
    """The texts of the items, as points: for queries in words, and for models that read them."""

    attributes: Annotated[list[Name], Field(min_length=1, max_length=8)]
    """Names of what an item's text is made of, in order: item columns, or columns of `file`. Items
    that change later are embedded by their attributes of these names.
    """
    embedder: str | None = None
    """Folder of a local embedder; it goes into the bundle."""
    identity: str | None = None
    """Of the service that embedded the items, in place of `embedder`; needs `embeddings`."""
    file: str | None = None
    """CSV with the column `id`, and others of texts."""
    embeddings: str | None = None
    """`.npy` file, float32 [items, dimension], rows in the order of the items, of length 1, zeros
    where an item has no text. Absent: the local embedder embeds the texts.
    """

    @model_validator(mode="after")
    def _says_each_once(self) -> TextsSpec:
        if (self.embedder is None) == (self.identity is None):
            raise ValueError("expected either embedder or identity")
        if self.identity is not None and self.embeddings is None:
            raise ValueError("expected embeddings beside identity")
        if self.file is not None and self.embeddings is not None:
            raise ValueError("expected either file or embeddings")
        return self


class PromptsSpec(Part):
    """How language models are asked about the items."""

    rerank: str
    """TOML template of how candidates are put in order, see `docs/reranking.md`."""


class IndexSpec(Part):
    """How the HNSW index is built."""

    m: Annotated[int, Field(ge=2, le=512)] = 16
    """Links per item. More finds more of the true neighbours and takes more memory."""
    ef_construction: Annotated[int, Field(ge=1, le=65536)] = 200
    """Search width while building. More builds a better graph, slower."""
    ef: Annotated[int, Field(ge=1, le=4096)] = 200
    """Search width where a request does not set one."""
    seed: int = 42


class Spec(Part):
    """Everything that a bundle is made from."""

    name: Name
    metric: Literal["inner_product", "cosine", "l2"] = "inner_product"
    data: Data
    framework_versions: dict[str, str] = {}
    vocabularies: dict[str, VocabularySpec] = {}
    features: list[Feature] = []
    items: ItemsSpec
    users: TableSpec | None = None
    interactions: InteractionsSpec | None = None
    query_tower: TowerSpec | None = None
    item_tower: TowerSpec | None = None
    ranker: RankerSpec | None = None
    texts: TextsSpec | None = None
    sources: list[SourceEntry] = []
    """Where candidates come from for requests that name no sources: as in the bundle, see
    `docs/bundle.md`. Absent: the items nearest to the query embedding.
    """
    prompts: PromptsSpec | None = None
    """The bundle's own prompts for language models; absent: the server's."""
    index: IndexSpec = IndexSpec()
    golden: GoldenSpec | None = None


def read_spec(path: Path) -> Spec:
    """Read an export spec.

    Args:
        path: A `.json` or `.toml` file, or a folder that holds `export.json` or `export.toml`.

    Raises:
        SpecError: there is no such file, it cannot be parsed, or a field is wrong; the message
            names it.
    """
    if path.is_dir():
        found = [path / name for name in ("export.json", "export.toml") if (path / name).is_file()]
        if not found:
            raise SpecError(
                f"{path}: expected export.json or export.toml in this folder, found neither"
            )
        path = found[0]
    if not path.is_file():
        raise SpecError(f"{path}: no such file; expected an export spec (JSON or TOML)")
    try:
        text = path.read_text(encoding="utf-8")
        document: Any = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise SpecError(f"{path}: cannot be parsed: {error}") from error
    try:
        return Spec.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(step) for step in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        )
        raise SpecError(f"{path}: {problems}") from error
