"""TensorFlow models to ONNX, through gates: whatever does not convert exactly is refused by name.

The only importer of tf2onnx, which by itself fails on nothing: an operation that it does not know,
it writes as it is, with a line in the log, for ONNX Runtime to stumble over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from shortlist_server.bundle.manifest import Input, Model, Output, Tolerance
from shortlist_server.errors import BundleError, ParityError
from shortlist_server.runtime.onnx_session import OnnxSession
from shortlist_server.runtime.parity import check_parity

from shortlist_exporters.errors import ConversionError
from shortlist_exporters.onnx.fault import layer_at_fault, layer_name
from shortlist_exporters.onnx.framework import import_tf2onnx
from shortlist_exporters.onnx.probe import first_rows, random_probe
from shortlist_exporters.onnx.saved_model import FrozenModel, SavedModel
from shortlist_exporters.onnx.signature import check_signature

__all__ = ["SavedModel", "convert_saved_model", "run_saved_model"]

OPSET = 17
"""Version of ONNX's operators: old enough for every ONNX Runtime in use, and complete."""

BATCH_SIZES = (0, 1, 7)
"""Rows that every model must answer alike in both frameworks, beside the whole probe."""

RECURRENT = ("GRU", "LSTM")
"""Operators on which ONNX Runtime 1.32 aborts the whole process when there are no rows, so that
they are spared that batch; a server must never send one."""

ADVICE = (
    "do that step outside of the model, as a transform of its input (lookup, hash, bucketize, "
    "normalize, tokenize: see docs/bring-your-own-model.md)"
)


def convert_saved_model(
    folder: Path,
    onnx_path: Path,
    *,
    inputs: Sequence[Input],
    outputs: Sequence[str],
    vocabulary_sizes: Mapping[str, int] | None = None,
    tolerance: Tolerance | None = None,
    opset: int = OPSET,
) -> list[Output]:
    """Convert a SavedModel to ONNX and prove that it computes the same.

    Args:
        folder: A SavedModel with a `serving_default` signature, whoever made it.
        onnx_path: Where the ONNX model goes. Nothing is left there if the conversion is refused.
        inputs: The inputs as declared; the signature must have exactly these.
        outputs: Names of the outputs to keep.
        vocabulary_sizes: Number of tokens of each vocabulary that the inputs name. Both models must
            agree on random values within those ranges, in batches of 0, 1, 7 and 500 rows; of a
            vocabulary that is not here, only its unknown tokens are tried.
        tolerance: How far numbers may differ; 1e-5 both ways where absent.
        opset: Version of the ONNX operators, at most 18.

    Returns:
        The outputs with their shapes, ready for a manifest.

    Raises:
        SpecError: the signature is not what is declared, or TensorFlow cannot load or run the
            model.
        ConversionError: something in the model has no ONNX counterpart; the message names operation
            and layer.
        ParityError: the numbers differ; the message names the output, the index and the layer at
            fault.
        MissingExtra: TensorFlow or tf2onnx is not installed.
    """
    tolerance = tolerance or Tolerance()
    saved = SavedModel(folder)
    check_signature(saved.signature, inputs=inputs, outputs=outputs, what=str(folder))
    probe = random_probe(inputs, vocabulary_sizes=vocabulary_sizes or {})
    frozen = saved.freeze()
    model = _convert(folder, frozen, outputs, opset)
    _check_inputs(folder, model, inputs)
    _name_axes(model, inputs)
    _check_model(folder, model)
    declared = Model(
        file=onnx_path.name,
        inputs=list(inputs),
        outputs=_declared_outputs(folder, model),
        tolerance=tolerance,
    )
    onnx_path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(onnx_path))
    try:
        _check_numbers(saved, frozen, model, OnnxSession(onnx_path, declared), probe)
    except BaseException as error:
        onnx_path.unlink()
        if isinstance(error, BundleError) and not isinstance(error, ParityError):
            raise ConversionError(f"{folder}: the converted model was refused: {error}") from error
        raise
    return declared.outputs


def run_saved_model(
    folder: Path, feeds: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """Run a SavedModel once in TensorFlow. For several runs, keep a `SavedModel`.

    Raises:
        SpecError: the model cannot be loaded or run, or an input is missing.
        MissingExtra: TensorFlow is not installed.
    """
    return SavedModel(folder).run(feeds)


def _convert(
    folder: Path, frozen: FrozenModel, outputs: Sequence[str], opset: int
) -> onnx.ModelProto:
    """Convert the graph, turning what tf2onnx only logs into an error."""
    tf2onnx = import_tf2onnx()
    kept = {name: frozen.outputs[name] for name in outputs}
    names = {tensor.name: name for name, tensor in {**frozen.inputs, **kept}.items()}
    with _collected_errors("tf2onnx") as complaints:
        try:
            model, _ = tf2onnx.convert.from_graph_def(
                frozen.graph.as_graph_def(add_shapes=True),
                name=folder.name,
                input_names=[tensor.name for tensor in frozen.inputs.values()],
                output_names=[tensor.name for tensor in kept.values()],
                tensors_to_rename=names,
                opset=opset,
            )
        except Exception as error:  # tf2onnx raises what its handlers raise
            raise ConversionError(
                f"{folder}: tf2onnx cannot convert this model: {error}"
            ) from error
    converted: onnx.ModelProto = model
    _check_operators(folder, converted, opset)
    if complaints:
        raise ConversionError(
            f"{folder}: tf2onnx cannot convert this model: {complaints[0]}; {ADVICE}"
        )
    return converted


@contextmanager
def _collected_errors(logger_name: str) -> Iterator[list[str]]:
    """Collect what a package logs as an error, and keep it from the terminal."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                messages.append(record.getMessage().partition("\n")[0])

    collector, logger = Collector(), logging.getLogger(logger_name)
    propagate = logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate


def _check_operators(folder: Path, model: onnx.ModelProto, opset: int) -> None:
    for node in _nodes(model.graph):
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, opset):
            raise ConversionError(
                f"{folder}: operation {node.op_type} in layer {layer_name(node.name)!r} "
                f"({node.name}) has no counterpart in ONNX; {ADVICE}"
            )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the graphs inside its loops and branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _check_inputs(folder: Path, model: onnx.ModelProto, inputs: Sequence[Input]) -> None:
    declared = {tensor.name for tensor in inputs}
    found = {value.name for value in model.graph.input}
    if declared != found:
        raise ConversionError(
            f"{folder}: the conversion changed the inputs: expected {sorted(declared)}, "
            f"got {sorted(found)}; what a model captures must be a constant or a weight of it"
        )


def _name_axes(model: onnx.ModelProto, inputs: Sequence[Input]) -> None:
    """Write the declared names of dynamic axes in place of the converter's `unk__12`."""
    declared = {tensor.name: tensor for tensor in inputs}
    for value in model.graph.input:
        for axis, size in zip(
            value.type.tensor_type.shape.dim, declared[value.name].shape, strict=True
        ):
            if isinstance(size, str):
                axis.dim_param = size
    rows = str(_row_input(inputs).shape[0])
    for value in model.graph.output:
        axes = value.type.tensor_type.shape.dim
        if axes and not axes[0].HasField("dim_value"):
            axes[0].dim_param = rows


def _check_model(folder: Path, model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker's errors share no base class with shape inference's
        raise ConversionError(
            f"{folder}: the converted model is not valid ONNX: {error}"
        ) from error


def _declared_outputs(folder: Path, model: onnx.ModelProto) -> list[Output]:
    outputs = []
    for value in model.graph.output:
        if not value.type.tensor_type.HasField("shape") or not value.type.tensor_type.shape.dim:
            raise ConversionError(
                f"{folder}: output {value.name!r}: expected one row for each row of the inputs, "
                "got no known axes"
            )
        shape: list[int | str] = [
            axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?"
            for axis in value.type.tensor_type.shape.dim
        ]
        outputs.append(Output(name=value.name, shape=shape))
    return outputs


def _check_numbers(
    saved: SavedModel,
    frozen: FrozenModel,
    model: onnx.ModelProto,
    session: OnnxSession,
    probe: Mapping[str, NDArray[Any]],
) -> None:
    declared = session.declared
    recurrent = any(node.op_type in RECURRENT for node in _nodes(model.graph))
    batches = [first_rows(probe, declared.inputs, rows) for rows in BATCH_SIZES[recurrent:]]
    for feeds in (*batches, dict(probe)):
        expected = saved.run(feeds)
        sizes = {name: list(values.shape) for name, values in feeds.items()}
        try:
            actual = session.run(feeds)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise ConversionError(
                f"{saved.folder}: ONNX Runtime fails on inputs of shape {sizes}: {error}"
            ) from error
        for output in declared.outputs:
            what = f"{saved.folder}: output {output.name!r}, inputs of shape {sizes}"
            _check_rows(declared.inputs, feeds, expected[output.name], what)
            try:
                check_parity(expected[output.name], actual[output.name], declared.tolerance, what)
            except ParityError as error:
                where = _fault(frozen, model, declared, feeds)
                raise ParityError(f"{error}; {where}") from error


def _fault(
    frozen: FrozenModel, model: onnx.ModelProto, declared: Model, feeds: Mapping[str, NDArray[Any]]
) -> str:
    try:
        layer = layer_at_fault(
            frozen, model, inputs=declared.inputs, feeds=feeds, tolerance=declared.tolerance
        )
    except Exception as error:  # a search that fails must not hide what it was to explain
        return f"the layer at fault was not found ({type(error).__name__})"
    return f"layer {layer!r} differs first" if layer else "no layer differs by itself"


def _check_rows(
    inputs: Sequence[Input], feeds: Mapping[str, NDArray[Any]], output: NDArray[Any], what: str
) -> None:
    rows = len(feeds[_row_input(inputs).name])
    if output.ndim == 0 or len(output) != rows:
        raise ConversionError(
            f"{what}: expected {rows} rows, one for each row of the inputs, got shape "
            f"{list(output.shape)}"
        )


def _row_input(inputs: Sequence[Input]) -> Input:
    """Return the input whose rows the outputs answer: the index of a joined ranker, else any."""
    return next((tensor for tensor in inputs if tensor.source == "request.index"), inputs[0])
