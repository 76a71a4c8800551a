"""The ranker, as in the TFRS tutorial "Ranking".

https://www.tensorflow.org/recommenders/examples/basic_ranking
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shortlist_exporters.recipes.features import ModelInput
from shortlist_exporters.recipes.keras import tf, tfrs
from shortlist_exporters.recipes.layers import FeatureVectors, Tensors


class RankingModel(tfrs.Model):  # type: ignore[misc]  # TensorFlow ships no types
    """Predicts the rating that a user would give an item.

    Args:
        query_inputs: What is known of the request.
        item_inputs: What is known of a candidate.
        dimension: Components of an embedding.
        hidden: Width of each hidden layer, at least one.
        id_dropout: Of users; see `FeatureVectors`.
        item_id_dropout: Of items.
        text_dropout: See `FeatureVectors`.
        rating_mean: Where the output begins to learn. The tutorial begins with 0, and spends most
            of its epochs on the way to 3.5.
    """

    def __init__(
        self,
        query_inputs: Sequence[ModelInput],
        item_inputs: Sequence[ModelInput],
        *,
        dimension: int,
        hidden: Sequence[int],
        id_dropout: float,
        item_id_dropout: float,
        text_dropout: float,
        rating_mean: float,
    ) -> None:
        super().__init__()
        dense = tf.keras.layers.Dense
        self.query = FeatureVectors(query_inputs, dimension=dimension, id_dropout=id_dropout)
        self.item = FeatureVectors(
            item_inputs,
            dimension=dimension,
            id_dropout=item_id_dropout,
            text_dropout=text_dropout,
        )
        self.first = dense(hidden[0], activation="relu", name="first")
        self.rest = tf.keras.Sequential(
            [
                *(dense(width, activation="relu") for width in hidden[1:]),
                dense(1, bias_initializer=tf.keras.initializers.Constant(rating_mean)),
            ]
        )
        self.task = tfrs.tasks.Ranking(
            loss=tf.keras.losses.MeanSquaredError(),
            metrics=[tf.keras.metrics.RootMeanSquaredError(name="rmse")],
        )

    def call(self, tensors: Tensors, training: bool = False) -> Any:
        """Return [batch, 1]: one rating for each row, every row with a request of its own."""
        query = _side_by_side(self.query(tensors, training=training))
        item = _side_by_side(self.item(tensors, training=training))
        return self.rest(self.first(tf.concat([query, item], axis=1)))

    def compute_loss(self, inputs: Tensors, training: bool = False) -> Any:
        """Return the loss of one batch of `Examples`."""
        ratings = tf.expand_dims(inputs["rating"], -1)
        return self.task(labels=ratings, predictions=self(inputs, training=training))

    def call_split(self, tensors: Tensors, request_index: Any) -> Any:
        """Return [candidate]: what `call` gives, with the request's share computed once a request.

        The first layer of a concatenation is the sum of two layers, one for each part. With 500
        candidates, that saves a fifth of the ranker's time.

        Args:
            tensors: Request-side inputs [request, ...] and item-side inputs [candidate, ...].
            request_index: int64 [candidate]: each candidate's row of the request-side inputs.
        """
        query = _side_by_side(self.query(tensors))
        item = _side_by_side(self.item(tensors))
        width = query.shape[1]
        kernel, bias = self.first.kernel, self.first.bias
        asked = tf.gather(tf.matmul(query, kernel[:width]), request_index)
        hidden = tf.nn.relu(asked + tf.matmul(item, kernel[width:]) + bias)
        return tf.squeeze(self.rest(hidden), axis=1)


def _side_by_side(vectors: tuple[list[Any], list[Any]]) -> Any:
    embeddings, numbers = vectors
    return tf.concat([*embeddings, *numbers], axis=1)
