"""A TensorFlow SavedModel: run as it is, or frozen into a graph of constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortlist_exporters.errors import ConversionError, SpecError
from shortlist_exporters.onnx.framework import import_tensorflow
from shortlist_exporters.onnx.signature import SIGNATURE, read_signature


class SavedModel:
    """A loaded SavedModel, seen through its `serving_default` signature."""

    def __init__(self, folder: Path) -> None:
        """Load the model.

        Raises:
            SpecError: there is no SavedModel in `folder`, or it has no `serving_default`.
            MissingExtra: TensorFlow is not installed.
        """
        self.folder = folder
        self.signature = read_signature(folder)
        self._tensorflow = import_tensorflow()
        try:
            # A signature does not keep its model alive, and variables die with it.
            self._loaded = self._tensorflow.saved_model.load(str(folder))
        except Exception as error:  # TensorFlow raises errors of a dozen classes here
            raise SpecError(f"{folder}: TensorFlow cannot load this SavedModel: {error}") from error
        self._function = self._loaded.signatures[SIGNATURE]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run the model in TensorFlow: what every conversion is measured against.

        Args:
            feeds: One array for each input of the signature, of its dtype.

        Raises:
            SpecError: an input is missing or unknown, or TensorFlow refuses the values.
        """
        if set(feeds) != set(self.signature.inputs):
            raise SpecError(
                f"{self.folder}: expected the inputs {sorted(self.signature.inputs)}, got "
                f"{sorted(feeds)}"
            )
        try:
            outputs = self._function(
                **{name: self._tensorflow.constant(value) for name, value in feeds.items()}
            )
        except Exception as error:  # TensorFlow raises errors of a dozen classes here
            shapes = {name: (str(value.dtype), value.shape) for name, value in feeds.items()}
            raise SpecError(
                f"{self.folder}: TensorFlow cannot run this model on {shapes}: {error}"
            ) from error
        return {name: value.numpy() for name, value in outputs.items()}

    def freeze(self) -> FrozenModel:
        """Return the model as a graph in which variables and captured constants are constants.

        Raises:
            ConversionError: the model holds something that is neither, for example a lookup table.
        """
        # tf2onnx's own loader (`from_saved_model`) does this too, but leaves what it cannot freeze
        # as a further graph input and only logs; `from_function` makes inputs of captured
        # constants.
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2,
        )

        try:
            function = convert_variables_to_constants_v2(
                self._function, lower_control_flow=False, aggressive_inlining=True
            )
        except Exception as error:  # TensorFlow raises errors of a dozen classes here
            raise ConversionError(
                f"{self.folder}: TensorFlow cannot freeze this model: {error}"
            ) from error
        return FrozenModel(self, function)


class FrozenModel:
    """A SavedModel as a graph of constants."""

    def __init__(self, original: SavedModel, function: Any) -> None:
        """Match the graph's tensors with the signature's names.

        Raises:
            ConversionError: the graph has other inputs than the signature.
        """
        self.graph = function.graph
        names = sorted(original.signature.inputs)
        if len(function.inputs) != len(names):
            raise ConversionError(_left_over(original.folder, function.inputs[len(names) :]))
        # TensorFlow keeps both sides of a signature in the order of their names.
        self.inputs: dict[str, Any] = dict(zip(names, function.inputs, strict=True))
        self.outputs: dict[str, Any] = dict(
            zip(sorted(original.signature.outputs), function.outputs, strict=True)
        )
        self._function = function

    def run(self, feeds: Mapping[str, NDArray[Any]], tensors: Sequence[Any]) -> list[NDArray[Any]]:
        """Return the values of tensors anywhere in the graph.

        Args:
            feeds: One array for each input.
            tensors: Tensors of `graph`.
        """
        tensorflow = import_tensorflow()
        function = self._function.prune(list(self.inputs.values()), list(tensors))
        values = function(*(tensorflow.constant(feeds[name]) for name in self.inputs))
        return [value.numpy() for value in values]


def _left_over(folder: Path, tensors: Sequence[Any]) -> str:
    users = sorted({f"{user.type} ({user.name})" for tensor in tensors for user in _users(tensor)})
    return (
        f"{folder}: expected a model of weights and constants, got something else (a lookup table?)"
        f", used by {', '.join(users)}; keep vocabularies outside of the model, as transforms of "
        "its inputs"
    )


def _users(tensor: Any) -> list[Any]:
    """Return the operations that use a tensor, looking through those that only hand it on."""
    return [
        user
        for consumer in tensor.consumers()
        for user in (_users(consumer.outputs[0]) if consumer.type == "Identity" else [consumer])
    ]
