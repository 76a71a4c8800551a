"""What a model takes and gives, read from its file, and compared with what its spec declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shortlist_server.bundle.manifest import Input
from shortlist_server.errors import BundleCorrupt
from shortlist_server.runtime import onnx_session

from shortlist_exporters.errors import SpecError
from shortlist_exporters.onnx.framework import import_tensorflow

SIGNATURE = "serving_default"
"""The signature of a SavedModel that is exported: the one that TensorFlow Serving answers with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One input or output of a model."""

    dtype: str
    shape: tuple[int | str, ...] | None
    """A text is a dynamic axis; None where not even the number of axes is known."""

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype} of any shape"
        return f"{self.dtype} [{', '.join(str(axis) for axis in self.shape)}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Inputs and outputs of a model, by name."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def read_signature(model: Path) -> Signature:
    """Read the signature of a SavedModel folder or of an `.onnx` file.

    Raises:
        SpecError: there is no such model, it cannot be read, or a SavedModel has no
            `serving_default`.
        MissingExtra: it is a SavedModel and TensorFlow is not installed.
    """
    if model.is_dir():
        return _read_saved_model(model)
    if not model.is_file():
        raise SpecError(f"{model}: no such model; expected a SavedModel folder or an .onnx file")
    try:
        inputs, outputs = onnx_session.read_signature(model)
    except BundleCorrupt as error:
        raise SpecError(str(error)) from error
    return Signature(inputs=_from_onnx(inputs), outputs=_from_onnx(outputs))


def check_signature(
    signature: Signature, *, inputs: Sequence[Input], outputs: Sequence[str], what: str
) -> None:
    """Compare a model's signature with its declaration.

    Inputs must be exactly those declared. Outputs that nobody declared are harmless.

    Args:
        signature: What the model has.
        inputs: What the spec declares.
        outputs: Names of the outputs that the spec uses.
        what: The model, as an error message should call it.

    Raises:
        SpecError: they differ; the message names the first tensor that does.
    """
    declared = {tensor.name: tensor for tensor in inputs}
    if len(declared) != len(inputs):
        names = [tensor.name for tensor in inputs]
        twice = next(name for name in names if names.count(name) > 1)
        raise SpecError(f"{what}: input {twice!r}: expected to be declared once, got twice")
    for name in declared:
        if name not in signature.inputs:
            raise SpecError(
                f"{what}: input {name!r} is declared, but the model takes "
                f"{_listed(signature.inputs)}; "
                "correct `inputs` in the spec"
            )
    for name, tensor in signature.inputs.items():
        if name not in declared:
            raise SpecError(
                f"{what}: the model takes an input {name!r} ({tensor}), which is not declared; "
                f"declared are {sorted(declared)}; add it to `inputs` in the spec"
            )
        wanted = Tensor(dtype=declared[name].dtype, shape=tuple(declared[name].shape))
        if tensor.dtype != wanted.dtype or not _compatible(tensor.shape, wanted.shape):
            raise SpecError(
                f"{what}: input {name!r} is declared as {wanted}, but the model takes {tensor}"
            )
    for name in outputs:
        if name not in signature.outputs:
            raise SpecError(
                f"{what}: output {name!r} is named in the spec, but the model gives "
                f"{_listed(signature.outputs)}"
            )
        if signature.outputs[name].dtype != "float32":
            raise SpecError(
                f"{what}: output {name!r}: expected float32, the model gives "
                f"{signature.outputs[name]}"
            )


def _read_saved_model(folder: Path) -> Signature:
    tensorflow = import_tensorflow()
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / "saved_model.pb"
    if not path.is_file():
        raise SpecError(f"{folder}: expected a SavedModel, got a folder without saved_model.pb")
    saved = SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError differs between its implementations
        raise SpecError(f"{path}: expected a SavedModel, cannot be parsed: {error}") from error
    graphs = [graph for graph in saved.meta_graphs if "serve" in graph.meta_info_def.tags]
    names = sorted(
        {name for graph in graphs for name in graph.signature_def if not name.startswith("__")}
    )
    if SIGNATURE not in names:
        raise SpecError(
            f"{folder}: expected a signature {SIGNATURE!r}, got {names}; "
            f"save the model with signatures={{{SIGNATURE!r}: ...}}"
        )
    definition = next(
        graph.signature_def[SIGNATURE] for graph in graphs if SIGNATURE in graph.signature_def
    )

    def tensors(infos: Mapping[str, Any]) -> dict[str, Tensor]:
        return {
            name: Tensor(
                dtype=tensorflow.as_dtype(info.dtype).name, shape=_saved_shape(info.tensor_shape)
            )
            for name, info in sorted(infos.items())
        }

    return Signature(inputs=tensors(definition.inputs), outputs=tensors(definition.outputs))


def _saved_shape(shape: Any) -> tuple[int | str, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(axis.size if axis.size >= 0 else "?" for axis in shape.dim)


def _from_onnx(tensors: Mapping[str, tuple[str, list[int | str]]]) -> dict[str, Tensor]:
    return {
        name: Tensor(dtype=dtype, shape=tuple(shape)) for name, (dtype, shape) in tensors.items()
    }


def _compatible(
    actual: tuple[int | str, ...] | None, declared: tuple[int | str, ...] | None
) -> bool:
    """Whether ranks agree, fixed sizes are equal, and what is declared dynamic is dynamic."""
    if actual is None or declared is None:
        return True
    return len(actual) == len(declared) and all(
        isinstance(axis, str) or axis == wanted
        for axis, wanted in zip(actual, declared, strict=True)
    )


def _listed(tensors: Mapping[str, Tensor]) -> str:
    return (
        ", ".join(f"{name!r} ({tensor})" for name, tensor in sorted(tensors.items())) or "nothing"
    )
