"""Runs each model of a bundle once, to see that it takes and gives what the funnel relies on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shortlist_server.bundle.reader import Bundle
from shortlist_server.errors import ModelSignatureMismatch
from shortlist_server.runtime.models import LoadedModel, bundle_feeds

PROBED_ITEMS_MAX = 3


def probe_models(bundle: Bundle, models: Mapping[str, LoadedModel]) -> None:
    """Run the models on default values and the first items.

    Raises:
        ModelSignatureMismatch: a model fails, a tower does not give [rows, dimension], or an output
            of the ranker not one number a candidate; the message names it.
    """
    # Two numbers of items: a model may be made for one alone.
    for count in (min(PROBED_ITEMS_MAX, len(bundle.item_ids)), 1):
        _probe(bundle, models, np.arange(count))


def _probe(bundle: Bundle, models: Mapping[str, LoadedModel], rows: NDArray[np.int64]) -> None:
    dimension = bundle.manifest.dimension
    for name, model in models.items():
        items = {tensor: values[rows] for tensor, values in bundle_feeds(bundle, model).items()}
        asked = model.inputs.request_feeds({})
        feeds = {
            "query_tower": asked,
            "item_tower": items,
            "ranker": model.inputs.candidate_feeds(asked, items, len(rows), None),
        }[name]
        file = model.session.declared.file
        try:
            outputs = model.session.run(feeds)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ModelSignatureMismatch(
                f"{file}: expected to run on {sorted(feeds)} with default values: {error}"
            ) from error
        shapes: dict[str, set[tuple[int, ...]]] = {
            "query_tower": {(1, dimension)},
            "item_tower": {(len(rows), dimension)},
            "ranker": {(len(rows),), (len(rows), 1)},
        }
        expected = shapes[name]
        for output, values in outputs.items():
            if values.shape not in expected:
                raise ModelSignatureMismatch(
                    f"{file}: output {output!r}: expected shape "
                    f"{' or '.join(str(list(shape)) for shape in sorted(expected))} for "
                    f"{len(rows)} items and {dimension} dimensions, got {list(values.shape)}"
                )
