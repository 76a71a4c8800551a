"""Where a converted model goes wrong: the first layer whose numbers are not the original's."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from shortlist_server.bundle.manifest import Input, Model, Output, Tolerance
from shortlist_server.runtime.onnx_session import OnnxSession, read_signature
from shortlist_server.runtime.parity import first_difference

from shortlist_exporters.onnx.saved_model import FrozenModel

Feeds = Mapping[str, NDArray[Any]]


def layer_at_fault(
    frozen: FrozenModel,
    model: onnx.ModelProto,
    *,
    inputs: Sequence[Input],
    feeds: Feeds,
    tolerance: Tolerance,
) -> str | None:
    """Name the first layer whose numbers differ between TensorFlow and ONNX Runtime.

    Compares the tensors that still have the same name on both sides, in the order in which they are
    computed. The conversion fuses some away, so the answer is the layer, not always the operation;
    None if none of them differs.

    Args:
        frozen: The TensorFlow graph that was converted.
        model: The ONNX model.
        inputs: The inputs as declared.
        feeds: Values for them.
        tolerance: How far numbers may differ.
    """
    shared = _shared_tensors(frozen, model)
    expected = dict(zip(shared, frozen.run(feeds, list(shared.values())), strict=True))
    actual = _run_onnx(model, list(shared), inputs, feeds)
    for name, values in expected.items():
        got = actual.get(name)
        if got is not None and (
            got.shape != values.shape or first_difference(values, got, tolerance) is not None
        ):
            return layer_name(name)
    return None


def layer_name(node: str) -> str:
    """Return the layer that a node belongs to: `tower/dense/MatMul:0` -> `tower/dense`."""
    steps = [
        step for step in node.partition(":")[0].split("/") if not _ADDED_BY_TENSORFLOW.match(step)
    ]
    return "/".join(steps[:-1] or steps) or node


_ADDED_BY_TENSORFLOW = re.compile(
    r"^(StatefulPartitionedCall|PartitionedCall|Func|None_Lookup)(_\d+)?$"
)


def _shared_tensors(frozen: FrozenModel, model: onnx.ModelProto) -> dict[str, Any]:
    """Return TensorFlow's float tensors that the ONNX model has too, in the ONNX model's order."""
    nodes = {operation.name: operation for operation in frozen.graph.get_operations()}
    shared = {}
    for name in (name for node in model.graph.node for name in node.output):
        node, _, position = name.partition(":")
        if position.isdigit() and node in nodes and int(position) < len(nodes[node].outputs):
            tensor = nodes[node].outputs[int(position)]
            if tensor.dtype.name == "float32":
                shared[name] = tensor
    return shared


def _run_onnx(
    model: onnx.ModelProto, names: Sequence[str], inputs: Sequence[Input], feeds: Feeds
) -> dict[str, NDArray[Any]]:
    """Return the values of tensors inside an ONNX model."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    known = {output.name for output in probed.graph.output}
    probed.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in known
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probed.onnx"
        onnx.save(probed, str(path))
        _, found = read_signature(path)
        outputs = [
            Output(name=name, shape=shape)
            for name, (dtype, shape) in found.items()
            if dtype == "float32" and shape
        ]
        declared = Model(file=path.name, inputs=list(inputs), outputs=outputs)
        return dict(OnnxSession(path, declared).run(feeds))
