"""Keras layers that turn the inputs of one side into vectors, as the TFRS tutorials do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shortlist_server.bundle.manifest import TEXT_SOURCE

from shortlist_exporters.recipes.features import ModelInput
from shortlist_exporters.recipes.keras import tf

CLIP = 4.0
"""Standard deviations beyond which a number counts as this far: one odd value, or a time far after
training, must not outweigh everything else."""

Tensors = Mapping[str, Any]


class FeatureVectors(tf.keras.layers.Layer):  # type: ignore[misc]  # TensorFlow ships no types
    """One vector for each input: an embedding for an index, one component for a number.

    Args:
        inputs: What comes in.
        dimension: Components of an embedding.
        id_dropout: Share of ids that count as unknown in training, so that index 0 learns to stand
            for a user or an item of whom only the other features are known.
        text_dropout: Share of texts that count as missing in training.
    """

    def __init__(
        self,
        inputs: Sequence[ModelInput],
        *,
        dimension: int,
        id_dropout: float,
        text_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.by_name: dict[str, Any] = {
            tensor.declared.name: TextProjection(dimension, text_dropout, tensor.declared.name)
            if tensor.declared.source == TEXT_SOURCE
            else _layer(tensor, dimension, id_dropout)
            for tensor in inputs
        }

    def call(self, tensors: Tensors, training: bool = False) -> tuple[list[Any], list[Any]]:
        """Return the embeddings, [batch, dimension] each, and the numbers, [batch, 1] each."""
        embeddings: list[Any] = []
        numbers: list[Any] = []
        for name, layer in self.by_name.items():
            vector = layer(tensors[name], training=training)
            (numbers if isinstance(layer, Number) else embeddings).append(vector)
        return embeddings, numbers


class IdEmbedding(tf.keras.layers.Layer):  # type: ignore[misc]  # TensorFlow ships no types
    """An embedding that forgets some ids in training."""

    def __init__(self, index_count: int, dimension: int, dropout: float, name: str) -> None:
        super().__init__(name=name)
        self.embedding = tf.keras.layers.Embedding(index_count, dimension)
        self.dropout = dropout

    def call(self, ids: Any, training: bool = False) -> Any:
        """Return [batch, dimension]."""
        if training and self.dropout:
            forgotten = tf.random.uniform(tf.shape(ids)) < self.dropout
            ids = tf.where(forgotten, tf.zeros_like(ids), ids)
        return self.embedding(ids)


class TextProjection(tf.keras.layers.Layer):  # type: ignore[misc]  # TensorFlow ships no types
    """The point of a text, brought to the dimension of an embedding: zero where there is none."""

    def __init__(self, dimension: int, dropout: float, name: str) -> None:
        super().__init__(name=name)
        # Without a bias, so that a missing text adds nothing to the sum of a tower.
        self.dense = tf.keras.layers.Dense(dimension, use_bias=False)
        self.dropout = dropout

    def call(self, points: Any, training: bool = False) -> Any:
        """Return [batch, dimension]."""
        if training and self.dropout:
            kept = tf.random.uniform([tf.shape(points)[0], 1]) >= self.dropout
            points = tf.where(kept, points, tf.zeros_like(points))
        return self.dense(points)


class MeanEmbedding(tf.keras.layers.Layer):  # type: ignore[misc]  # TensorFlow ships no types
    """The mean of the embeddings of a list, padding (index 0) left out; zero for an empty list."""

    def __init__(self, index_count: int, dimension: int, name: str) -> None:
        super().__init__(name=name)
        self.embedding = tf.keras.layers.Embedding(index_count, dimension)

    def call(self, indices: Any, training: bool = False) -> Any:
        """Return [batch, dimension]."""
        # GlobalAveragePooling1D with a mask divides by zero where the list is empty.
        present = tf.expand_dims(tf.cast(indices != 0, tf.float32), -1)
        total = tf.reduce_sum(self.embedding(indices) * present, axis=1)
        return total / tf.maximum(tf.reduce_sum(present, axis=1), 1.0)


class Number(tf.keras.layers.Layer):  # type: ignore[misc]  # TensorFlow ships no types
    """A normalised number as a vector of one component."""

    def call(self, values: Any, training: bool = False) -> Any:
        """Return [batch, 1]."""
        return tf.expand_dims(tf.clip_by_value(values, -CLIP, CLIP), -1)


def _layer(tensor: ModelInput, dimension: int, id_dropout: float) -> Any:
    name = tensor.declared.name
    if not tensor.index_count:
        return Number(name=name)
    if len(tensor.declared.shape) > 1:
        return MeanEmbedding(tensor.index_count, dimension, name)
    dropout = id_dropout if tensor.declared.source in ("user.id", "item.id") else 0.0
    return IdEmbedding(tensor.index_count, dimension, dropout, name)
