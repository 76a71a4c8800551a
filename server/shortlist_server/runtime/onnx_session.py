"""ONNX models, checked against the manifest when they are loaded. The only importer of
onnxruntime.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

# onnxruntime 1.29 and later sends telemetry on Linux unless this is set before the import;
# afterwards is too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

from shortlist_server.errors import BundleCorrupt, ModelSignatureMismatch

if TYPE_CHECKING:
    from shortlist_server.bundle.manifest import Model

ONNXRUNTIME_VERSION: str = onnxruntime.__version__

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}


class OnnxSession:
    """One ONNX model on one CPU thread.

    Safe to call from several threads at once: ONNX Runtime keeps no state between runs.
    """

    def __init__(self, path: Path, declared: Model) -> None:
        """Load the model and compare its tensors with the manifest.

        Raises:
            BundleCorrupt: ONNX Runtime cannot load the file.
            ModelSignatureMismatch: an input or output is missing, undeclared, or of another dtype
                or shape.
        """
        try:
            self._session = open_model(str(path))
        except Exception as error:
            raise BundleCorrupt(
                f"{declared.file}: ONNX Runtime {ONNXRUNTIME_VERSION} cannot load this model: "
                f"{error}"
            ) from error
        self.declared = declared
        self._output_names = [output.name for output in declared.outputs]
        _check_signature(declared, self._session)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run the model once.

        Args:
            feeds: One array for each declared input, of its dtype and shape.

        Returns:
            The declared outputs by name, float32.
        """
        return dict(
            zip(self._output_names, self._session.run(self._output_names, feeds), strict=True)
        )


def open_model(model: str | bytes) -> Any:
    """Return an InferenceSession of a model, the path or the bytes of an ONNX file, on one thread.

    Raises:
        Exception: ONNX Runtime cannot load it; its exceptions share no base class.
    """
    options = onnxruntime.SessionOptions()
    # More than one thread per call gives multi-millisecond outliers; parallelism comes from
    # several calls.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read_signature(
    path: Path,
) -> tuple[dict[str, tuple[str, list[int | str]]], dict[str, tuple[str, list[int | str]]]]:
    """Return the inputs and outputs of an ONNX file: name -> (dtype, shape); a text in a shape is a
    dynamic axis.

    Raises:
        BundleCorrupt: ONNX Runtime cannot load the file.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise BundleCorrupt(
            f"{path}: ONNX Runtime {ONNXRUNTIME_VERSION} cannot load this model: {error}"
        ) from error
    return _tensors(session.get_inputs()), _tensors(session.get_outputs())


def _tensors(nodes: list[Any]) -> dict[str, tuple[str, list[int | str]]]:
    return {
        node.name: (
            DTYPES.get(node.type, node.type),
            [axis if isinstance(axis, int) else str(axis or "?") for axis in node.shape],
        )
        for node in nodes
    }


def _check_signature(declared: Model, session: Any) -> None:
    for side, wanted, actual in (
        ("input", declared.inputs, _tensors(session.get_inputs())),
        ("output", declared.outputs, _tensors(session.get_outputs())),
    ):
        names = [tensor.name for tensor in wanted]
        if missing := [name for name in names if name not in actual]:
            raise ModelSignatureMismatch(
                f"{declared.file}: expected {side} {missing[0]!r}, which the manifest declares, "
                f"got {sorted(actual)}; "
                "export the bundle again"
            )
        # Outputs that nobody declared are harmless; an undeclared input could never be fed.
        if side == "input" and (extra := sorted(set(actual) - set(names))):
            raise ModelSignatureMismatch(
                f"{declared.file}: expected the inputs {names}, got also {extra[0]!r}, which the "
                "manifest does not "
                "declare; export the bundle again"
            )
        for tensor in wanted:
            dtype, shape = actual[tensor.name]
            if dtype != tensor.dtype or not _compatible(tensor.shape, shape):
                raise ModelSignatureMismatch(
                    f"{declared.file}: tensor {tensor.name!r}: expected {tensor.dtype} "
                    f"{tensor.shape}, "
                    f"got {dtype} {shape}; export the bundle again"
                )


def _compatible(declared: list[int | str], actual: list[int | str]) -> bool:
    """Whether ranks agree, and sizes where both are fixed."""
    return len(declared) == len(actual) and all(
        isinstance(a, str) or isinstance(b, str) or a == b
        for a, b in zip(declared, actual, strict=True)
    )
