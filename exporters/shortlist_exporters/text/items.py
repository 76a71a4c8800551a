"""Texts of items and their points, on their way into a model or a bundle."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shortlist_server.bundle.item_text import item_text
from shortlist_server.bundle.sections import EMBEDDER_FILES
from shortlist_server.bundle.writer import BundleWriter
from shortlist_server.index import hnsw
from shortlist_server.llm.local_embedder import LocalEmbedder

from shortlist_exporters.errors import DataError, SpecError
from shortlist_exporters.progress import step
from shortlist_exporters.text.service import PatientEmbedder, ServiceSettings

CHUNK = 64
"""Texts that are lost if the work is killed."""
TIMEOUT_S = 3_600.0
FOLDER = "texts"
INDEX = {"kind": "hnsw", "m": 16, "ef_construction": 200, "ef": 100, "seed": 1}

Texts = Sequence[str | Sequence[str] | None]
"""What an attribute is for each item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedTexts:
    """Items as points by what their texts mean."""

    attributes: tuple[str, ...]
    """Names of what an item's text is made of, in order."""
    points: NDArray[np.float32]
    """float32 [items, dimension], of length 1; zeros where an item has no text."""
    identity: str
    """Of what embedded them."""
    embedder: Path | None
    """Folder of the local embedder; None for a service."""
    service: Mapping[str, Any] | None = None
    """What the manifest says of the service; None for a local one."""

    @property
    def dimension(self) -> int:
        """Components of a point."""
        return int(self.points.shape[1])

    @property
    def rows(self) -> NDArray[np.int64]:
        """The items that have a text, int64, rising."""
        return np.flatnonzero(self.points.any(axis=1)).astype(np.int64)


def embed_items(
    ids: Sequence[str],
    columns: Mapping[str, Texts],
    *,
    attributes: Sequence[str],
    embedder: Path | ServiceSettings,
    texts: Path | None,
    kept: Path,
    field: str,
    types: Mapping[str, str] | None = None,
) -> EmbeddedTexts:
    """Embed the texts of items.

    Args:
        ids: Id of each item.
        columns: The items' own texts by name, one for each item.
        attributes: Names of what an item's text is made of, in order: columns of `texts`, or of
            `columns`.
        embedder: Folder of a local embedder, or how a service is asked.
        texts: CSV with the column `id`, and others of texts; None where `columns` has them all.
        kept: Folder where points are kept as they are made: who begins again after a kill finds
            them there.
        field: What named the attributes, for messages.
        types: Types of the items' other columns by name, for messages.

    Raises:
        DataError: the CSV cannot be used.
        SpecError: an attribute is nowhere, or of another type; or no item has a text.
        BundleError: the embedder cannot be used.
        ConfigError: the service cannot be asked like this.
        LanguageModelError: it does not answer; what it has embedded is kept.
        MissingExtra: what the embedder needs is not installed.
    """
    given = {} if texts is None else _read_texts(texts)
    made_of = _item_texts(ids, {**columns, **_by_item(given, ids)}, attributes, field, types or {})
    rows = [row for row, text in enumerate(made_of) if text]
    if not rows:
        raise SpecError(f"{field}: expected items with a text, got none in {list(attributes)}")
    with _opened(embedder) as loaded:
        points = np.zeros((len(ids), loaded.dimension), np.float32)
        points[rows] = _embeddings(loaded, [made_of[row] for row in rows], kept)
        return EmbeddedTexts(
            attributes=tuple(attributes),
            points=points,
            identity=loaded.identity if isinstance(embedder, Path) else embedder.identity,
            embedder=embedder if isinstance(embedder, Path) else None,
            service=None if isinstance(embedder, Path) else embedder.space.model_dump(mode="json"),
        )


def write_texts(writer: BundleWriter, texts: EmbeddedTexts, *, required: bool) -> dict[str, Any]:
    """Write the texts of items into a bundle; returns the section `texts` of its manifest.

    Args:
        writer: Writes the bundle.
        texts: The texts; one item has one at least.
        required: Whether a reader must know them: where a model reads them.
    """
    rows = texts.rows
    points, index = texts.points[rows], f"{FOLDER}/hnsw.bin"
    options = {name: INDEX[name] for name in ("m", "ef_construction", "seed")}
    with step("build the index of texts", len(rows)) as done:
        hnsw.build(
            points,
            writer.path(index),
            metric="cosine",
            progress=done,
            **options,  # type: ignore[arg-type]  # ints
        )
    embedder: dict[str, Any] = {"identity": texts.identity}
    if texts.embedder is not None:
        embedder["folder"] = f"{FOLDER}/embedder"
        for name in EMBEDDER_FILES:
            shutil.copyfile(texts.embedder / name, writer.path(f"{FOLDER}/embedder/{name}"))
    if texts.service is not None:
        embedder["service"] = dict(texts.service)
    return {
        "required": required,
        "attributes": list(texts.attributes),
        "dimension": texts.dimension,
        "rows": writer.array(f"{FOLDER}/rows.npy", rows),
        "embeddings": writer.array(f"{FOLDER}/embeddings.npy", points),
        "index": {**INDEX, "file": index},
        "embedder": embedder,
    }


def kept_beside(out: Path) -> Path:
    """Return the folder where points are kept as they are made for what will be at `out`."""
    return out.parent / f".{out.name}.embeddings"


# What a text is made of.


def _item_texts(
    ids: Sequence[str],
    columns: Mapping[str, Texts],
    attributes: Sequence[str],
    field: str,
    types: Mapping[str, str],
) -> list[str]:
    """Return the text of each item; empty where it has none."""
    for name in attributes:
        if name not in columns:
            also = f", which is {types[name]}" if name in types else ""
            raise SpecError(
                f"{field}: expected columns of texts, some of {list(columns)}, got {name!r}{also}"
            )
    parts = zip(*(columns[name] for name in attributes), strict=True)
    made = [item_text(values) for values in parts]
    assert len(made) == len(ids)
    return made


def _by_item(given: Mapping[str, Mapping[str, str]], ids: Sequence[str]) -> dict[str, Texts]:
    return {name: [texts.get(item_id) for item_id in ids] for name, texts in given.items()}


def _read_texts(file: Path) -> dict[str, dict[str, str]]:
    """Return texts by column and item id."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            names = list(reader.fieldnames or [])
            if "id" not in names or len(names) < 2 or len(set(names)) < len(names):
                raise DataError(
                    file, f"expected a column `id` and others, each once, got {names}", line=1
                )
            columns: dict[str, dict[str, str]] = {name: {} for name in names if name != "id"}
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        file, f"expected {len(names)} values, got others", line=reader.line_num
                    )
                for name, texts in columns.items():
                    texts[row["id"]] = row[name]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(file, f"expected a CSV file in UTF-8: {error}") from error
    return columns


# Points of texts, kept as they are made.


@contextmanager
def _opened(embedder: Path | ServiceSettings) -> Iterator[LocalEmbedder | PatientEmbedder]:
    if isinstance(embedder, Path):
        yield LocalEmbedder(embedder)
        return
    with closing(PatientEmbedder(embedder)) as service:
        yield service


def _embeddings(
    embedder: LocalEmbedder | PatientEmbedder, texts: Sequence[str], kept: Path
) -> NDArray[np.float32]:
    """Return the embeddings of texts, those that an earlier run has left behind among them."""
    kept.mkdir(parents=True, exist_ok=True)
    parts = []
    together = CHUNK if isinstance(embedder, LocalEmbedder) else embedder.together
    with step("embed texts", len(texts)) as done:
        for start in range(0, len(texts), together):
            chunk = texts[start : start + together]
            parts.append(_chunk(embedder, chunk, kept))
            done(start + len(chunk))
    return np.concatenate(parts)


def _chunk(
    embedder: LocalEmbedder | PatientEmbedder, texts: Sequence[str], kept: Path
) -> NDArray[np.float32]:
    # The name says of which texts and by which embedder: no other run's is taken for it.
    digest = hashlib.sha256("\0".join([embedder.identity, *texts]).encode("utf-8", "replace"))
    path = kept / f"{digest.hexdigest()}.npy"
    wanted = (len(texts), embedder.dimension)
    try:
        points: NDArray[np.float32] = np.load(path, allow_pickle=False)
        if points.shape == wanted and points.dtype == np.float32:
            return points
    except (OSError, ValueError, EOFError):
        pass  # not there, or cut off
    points = embedder.embed_now(texts, kind="item", deadline_s=TIMEOUT_S)
    temporary = path.with_suffix(f".{os.getpid()}.npy")
    np.save(temporary, points, allow_pickle=False)
    temporary.rename(path)
    return points
