"""Makes a bundle from an export spec: convert -> check -> embed -> index -> golden requests ->
write. Reads top to bottom.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from shortlist_server.bundle.columns import ColumnArray, StringArray
from shortlist_server.bundle.manifest import FORMAT_VERSION, Manifest
from shortlist_server.bundle.reader import open_bundle
from shortlist_server.bundle.transforms import Lookup
from shortlist_server.bundle.writer import BundleWriter
from shortlist_server.index import hnsw
from shortlist_server.runtime.golden import replay
from shortlist_server.runtime.models import item_feeds, load_models
from shortlist_server.runtime.onnx_session import ONNXRUNTIME_VERSION
from shortlist_server.runtime.probe import probe_models

from shortlist_exporters.errors import SpecError
from shortlist_exporters.exported_model import ExportedModel, convert_models
from shortlist_exporters.golden import write_golden
from shortlist_exporters.progress import step
from shortlist_exporters.spec import Spec, read_spec
from shortlist_exporters.tables import (
    Interactions,
    Table,
    join_users,
    read_interactions,
    read_table,
    read_tokens,
)
from shortlist_exporters.text.items import EmbeddedTexts, kept_beside, write_texts
from shortlist_exporters.text.spec import read_texts, text_inputs
from shortlist_exporters.text.verify import verify_texts

EMBED_BATCH = 4_096


def export_bundle(
    spec_path: Path, out: Path, *, version: str | None = None, replace: bool = False
) -> Manifest:
    """Make a bundle.

    Args:
        spec_path: The export spec, or the folder that holds it.
        out: The folder that will be the bundle.
        version: Version of the bundle; the time in UTC where None.
        replace: Whether a bundle at `out` gives way.

    Raises:
        ExportError: the spec, a table, a model or an array is not what it must be.
        BundleError: the bundle that came of it would be refused by the server; nothing is left at
            `out`.
    """
    spec = read_spec(spec_path)
    folder = spec_path if spec_path.is_dir() else spec_path.parent
    now = datetime.now(UTC).replace(microsecond=0)
    with step("read the tables"):
        items = read_table(spec.items, folder, "items")
        interactions = read_interactions(spec.interactions, folder, items)
        users = join_users(
            read_table(spec.users, folder, "users") if spec.users else None, interactions
        )
    with BundleWriter(out, replace=replace) as writer:
        vocabularies = {
            name: read_tokens(folder / file.file, file.type)
            for name, file in spec.vocabularies.items()
        }
        texts = read_texts(spec, folder, items, kept_beside(writer.out))
        models = convert_models(spec, folder, writer, vocabularies)
        points = None if texts is None else texts.points
        embeddings = _embed(spec, folder, models, items, points)
        manifest = {
            "version": version or now.strftime("%Y%m%dT%H%M%SZ"),
            "created": now.isoformat().replace("+00:00", "Z"),
            **_facts(spec),
            "dimension": embeddings.shape[1],
            "item_count": len(items.ids),
            "index": _index(spec, embeddings, writer),
            "items": {
                "ids": writer.strings("items/ids", items.ids).model_dump(),
                "embeddings": writer.array("items/embeddings.npy", embeddings),
                "columns": _columns(writer, "items", items.columns),
            },
            "vocabularies": _vocabularies(spec, vocabularies, writer),
            "sections": _texts(spec, texts, writer)
            | _sections(spec, models, users, interactions, writer)
            | _prompts(spec, folder, writer),
        }
        with step("golden requests"):
            manifest["golden"] = write_golden(
                writer,
                models=models,
                items=items,
                texts=points,
                users=users or _users_of_tower(spec, vocabularies),
                interactions=interactions,
                embeddings=embeddings,
                given=spec.golden,
                folder=folder,
            )
        with step("verify the bundle"):
            try:
                written = writer.finish(manifest, verify=verify_bundle)
            except ValidationError as error:
                problems = "; ".join(problem["msg"] for problem in error.errors())
                raise SpecError(f"{spec_path}: {problems}") from error
        shutil.rmtree(kept_beside(writer.out), ignore_errors=True)
        return written


def verify_bundle(folder: Path) -> None:
    """Load a bundle as the server would: hashes, signatures, golden requests, index.

    Raises:
        BundleError: the server would refuse it.
    """
    bundle = open_bundle(folder)
    models = load_models(bundle)
    probe_models(bundle, models)
    replay(bundle, models)
    index = bundle.manifest.index
    hnsw.HnswIndex(
        bundle.path(index.file),
        bundle.item_embeddings,
        metric=bundle.manifest.metric,
        m=index.m,
        name=index.file,
    )
    verify_texts(bundle)


# The steps, in order.


def _users_of_tower(spec: Spec, tokens: Mapping[str, Sequence[str] | Sequence[int]]) -> Table:
    """Return the users whom the query tower knows by id: whom to try where there is no table."""
    for tensor in spec.query_tower.inputs if spec.query_tower else []:
        for transform in tensor.transforms:
            if tensor.source == "user.id" and isinstance(transform, Lookup):
                return Table(ids=[str(token) for token in tokens[transform.vocabulary]], columns=[])
    return Table(ids=[], columns=[])


def _embed(
    spec: Spec,
    folder: Path,
    models: Mapping[str, ExportedModel],
    items: Table,
    texts: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    if spec.items.embeddings is not None:
        embeddings = _read_embeddings(folder / spec.items.embeddings, len(items.ids))
    elif "item_tower" in models:
        embeddings = _run_item_tower(models["item_tower"], items, texts)
    else:
        raise SpecError(
            "items.embeddings: expected a .npy file, or an item_tower that embeds the items, got "
            "neither"
        )
    if not np.isfinite(embeddings).all():
        row = int(np.argwhere(~np.isfinite(embeddings))[0][0])
        raise SpecError(
            "item embeddings: expected finite numbers, got NaN or infinity at item "
            f"{items.ids[row]!r}"
        )
    if spec.metric == "cosine":
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        if not norms.all():
            row = int(np.argwhere(norms[:, 0] == 0)[0][0])
            raise SpecError(
                "item embeddings: expected no zero vector (metric cosine), got one at item "
                f"{items.ids[row]!r}"
            )
        embeddings = embeddings / norms
    _check_dimension(models, embeddings.shape[1])
    return np.ascontiguousarray(embeddings, np.float32)


def _check_dimension(models: Mapping[str, ExportedModel], dimension: int) -> None:
    for name in ("query_tower", "item_tower"):
        if name in models:
            output = models[name].declared.outputs[0]
            if len(output.shape) != 2 or output.shape[1] not in (dimension, str(output.shape[1])):
                raise SpecError(
                    f"{name}: output {output.name!r}: expected [batch, {dimension}], as the item "
                    f"embeddings, got {output.shape}"
                )


def _read_embeddings(path: Path, count: int) -> NDArray[np.float32]:
    try:
        embeddings: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SpecError(f"{path}: expected a .npy array: {error}") from error
    if embeddings.dtype != np.float32 or embeddings.ndim != 2 or len(embeddings) != count:
        raise SpecError(
            f"{path}: expected float32 [{count}, dimension], a row for each item, got "
            f"{embeddings.dtype} "
            f"{list(embeddings.shape)}"
        )
    return embeddings


def _run_item_tower(
    tower: ExportedModel, items: Table, texts: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    feeds = item_feeds(items.ids, items.by_name, tower.loaded, texts)
    output = tower.declared.outputs[0].name
    parts = []
    with step("embed items", len(items.ids)) as done:
        for start in range(0, len(items.ids), EMBED_BATCH):
            batch = {name: values[start : start + EMBED_BATCH] for name, values in feeds.items()}
            parts.append(tower.loaded.session.run(batch)[output])
            done(min(start + EMBED_BATCH, len(items.ids)))
    embeddings = np.concatenate(parts)
    if embeddings.ndim != 2:
        raise SpecError(
            f"item_tower.{output}: expected [items, dimension], got {list(embeddings.shape)}"
        )
    return embeddings


def _index(spec: Spec, embeddings: NDArray[np.float32], writer: BundleWriter) -> dict[str, Any]:
    file = "index/hnsw.bin"
    with step("build the index", len(embeddings)) as done:
        hnsw.build(
            embeddings,
            writer.path(file),
            metric=spec.metric,
            m=spec.index.m,
            ef_construction=spec.index.ef_construction,
            seed=spec.index.seed,
            progress=done,
        )
    return {"kind": "hnsw", "file": file, **spec.index.model_dump()}


def _facts(spec: Spec) -> dict[str, Any]:
    """Return what the manifest takes over from the spec."""
    return {
        "format_version": FORMAT_VERSION,
        "name": spec.name,
        "framework_versions": {
            "onnxruntime": ONNXRUNTIME_VERSION,
            "shortlist": importlib.metadata.version("shortlist"),
            **spec.framework_versions,
        },
        "data": spec.data.model_dump(),
        "metric": spec.metric,
        "features": [feature.model_dump(mode="json") for feature in spec.features],
    }


def _vocabularies(
    spec: Spec, tokens: Mapping[str, Sequence[str] | Sequence[int]], writer: BundleWriter
) -> dict[str, Any]:
    return {
        name: {
            "type": spec.vocabularies[name].type,
            "tokens": _tokens(writer, f"vocabularies/{position:03}", known),
        }
        for position, (name, known) in enumerate(tokens.items())
    }


def _columns(
    writer: BundleWriter, table: str, columns: Sequence[ColumnArray]
) -> list[dict[str, Any]]:
    # Files are numbered, not named: a column's name may hold anything.
    return [
        writer.column(f"{table}/columns/{position:03}", column).model_dump()
        for position, column in enumerate(columns)
    ]


def _tokens(writer: BundleWriter, stem: str, tokens: Sequence[str] | Sequence[int]) -> Any:
    if all(isinstance(token, str) for token in tokens):
        return writer.strings(stem, StringArray.of([str(token) for token in tokens])).model_dump()
    return writer.array(f"{stem}.npy", np.array(tokens, np.int64))


def _sections(
    spec: Spec,
    models: Mapping[str, ExportedModel],
    users: Table | None,
    interactions: Interactions | None,
    writer: BundleWriter,
) -> dict[str, Any]:
    sections: dict[str, Any] = {
        name: {"required": name != "item_tower", "model": model.declared.model_dump(mode="json")}
        for name, model in models.items()
    }
    if spec.ranker is not None:
        sections["ranker"]["weights"] = spec.ranker.weights
    if interactions is not None:
        rows, scores = interactions.popularity()
        sections["popularity"] = {
            "required": False,
            "rows": writer.array("popularity/rows.npy", rows),
            "scores": writer.array("popularity/scores.npy", scores),
        }
    if spec.sources:
        entries = [entry.model_dump(mode="json", exclude_none=True) for entry in spec.sources]
        sections["sources"] = {"required": True, "list": entries}
    if users is not None:
        offsets, seen = _seen(users, interactions)
        sections["users"] = {
            "required": False,
            "ids": writer.strings("users/ids", users.ids).model_dump(),
            "columns": _columns(writer, "users", users.columns),
            "seen_offsets": writer.array("users/seen_offsets.npy", offsets),
            "seen_rows": writer.array("users/seen_rows.npy", seen),
        }
    return sections


def _texts(spec: Spec, texts: EmbeddedTexts | None, writer: BundleWriter) -> dict[str, Any]:
    if texts is None:
        return {}
    # The first section: a server too old to know texts refuses it by name, before a model's input.
    return {"texts": write_texts(writer, texts, required=bool(text_inputs(spec)))}


def _prompts(spec: Spec, folder: Path, writer: BundleWriter) -> dict[str, Any]:
    if spec.prompts is None:
        return {}
    source, name = folder / spec.prompts.rerank, "prompts/rerank.toml"
    try:
        text = source.read_bytes()
    except OSError as error:
        raise SpecError(f"prompts.rerank: {source}: cannot be read: {error.strerror}") from error
    writer.path(name).write_bytes(text)
    # Not required: a server that asks no language model answers without it.
    return {"prompts": {"required": False, "rerank": name}}


def _seen(
    users: Table, interactions: Interactions | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if interactions is None:
        return np.zeros(len(users.ids) + 1, np.int64), np.empty(0, np.int64)
    return interactions.seen(users.ids)
