"""TensorFlow as this project needs it: with Keras 2, quiet, and named where it is missing."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Any

from shortlist_server.errors import MissingExtra

from shortlist_exporters.errors import ExportError


def import_tensorflow() -> Any:
    """Import TensorFlow; every other module gets it from here. The first call takes about 8 s.

    Raises:
        MissingExtra: TensorFlow is not installed.
    """
    # TensorFlow Recommenders is written for Keras 2; after the import is too late.
    if "tensorflow" not in sys.modules:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    # TensorFlow 2.21 still prints a few lines (oneDNN, CUDA): they are written before it reads
    # this.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    tensorflow = _import("tensorflow")
    # Deprecations inside TensorFlow and tf2onnx are not our user's business.
    tensorflow.get_logger().setLevel(logging.ERROR)
    return tensorflow


def import_recommenders() -> Any:
    """Import TensorFlow Recommenders.

    Raises:
        MissingExtra: it, or the Keras 2 that it needs, is not installed.
        ExportError: the process imported TensorFlow earlier, with Keras 3.
    """
    tensorflow = import_tensorflow()
    _import("tf_keras")
    if not tensorflow.keras.Model.__module__.startswith("tf_keras."):
        raise ExportError(
            "TensorFlow: expected Keras 2, got Keras 3, since this process imported TensorFlow "
            "without "
            "it; set TF_USE_LEGACY_KERAS=1 before the first import"
        )
    return _import("tensorflow_recommenders")


def import_tf2onnx() -> Any:
    """Import tf2onnx.

    Raises:
        MissingExtra: it is not installed.
    """
    import_tensorflow()
    return _import("tf2onnx")


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != name:
            raise
        raise MissingExtra(
            feature=f"Training and converting TensorFlow models ({name})", extra="export"
        ) from error
