"""Trained Keras models as SavedModels that take and give named tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shortlist_server.bundle.manifest import Input

from shortlist_exporters.onnx.signature import SIGNATURE
from shortlist_exporters.recipes.features import ModelInput
from shortlist_exporters.recipes.keras import tf
from shortlist_exporters.recipes.ranking import RankingModel
from shortlist_exporters.recipes.retrieval import Tower

EMBEDDING = "embedding"
RATING = "rating"
AFFINITY = "affinity"
"""Output of a ranker that passes the retrieval score through."""
REQUEST_INDEX = "request_index"
RETRIEVAL_SCORE = "retrieval_score"


def save_tower(tower: Tower, inputs: Sequence[ModelInput], folder: Path) -> list[Input]:
    """Write a tower, with the output `embedding`, and return its inputs as a spec declares them."""
    declared = [tensor.declared for tensor in inputs]
    _save(tower, lambda tensors: {EMBEDDING: tower(tensors)}, declared, folder)
    return declared


def save_ranker(
    model: RankingModel,
    query_inputs: Sequence[ModelInput],
    item_inputs: Sequence[ModelInput],
    folder: Path,
    *,
    affinity: bool,
) -> list[Input]:
    """Write a ranker in its split form, with the output `rating`, and return its inputs.

    What belongs to the request comes once a request, what belongs to an item once a candidate, and
    `request_index` joins them.

    Args:
        model: The trained ranker.
        query_inputs: What is known of the request.
        item_inputs: What is known of a candidate.
        folder: Where to write.
        affinity: Whether the retrieval score comes out as a second output: a rating says how much
            somebody will like a film, and little about whether he would watch it at all.
    """
    index = Input(name=REQUEST_INDEX, dtype="int64", shape=["candidate"], source="request.index")
    declared = [
        *(_with_axis(tensor.declared, "request") for tensor in query_inputs),
        *(_with_axis(tensor.declared, "candidate") for tensor in item_inputs),
        index,
    ]
    if affinity:
        score = Input(
            name=RETRIEVAL_SCORE, dtype="float32", shape=["candidate"], source="retrieval.score"
        )
        declared.append(score)

    def serve(tensors: dict[str, Any]) -> dict[str, Any]:
        outputs = {RATING: model.call_split(tensors, tensors[REQUEST_INDEX])}
        if affinity:
            outputs[AFFINITY] = tf.identity(tensors[RETRIEVAL_SCORE])
        return outputs

    _save(model, serve, declared, folder)
    return declared


def _with_axis(declared: Input, axis: str) -> Input:
    return declared.model_copy(update={"shape": [axis, *declared.shape[1:]]})


def _save(
    model: Any,
    serve: Callable[[dict[str, Any]], dict[str, Any]],
    inputs: Sequence[Input],
    folder: Path,
) -> None:
    # A plain module, not Keras's own `save`: weights and this one function, no training code.
    module = tf.Module()
    module.model = model
    specs = {
        tensor.name: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype, name=tensor.name)
        for tensor in inputs
    }
    module.serve = tf.function(serve, input_signature=[specs])
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: module.serve})
