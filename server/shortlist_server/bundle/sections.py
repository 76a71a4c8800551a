"""Sections of a manifest: parts that a bundle may lack, and what they are made of.

A reader ignores an optional section that it does not know and refuses a required one by name.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from shortlist_server.bundle.transforms import Name, Part

Scalar = str | bool | int | float

FileName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$", max_length=256
    ),
]
"""A file of the bundle, relative to its folder. No absolute path, no `..`, no hidden file can be
spelled.
"""


class Strings(Part):
    """N texts as two arrays: text i is `utf8[offsets[i]:offsets[i + 1]]`."""

    offsets: FileName
    """int64 [N + 1], beginning with 0, never falling."""
    utf8: FileName
    """uint8 [bytes]."""


class Index(Part):
    """The nearest-neighbour index over the item embeddings; label i is row i."""

    kind: Literal["hnsw"] = "hnsw"
    file: FileName
    m: Annotated[int, Field(ge=2, le=512)]
    ef_construction: Annotated[int, Field(ge=1, le=65536)]
    ef: Annotated[int, Field(ge=1, le=4096)]
    """Search width where a request does not set one."""
    seed: int


class Section(Part):
    """Base of the sections."""

    required: bool


class SourceEntry(Part):
    """One source of candidates, as requests get it that name none; see `docs/sources.md`."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """Name in answers; that of the kind where absent."""
    kind: Literal["nearest", "recent_history", "popularity", "text"]
    candidate_count: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Most candidates; the request's number where absent."""
    event_count: Annotated[int, Field(ge=1, le=1000)] = 10
    """`recent_history`: how many events from the end of the history count."""
    attribute: str = ""
    """`popularity`: the attribute whose value the items must have; overall where empty."""
    value: Scalar | None = None
    feature: str = ""
    """`popularity`: full name of the feature that holds the value, where `value` is absent."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> SourceEntry:
        of_value = self.value is not None or bool(self.feature)
        if self.kind != "popularity" and (self.attribute or of_value):
            raise ValueError(f"{self.kind}: expected no attribute, value or feature")
        if bool(self.attribute) != of_value or (self.value is not None and self.feature):
            raise ValueError("popularity: expected attribute with value or feature, or neither")
        return self


class Sources(Section):
    """Where candidates come from, in this order, for requests that name no sources."""

    list: Annotated[tuple[SourceEntry, ...], Field(min_length=1, max_length=16, strict=False)]

    @model_validator(mode="after")
    def _names_once(self) -> Sources:
        names = [entry.name or entry.kind for entry in self.list]
        if len(set(names)) != len(names):
            raise ValueError(f"expected a name for each source, got {names}")
        return self


EMBEDDER_FILES = ("embedder.json", "model.onnx", "tokenizer.json")
"""What the folder of a local embedder holds."""


class ServiceEmbedder(Part):
    """What points of a service depend on: queries embedded otherwise are of another space."""

    api: Literal["gemini", "openai-compatible"]
    """Whose API it speaks."""
    model: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    """The service's name of the model."""
    query_task: Annotated[str, StringConstraints(max_length=64)] = ""
    """What it is told that a text is which is searched for; empty where it is not asked."""
    item_task: Annotated[str, StringConstraints(max_length=64)] = ""
    """The same of a text which is found."""
    query_prefix: Annotated[str, StringConstraints(max_length=1000)] = ""
    """What stands before a text that is searched for."""
    item_prefix: Annotated[str, StringConstraints(max_length=1000)] = ""
    """What stands before a text that is found."""


class Embedder(Part):
    """What made the text embeddings, and embeds what is searched for."""

    identity: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    """Of whatever embeds for this bundle, exactly: points of another are of another space."""
    folder: FileName | None = None
    """Folder of the bundle that holds it: `embedder.json`, `tokenizer.json`, `model.onnx`. None: a
    service that the server is configured with.
    """
    service: ServiceEmbedder | None = None
    """How that service is asked; None where there is a folder."""


class Prompts(Section):
    """How language models are asked about the items of this bundle; see `docs/reranking.md`."""

    rerank: FileName
    """TOML template of how candidates are put in order."""


class Texts(Section):
    """Items as points by what their texts mean, to be found by texts."""

    attributes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=8, strict=False)]
    """Names of the item attributes, `string` or `string_list`, whose values make an item's text, in
    this order; they need not be item columns.
    """
    dimension: Annotated[int, Field(ge=1, le=65536)]
    rows: FileName
    """int64 [n], rising: the items that have a text."""
    embeddings: FileName
    """float32 [n, dimension], of length 1; compared by cosine."""
    index: Index
    """Over these; label i is the item of `rows[i]`."""
    embedder: Embedder


class Compaction(Section):
    """What a server notes in a bundle of its own making: one that it has served, with the changes
    of items folded in. It stays the bundle that it was exported as: answers name that one.
    """

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Identity of the bundle as it was exported."""
    store: Name
    """Identity of the store whose changes these are."""
    revision: Annotated[int, Field(ge=1)]
    """Changes up to this revision of the store are folded in."""
    made_by: Name
    """Versions of what computed vectors and rows."""
    rows: FileName
    """int64 [items as exported]: the row of each now; -1 for one that is gone. The rows of users
    and of the popularity are those of the export.
    """
    gone: Strings
    """Ids of the items that are gone, in order of their rows in the export."""
    revisions: FileName
    """int64 [items]: revision of the change that each is from; 0 where it is as exported."""
    vectors: FileName
    """float32 [n, dimension]: the exported vectors of the items that are gone or changed, in order
    of their rows in the export.
    """
    misfits: FileName
    """JSON: items that cannot be served as they were written."""
    manifest_sha256: str = ""
    """What `canonical_sha256` gives of this manifest without this field: no other check tells
    whether it is whole.
    """
