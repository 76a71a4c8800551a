"""The two towers, as in the TFRS tutorial "Retrieval".

https://www.tensorflow.org/recommenders/examples/basic_retrieval
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shortlist_exporters.recipes.features import ModelInput
from shortlist_exporters.recipes.keras import tf, tfrs
from shortlist_exporters.recipes.layers import FeatureVectors, Tensors


class Tower(tf.keras.Model):  # type: ignore[misc]  # TensorFlow ships no types
    """Features in, one embedding out: the sum of what each feature contributes.

    With the id alone, this is the tutorials' tower. The tutorials join several features with a
    dense layer instead; on MovieLens 100K the sum learns faster and finds more.
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
        self.vectors = FeatureVectors(
            inputs, dimension=dimension, id_dropout=id_dropout, text_dropout=text_dropout
        )
        self.numbers = tf.keras.layers.Dense(dimension, use_bias=False, name="numbers")

    def call(self, tensors: Tensors, training: bool = False) -> Any:
        """Return [batch, dimension]."""
        embeddings, numbers = self.vectors(tensors, training=training)
        if numbers:
            embeddings = [*embeddings, self.numbers(tf.concat(numbers, axis=1))]
        return tf.add_n(embeddings)


class RetrievalModel(tfrs.Model):  # type: ignore[misc]  # TensorFlow ships no types
    """Both towers, taught to find each user's item among those of the batch."""

    def __init__(self, query_tower: Tower, item_tower: Tower) -> None:
        super().__init__()
        self.query_tower = query_tower
        self.item_tower = item_tower
        self.task = tfrs.tasks.Retrieval()
        self.softmax_loss = tf.keras.metrics.Mean(name="softmax_loss")

    def compute_loss(self, inputs: Tensors, training: bool = False) -> Any:
        """Return the loss of one batch of `Examples`."""
        queries = self.query_tower(inputs, training=training)
        loss = self.task(
            queries,
            self.item_tower(inputs, training=training),
            # Popular items are in most batches, as others' items; uncorrected, a model learns to
            # avoid them. The tutorial leaves it so, and has no such input.
            candidate_sampling_probability=inputs.get("sampling_probability"),
            compute_metrics=False,
        )
        # The task sums over a batch, so its own figure follows the size of the last one.
        self.softmax_loss.update_state(loss / tf.cast(tf.shape(queries)[0], tf.float32))
        return loss
