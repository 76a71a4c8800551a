"""Puts text embeddings into a bundle: texts -> embeddings -> index -> a new bundle."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shortlist_server.bundle.item_text import item_text
from shortlist_server.bundle.manifest import Manifest
from shortlist_server.bundle.reader import Bundle, open_bundle
from shortlist_server.bundle.sections import EMBEDDER_FILES
from shortlist_server.bundle.writer import MANIFEST, BundleWriter
from shortlist_server.index import hnsw
from shortlist_server.llm.local_embedder import LocalEmbedder

from shortlist_exporters.errors import DataError, SpecError
from shortlist_exporters.export import verify_bundle
from shortlist_exporters.progress import step
from shortlist_exporters.text.service import PatientEmbedder, ServiceSettings

CHUNK = 64
"""Texts that are lost if the work is killed."""
TIMEOUT_S = 3_600.0
FOLDER = "texts"
INDEX = {"kind": "hnsw", "m": 16, "ef_construction": 200, "ef": 100, "seed": 1}


def embed_texts(
    source: Path,
    out: Path,
    *,
    attributes: Sequence[str],
    embedder: Path | ServiceSettings,
    texts: Path | None = None,
    version: str | None = None,
    replace: bool = False,
) -> Manifest:
    """Write a bundle with text embeddings beside what another has.

    Embeddings are kept in a hidden folder beside `out` as they are made: who begins again after a
    kill finds them there.

    Args:
        source: The bundle.
        out: The folder that will be the new one; may be `source`, with `replace`.
        attributes: Names of what an item's text is made of, in order: columns of `texts`, or item
            columns of type string or string_list.
        embedder: Folder of a local embedder, which goes into the bundle; or how a service is asked,
            which the bundle then names.
        texts: CSV with the column `id`, and others of texts; None where the bundle has them all.
        version: Version of the new bundle; that of the source and `-text` where None.
        replace: Whether a bundle at `out` gives way.

    Raises:
        DataError: the CSV cannot be used.
        SpecError: an attribute is nowhere, or of another type; or no item has a text.
        BundleError: the bundle or the embedder cannot be used.
        ConfigError: the service cannot be asked like this.
        LanguageModelError: it does not answer; what it has embedded is kept.
        MissingExtra: what the embedder needs is not installed.
    """
    bundle = open_bundle(source)
    made_of = _item_texts(bundle, attributes, texts)
    rows = np.array([row for row, text in enumerate(made_of) if text], np.int64)
    if not len(rows):
        raise SpecError(f"{source}: expected items with a text, got none in {list(attributes)}")
    with (
        _opened(embedder) as loaded,
        BundleWriter(out, replace=replace) as writer,
    ):
        kept = writer.out.parent / f".{writer.out.name}.embeddings"
        embeddings = _embeddings(loaded, [made_of[row] for row in rows.tolist()], kept)
        _copy(bundle, writer)
        index = f"{FOLDER}/hnsw.bin"
        options = {name: INDEX[name] for name in ("m", "ef_construction", "seed")}
        with step("build the index", len(rows)) as done:
            hnsw.build(
                embeddings,
                writer.path(index),
                metric="cosine",
                progress=done,
                **options,  # type: ignore[arg-type]  # ints
            )
        manifest = bundle.manifest.model_dump(mode="json", exclude_none=True, exclude={"files"})
        manifest["version"] = version or f"{bundle.manifest.version}-text"
        now = datetime.now(UTC).replace(microsecond=0)
        manifest["created"] = now.isoformat().replace("+00:00", "Z")
        manifest["sections"]["texts"] = {
            "required": False,
            "attributes": list(attributes),
            "dimension": loaded.dimension,
            "rows": writer.array(f"{FOLDER}/rows.npy", rows),
            "embeddings": writer.array(f"{FOLDER}/embeddings.npy", embeddings),
            "index": {**INDEX, "file": index},
            "embedder": _described(loaded, embedder, writer),
        }
        with step("verify the bundle"):
            written = writer.finish(manifest, verify=verify_bundle)
        shutil.rmtree(kept, ignore_errors=True)
        return written


# The steps, in order.


def _item_texts(bundle: Bundle, attributes: Sequence[str], file: Path | None) -> list[str]:
    """Return the text of each item; empty where it has none."""
    given: Mapping[str, Mapping[str, str]] = {} if file is None else _read_texts(file)
    values: list[Sequence[Any]] = []
    for name in attributes:
        column = bundle.item_columns.get(name)
        if name in given:
            values.append([given[name].get(item_id) for item_id in bundle.item_ids])
        elif column is not None and column.type in ("string", "string_list"):
            values.append(column.tolist())
        else:
            known = [
                *given,
                *(
                    known
                    for known, one in bundle.item_columns.items()
                    if one.type in ("string", "string_list")
                ),
            ]
            raise SpecError(
                f"--text: expected columns of texts, some of {known}, got {name!r}"
                + ("" if column is None else f", which is {column.type}")
            )
    return [item_text(parts) for parts in zip(*values, strict=True)]


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


@contextmanager
def _opened(embedder: Path | ServiceSettings) -> Iterator[LocalEmbedder | PatientEmbedder]:
    if isinstance(embedder, Path):
        yield LocalEmbedder(embedder)
        return
    with closing(PatientEmbedder(embedder)) as service:
        yield service


def _described(
    loaded: LocalEmbedder | PatientEmbedder, embedder: Path | ServiceSettings, writer: BundleWriter
) -> dict[str, Any]:
    """Return what the manifest says of an embedder; a local one is copied into the bundle."""
    if isinstance(embedder, ServiceSettings):
        space = embedder.space.model_dump(mode="json")
        return {"identity": embedder.identity, "service": space}
    for name in EMBEDDER_FILES:
        shutil.copyfile(embedder / name, writer.path(f"{FOLDER}/embedder/{name}"))
    return {"identity": loaded.identity, "folder": f"{FOLDER}/embedder"}


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


def _copy(bundle: Bundle, writer: BundleWriter) -> None:
    """Copy the files of a bundle, but for its manifest and what it has of texts."""
    sections = bundle.manifest.sections
    for name in bundle.manifest.files:
        if not ("texts" in sections and name.startswith(f"{FOLDER}/")) and name != MANIFEST:
            shutil.copyfile(bundle.path(name), writer.path(name))
