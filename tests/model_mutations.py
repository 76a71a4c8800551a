"""Mutations of ONNX models that leave them models, as a converter with a fault would write them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

Draw: TypeAlias = random.Random

OPERATORS = (
    *("Add", "MatMul", "Gather", "GatherElements", "GatherND", "ScatterND", "Split", "Squeeze"),
    *("Unsqueeze", "Reshape", "Expand", "Tile", "ConstantOfShape", "Range", "OneHot", "Pad"),
    *("Slice", "Concat", "Conv", "ConvTranspose", "MaxPool", "Resize", "TopK", "Transpose"),
    *("Einsum", "Gemm", "LSTM", "GRU", "NonMaxSuppression", "RoiAlign", "CumSum", "Compress"),
    *("Where", "QLinearMatMul", "DequantizeLinear", "Attention", "Shape", "Identity", "Cast"),
    *("StringNormalizer", "TfIdfVectorizer", "LabelEncoder", "TreeEnsembleRegressor"),
    *("EmbedLayerNormalization", "MatMulNBits", "Nowhere"),
)
FLOATS = (float("nan"), float("inf"), float("-inf"), 1e38, -1e38, 1e-45)
SIZES = (-1, 0, 1, 3, 2**20, 2**31, 2**40, 2**62, 2**63 - 1)


def model(folder: Path, manifest: dict[str, Any], draw: Draw) -> str:
    """Change one of a bundle's models."""
    path = draw.choice(sorted((folder / "models").glob("*.onnx")))
    parsed = onnx.load(path, load_external_data=False)
    node, weights = draw.choice(parsed.graph.node), draw.choice(parsed.graph.initializer)
    change = draw.choice(CHANGES)
    change(parsed, node, weights, draw)
    path.write_bytes(parsed.SerializeToString())
    return f"{path.name} {change.__name__}"


def operator(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    node.op_type = draw.choice(OPERATORS)
    if draw.random() < 0.3:
        node.domain = draw.choice(("com.microsoft", "ai.onnx.ml", "nowhere"))


def wiring(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    graph = parsed.graph
    names = [tensor.name for tensor in (*graph.input, *graph.initializer)]
    names += [output for one in graph.node for output in one.output]
    node.input[draw.randrange(len(node.input))] = draw.choice([*names, "", "nowhere"])
    if draw.random() < 0.2:
        node.input.append(draw.choice(names))
    if draw.random() < 0.2:
        node.output.append(draw.choice(["", *names]))


def attribute(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    key = draw.choice(("axis", "axes", "keepdims", "batch_dims", "to", "num_outputs", "alpha"))
    value = draw.choice((-(2**63), -100, -2, 0, 1, 7, 2**31, 2**63 - 1, [2**62] * 9, 1e38, ""))
    del node.attribute[:]
    node.attribute.append(onnx.helper.make_attribute(key, value))


def sizes(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    weights.dims[draw.randrange(len(weights.dims))] = draw.choice(SIZES)
    if draw.random() < 0.3:
        weights.dims.extend([2**32, 2**32])


def element_type(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    weights.data_type = draw.randrange(30)


def cut(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    weights.raw_data = weights.raw_data[: draw.randrange(len(weights.raw_data))]


def drop(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    graph = parsed.graph
    part = draw.choice((graph.node, graph.initializer, graph.input, graph.output))
    del part[draw.randrange(len(part))]


def external(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    """Take weights from another file."""
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entries = {
        "location": draw.choice(
            ("/etc/passwd", "../items/embeddings.npy", "../../x", "ranker.onnx", "/dev/zero", "")
        ),
        "offset": draw.choice(("0", "-8", "99999999999")),
        "length": draw.choice(("8", str(2**40), "-1", "x")),
    }
    for key, value in entries.items():
        weights.external_data.add(key=key, value=value)


def versions(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    parsed.opset_import[0].version = draw.choice((-1, 0, 1, 7, 13, 18, 21, 99, 2**40))
    parsed.ir_version = draw.choice((0, 3, 8, 12, 99))


def signature(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    tensor = draw.choice((*parsed.graph.input, *parsed.graph.output)).type.tensor_type
    draw.choice(tensor.shape.dim).dim_value = draw.choice(SIZES)
    if draw.random() < 0.3:
        tensor.elem_type = draw.randrange(25)


def order(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    nodes = list(parsed.graph.node)
    draw.shuffle(nodes)
    del parsed.graph.node[:]
    parsed.graph.node.extend(nodes)


def numbers(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    held = bytearray(weights.raw_data)
    for _ in range(draw.choice((1, 4))):
        struct.pack_into("<f", held, 4 * draw.randrange(len(held) // 4), draw.choice(FLOATS))
    weights.raw_data = bytes(held)


def subgraph(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    inner = GraphProto.FromString(parsed.graph.SerializeToString())
    for key in ("body", "then_branch", "else_branch"):
        node.attribute.append(AttributeProto(name=key, g=inner, type=AttributeProto.GRAPH))
    node.op_type = draw.choice(("Loop", "Scan", "If", "SequenceMap"))


def rename(parsed: ModelProto, node: NodeProto, weights: TensorProto, draw: Draw) -> None:
    graph = parsed.graph
    draw.choice((*graph.input, *graph.output, *graph.initializer)).name = "other"


CHANGES: tuple[Callable[[ModelProto, NodeProto, TensorProto, Draw], None], ...] = (
    *(operator, operator, wiring, attribute, sizes, element_type, cut, drop, external, versions),
    *(signature, order, numbers, subgraph, rename),
)
