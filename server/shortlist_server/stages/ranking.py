"""The third stage: an ONNX model scores the candidates with all that is known of query and item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.errors import ModelOutputInvalid
from shortlist_server.funnel.types import Floats, ResolvedQuery, Rows
from shortlist_server.runtime.models import LoadedModel
from shortlist_server.stages.query_tower import request_values


class OnnxRanker:
    """The bundle's ranker."""

    def __init__(
        self,
        *,
        model: LoadedModel,
        item_feeds: Mapping[str, NDArray[Any]],
        item_ids: Sequence[str],
        weights: Mapping[str, float],
    ) -> None:
        """Take the model.

        Args:
            model: The ranker.
            item_feeds: Its item-side inputs for the whole catalogue, [items, ...] each: featurized
                once, not per request.
            item_ids: Id of each row.
            weights: The bundle's own weight of each output.
        """
        self._model = model
        self._item_feeds = item_feeds
        self._item_ids = item_ids
        self.weights = weights
        self.output_names: Sequence[str] = [
            output.name for output in model.session.declared.outputs
        ]
        self.needs_user = any(
            not source.startswith("context.") for source in model.inputs.request_sources
        )

    def rank(
        self, query: ResolvedQuery, rows: Rows, retrieval_scores: Floats | None
    ) -> Mapping[str, Floats]:
        """Return the outputs for each item; see `funnel.stages.Ranker`."""
        inputs = self._model.inputs
        feeds = inputs.candidate_feeds(
            inputs.request_feeds(request_values(query, inputs.request_sources, self._item_ids)),
            {name: values[rows] for name, values in self._item_feeds.items()},
            len(rows),
            retrieval_scores,
        )
        outputs = {
            name: values.reshape(-1) for name, values in self._model.session.run(feeds).items()
        }
        for name, values in outputs.items():
            if not np.isfinite(values).all():
                raise ModelOutputInvalid(
                    f"ranker.{name}: expected finite numbers, got NaN or infinity"
                )
        return outputs
