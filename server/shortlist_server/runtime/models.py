"""The models of a bundle, loaded and ready to be fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.columns import ColumnArray
from shortlist_server.bundle.reader import Bundle
from shortlist_server.runtime.featurize import VocabularyIndex
from shortlist_server.runtime.inputs import ModelInputs, item_columns
from shortlist_server.runtime.onnx_session import OnnxSession


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with its inputs."""

    session: OnnxSession
    inputs: ModelInputs


def load_models(bundle: Bundle) -> dict[str, LoadedModel]:
    """Load the models of a bundle, by section name: `query_tower`, `item_tower`, `ranker`.

    Raises:
        BundleError: a model cannot be loaded, or is not what the manifest says.
    """
    vocabularies = {
        name: VocabularyIndex(tokens, f"vocabulary {name!r}")
        for name, tokens in bundle.vocabularies.items()
    }
    return {
        name: LoadedModel(
            OnnxSession(bundle.path(model.file), model),
            ModelInputs(model, bundle.manifest.features, vocabularies),
        )
        for name, model in bundle.manifest.models.items()
    }


def bundle_feeds(
    bundle: Bundle, model: LoadedModel, texts: NDArray[np.float32] | None = None
) -> dict[str, NDArray[Any]]:
    """Return a model's item-side inputs for every item of a bundle, [items, ...] each.

    Args:
        bundle: The bundle.
        model: One of its models.
        texts: What `TextTable.by_item` gave, where that is there already.

    Raises:
        BundleCorrupt: an input comes from a column that there is not.
    """
    if texts is None and bundle.texts is not None and model.inputs.reads_texts:
        texts = bundle.texts.by_item(len(bundle.item_ids))
    return item_feeds(bundle.item_ids, bundle.item_columns, model, texts)


def item_feeds(
    ids: Sequence[str],
    columns: Mapping[str, ColumnArray],
    model: LoadedModel,
    texts: NDArray[np.float32] | None = None,
) -> dict[str, NDArray[Any]]:
    """Return a model's item-side inputs for every item of a catalogue, [items, ...] each.

    Args:
        ids: Id of each item.
        columns: The item columns by name.
        model: The model to feed.
        texts: Points of the items' texts, [items, dimension], zeros where one has none; None where
            the model does not read them.

    Raises:
        BundleCorrupt: an input comes from a column that there is not.
    """
    wanted = model.inputs.item_sources
    cells = {name: column.tolist() for name, column in columns.items() if f"item.{name}" in wanted}
    file = model.session.declared.file
    return model.inputs.item_feeds(item_columns(wanted, ids, cells, file), texts)
