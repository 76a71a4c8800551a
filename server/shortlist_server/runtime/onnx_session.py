"""ONNX models, checked against the manifest when they are loaded. The only importer of
onnxruntime.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# onnxruntime 1.29 and later sends telemetry on Linux unless this is set before the import;
# afterwards is too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema, schemadef

from shortlist_server.errors import BundleCorrupt, ModelSignatureMismatch
from shortlist_server.runtime.onnx_file import check_model

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


Tensors: TypeAlias = dict[str, tuple[str, list[int | str]]]
"""By name: dtype and shape; a text in a shape is a dynamic axis."""


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
        check_model(path, declared.file, _is_optional)
        try:
            self._session = open_model(str(path))
            inputs = _tensors(self._session.get_inputs())
            outputs = _tensors(self._session.get_outputs())
        except Exception as error:  # names that are no UTF-8, too
            raise BundleCorrupt(
                f"{declared.file}: ONNX Runtime {ONNXRUNTIME_VERSION} cannot load this model: "
                f"{error}"
            ) from error
        self.declared = declared
        self._output_names = [output.name for output in declared.outputs]
        _check_signature(declared, inputs, outputs)

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


class GraphSession:
    """An ONNX model that no manifest describes, on one CPU thread: its tensors are known to whoever
    runs it. Safe to call from several threads at once.
    """

    def __init__(
        self,
        path: Path,
        inputs: Mapping[str, tuple[str, int]],
        outputs: Mapping[str, tuple[str, int]],
    ) -> None:
        """Load the model and compare its tensors with what they must be.

        Args:
            path: The ONNX file.
            inputs: Dtype and number of axes of each input, by name.
            outputs: The same of each output.

        Raises:
            BundleCorrupt: ONNX Runtime cannot load the file.
            ModelSignatureMismatch: an input or output is another one.
        """
        check_model(path, str(path), _is_optional)
        try:
            self._session = open_model(str(path))
            actual = _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs())
        except Exception as error:
            raise BundleCorrupt(
                f"{path}: ONNX Runtime {ONNXRUNTIME_VERSION} cannot load this model: {error}"
            ) from error
        self._output_names = list(outputs)
        for side, wanted, tensors in zip(
            ("inputs", "outputs"), (inputs, outputs), actual, strict=True
        ):
            got = {name: (dtype, len(shape)) for name, (dtype, shape) in tensors.items()}
            if got != dict(wanted):
                raise ModelSignatureMismatch(
                    f"{path}: {side}: expected {dict(wanted)} (dtype, number of axes), got {got}"
                )

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model once; returns its outputs by name."""
        return dict(
            zip(self._output_names, self._session.run(self._output_names, feeds), strict=True)
        )


def _is_optional(domain: str, operator: str, position: int) -> bool:
    """Whether an operator can do without an input, in any of its versions."""
    # Both are names of the default domain.
    domain = "" if domain == "ai.onnx" else domain
    return (domain, operator, position) in _optional_inputs()


@cache
def _optional_inputs() -> frozenset[tuple[str, str, int]]:
    """Return all inputs that an operator can do without: domain, operator, position."""
    optional = schemadef.OpSchema.FormalParameterOption.Optional
    return frozenset(
        (schema.domain, schema.name, position)
        for schema in get_all_operator_schema()
        for position, parameter in enumerate(schema.inputs)
        if parameter.option == optional
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
    # Its fallback tries the same again, and prints to standard output.
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], enable_fallback=False
    )


def read_signature(path: Path) -> tuple[Tensors, Tensors]:
    """Return the inputs and outputs of an ONNX file.

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


def _tensors(nodes: list[Any]) -> Tensors:
    return {
        node.name: (
            DTYPES.get(node.type, node.type),
            [axis if isinstance(axis, int) else str(axis or "?") for axis in node.shape],
        )
        for node in nodes
    }


def _check_signature(declared: Model, inputs: Tensors, outputs: Tensors) -> None:
    for side, wanted, actual in (
        ("input", declared.inputs, inputs),
        ("output", declared.outputs, outputs),
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
