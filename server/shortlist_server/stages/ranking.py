"""The third stage: an ONNX model scores the candidates with all that is known of query and item."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_server.errors import InvalidValue, ModelOutputInvalid
from shortlist_server.funnel.arrays import ByRow, Floats, Rows
from shortlist_server.funnel.stages import Checkpoint
from shortlist_server.funnel.types import ResolvedQuery
from shortlist_server.index.plan import KERNEL_NS_MAX
from shortlist_server.runtime.models import LoadedModel
from shortlist_server.stages.query_tower import request_values

CANDIDATES_MAX = 4_096
MEASURED_ROWS = 256
"""Candidates ranked to measure what ranking costs."""


class OnnxRanker:
    """The bundle's ranker."""

    def __init__(
        self,
        *,
        model: LoadedModel,
        item_feeds: Mapping[str, ByRow],
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
        self.chunk_rows = self._measured_chunk_rows()
        self.needs_user = any(
            not source.startswith("context.") for source in model.inputs.request_sources
        )

    def of_items(self, item_feeds: Mapping[str, ByRow], item_ids: Sequence[str]) -> OnnxRanker:
        """Return the same ranker over other items; see `__init__`."""
        other = copy.copy(self)
        other._item_feeds = item_feeds
        other._item_ids = item_ids
        return other

    def rank(
        self,
        query: ResolvedQuery,
        rows: Rows,
        retrieval_scores: Floats | None,
        *,
        chunk_rows: int,
        checkpoint: Checkpoint,
    ) -> Mapping[str, Floats]:
        """Return the outputs for each item; see `funnel.stages.Ranker`."""
        of_request = self._of_request(query)
        parts = []
        for start in range(0, len(rows), chunk_rows):
            checkpoint()
            end = start + chunk_rows
            scores = None if retrieval_scores is None else retrieval_scores[start:end]
            feeds = self._feeds(of_request, rows[start:end], scores)
            try:
                parts.append(self._model.session.run(feeds))
            except Exception as error:  # onnxruntime's exceptions share no base class
                # It ran on default values when the bundle was loaded: what was sent is at fault.
                raise InvalidValue(
                    "query", expected="features that the ranker takes", got=str(error)
                ) from error
        outputs = {
            name: np.concatenate([part[name].reshape(-1) for part in parts])
            if len(parts) > 1
            else parts[0][name].reshape(-1)
            for name in self.output_names
        }
        for name, values in outputs.items():
            if not np.isfinite(values).all():
                raise ModelOutputInvalid(
                    f"ranker.{name}: expected finite numbers, got NaN or infinity"
                )
        return outputs

    def inputs(
        self, query: ResolvedQuery, rows: Rows, retrieval_scores: Floats | None
    ) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]]:
        """Return what was fed; see `funnel.stages.Ranker`."""
        of_request = self._of_request(query)
        feeds = self._feeds(of_request, rows, retrieval_scores)
        return of_request, {
            name: values for name, values in feeds.items() if name not in of_request
        }

    def _of_request(self, query: ResolvedQuery) -> dict[str, NDArray[Any]]:
        inputs = self._model.inputs
        return inputs.request_feeds(request_values(query, inputs.request_sources, self._item_ids))

    def _feeds(
        self, of_request: Mapping[str, NDArray[Any]], rows: Rows, retrieval_scores: Floats | None
    ) -> dict[str, NDArray[Any]]:
        return self._model.inputs.candidate_feeds(
            of_request,
            {name: values[rows] for name, values in self._item_feeds.items()},
            len(rows),
            retrieval_scores,
        )

    def _measured_chunk_rows(self) -> int:
        """Return how many candidates one kernel call may rank, from what it takes to rank some.

        A multiple of 64, so that machines of nearly the same speed come to the same number.
        """
        count = min(MEASURED_ROWS, len(self._item_ids))
        nobody = ResolvedQuery.nobody(len(self._item_ids))
        feeds = self._feeds(self._of_request(nobody), np.arange(count), np.zeros(count, np.float32))
        spent = []
        for _ in range(3):
            begin = time.perf_counter_ns()
            self._model.session.run(feeds)
            spent.append(time.perf_counter_ns() - begin)
        fitting = int(count * KERNEL_NS_MAX / max(1, *spent))
        return min(CANDIDATES_MAX, max(1, fitting - fitting % 64 if fitting >= 64 else fitting))
