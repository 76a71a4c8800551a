"""TensorFlow and TensorFlow Recommenders under their usual names, with Keras 2."""

from __future__ import annotations

from shortlist_exporters.onnx.framework import import_recommenders

# Sets what must be set before TensorFlow is imported, and names what is not installed.
import_recommenders()
import tensorflow as tf  # noqa: E402  (the call above must come first)
import tensorflow_recommenders as tfrs  # noqa: E402

__all__ = ["tf", "tfrs"]
