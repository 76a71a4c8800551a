"""ONNX files that others made: are they whole, and one file?"""

from __future__ import annotations

from pathlib import Path

import onnx

from shortlist_exporters.errors import ConversionError


def check_model_file(path: Path) -> None:
    """Check an ONNX file before it goes into a bundle.

    Raises:
        ConversionError: it cannot be parsed, its graph is not valid, or its weights lie in other
            files.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
        onnx.checker.check_model(model)
    except (
        Exception
    ) as error:  # protobuf and onnx raise unrelated classes for a file that is no model
        raise ConversionError(f"{path}: expected a valid ONNX model: {error}") from error
    outside = [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    if outside:
        raise ConversionError(
            f"{path}: expected all weights inside the file, but {outside[0]!r} lies outside; save "
            "the model in one file"
        )
