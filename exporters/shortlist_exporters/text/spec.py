"""The texts that an export spec names, and what its models want of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shortlist_server.bundle.manifest import TEXT_SOURCE, Input
from shortlist_server.llm.local_embedder import LocalEmbedder

from shortlist_exporters.errors import SpecError
from shortlist_exporters.spec import Spec, TextsSpec
from shortlist_exporters.tables import Table, text_columns
from shortlist_exporters.text.items import EmbeddedTexts, embed_items


def text_inputs(spec: Spec) -> dict[str, list[Input]]:
    """Return the inputs that take the points of texts, by model; models without one are left
    out.
    """
    models = {
        "query_tower": spec.query_tower,
        "item_tower": spec.item_tower,
        "ranker": spec.ranker,
    }
    found = {
        name: [tensor for tensor in model.inputs if tensor.source == TEXT_SOURCE]
        for name, model in models.items()
        if model is not None
    }
    return {name: inputs for name, inputs in found.items() if inputs}


def read_texts(spec: Spec, folder: Path, items: Table, kept: Path) -> EmbeddedTexts | None:
    """Return the texts of the items as the spec says; None where it says nothing of them.

    Args:
        spec: The spec.
        folder: What its paths are relative to.
        items: The items.
        kept: Folder where points are kept as they are made.

    Raises:
        SpecError: the texts cannot be used, or are not what a model takes; the message names the
            field.
        DataError: the CSV cannot be used.
        BundleError: the embedder cannot be used.
        MissingExtra: the package `tokenizers` is not installed.
    """
    texts = None if spec.texts is None else _texts(spec.texts, folder, items, kept)
    for name, inputs in text_inputs(spec).items():
        for tensor in inputs:
            where = f"{name}: input {tensor.name!r} from {TEXT_SOURCE!r}"
            if name == "query_tower":
                raise SpecError(f"{where}: expected a source of the request")
            if texts is None:
                raise SpecError(f"{where}: expected `texts` in the spec, got none")
            if tensor.shape[1] not in (texts.dimension, str(tensor.shape[1])):
                raise SpecError(
                    f"{where}: expected [batch, {texts.dimension}], the dimension of "
                    f"{texts.identity}, got {tensor.shape}"
                )
    return texts


def _texts(texts: TextsSpec, folder: Path, items: Table, kept: Path) -> EmbeddedTexts:
    embedder = None if texts.embedder is None else folder / texts.embedder
    if texts.embeddings is None:
        assert embedder is not None
        return embed_items(
            items.ids,
            text_columns(items.columns),
            attributes=texts.attributes,
            embedder=embedder,
            texts=None if texts.file is None else folder / texts.file,
            kept=kept,
            field="texts.attributes",
            types={column.name: column.type for column in items.columns},
        )
    dimension, identity = None, texts.identity
    if embedder is not None:
        loaded = LocalEmbedder(embedder)
        dimension, identity = loaded.dimension, loaded.identity
    assert identity is not None
    return EmbeddedTexts(
        attributes=tuple(texts.attributes),
        points=_read_points(folder / texts.embeddings, items, dimension),
        identity=identity,
        embedder=embedder,
    )


def _read_points(path: Path, items: Table, dimension: int | None) -> NDArray[np.float32]:
    """Read the points of the items' texts; None for a dimension allows any."""
    where, wanted = f"texts.embeddings: {path}", dimension or "dimension"
    try:
        points: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SpecError(f"{where}: expected a .npy array: {error}") from error
    fits = points.dtype == np.float32 and points.ndim == 2 and len(points) == len(items.ids)
    if not fits or points.shape[1] != (dimension or points.shape[1]):
        raise SpecError(
            f"{where}: expected float32 [{len(items.ids)}, {wanted}], a row for each item, got "
            f"{points.dtype} {list(points.shape)}"
        )
    lengths = np.linalg.norm(points, axis=1)
    wrong = np.flatnonzero(~((np.abs(lengths - 1) <= 1e-3) | (lengths == 0)))  # NaN is neither
    if len(wrong):
        row = int(wrong[0])
        raise SpecError(
            f"{where}: expected points of length 1, or zeros without a text, got length "
            f"{lengths[row]:g} at item {items.ids[row]!r}"
        )
    if not lengths.any():
        raise SpecError(f"{where}: expected items with a text, got none")
    return points
