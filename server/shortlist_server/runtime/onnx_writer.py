"""Writes the few ONNX models that the server makes itself.

The `onnx` package would do it, but weighs as much as the rest of the server and is needed for
nothing else here. A model is a protocol-buffers message; the numbers of its fields are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (IR version 8). The tests read what this
writes with the `onnx` package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

IR_VERSION = 8
OPSET = 13
DTYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}
"""TensorProto.DataType by name."""
INT_ATTRIBUTE = 2
"""AttributeProto.AttributeType of a whole number."""

TensorShape = tuple[str, Sequence[int]]
"""Dtype and sizes."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of the default domain."""

    operator: str
    inputs: Sequence[str]
    output: str
    attributes: Mapping[str, int] = field(default_factory=dict)


def model(
    nodes: Sequence[Node],
    *,
    inputs: Mapping[str, TensorShape],
    outputs: Mapping[str, TensorShape],
    constants: Mapping[str, NDArray[np.generic]],
) -> bytes:
    """Return a model as the bytes of an ONNX file.

    Args:
        nodes: The operators, each after those that it takes from.
        inputs: The inputs by name.
        outputs: The outputs by name.
        constants: Arrays by name; of a dtype in `DTYPES`.
    """
    graph = b"".join(
        [
            *(_message(1, _node(node)) for node in nodes),
            _text(2, "shortlist"),
            *(_message(5, _tensor(name, array)) for name, array in constants.items()),
            *(_message(11, _value(name, shape)) for name, shape in inputs.items()),
            *(_message(12, _value(name, shape)) for name, shape in outputs.items()),
        ]
    )
    return _number(1, IR_VERSION) + _message(7, graph) + _message(8, _number(2, OPSET))


def _node(node: Node) -> bytes:
    attributes = (
        _text(1, name) + _number(3, value) + _number(20, INT_ATTRIBUTE)
        for name, value in node.attributes.items()
    )
    return b"".join(
        [
            *(_text(1, name) for name in node.inputs),
            _text(2, node.output),
            _text(4, node.operator),
            *(_message(5, attribute) for attribute in attributes),
        ]
    )


def _tensor(name: str, array: NDArray[np.generic]) -> bytes:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    sizes = b"".join(_number(1, size) for size in array.shape)
    return sizes + _number(2, DTYPES[array.dtype.name]) + _text(8, name) + _bytes(9, little)


def _value(name: str, shape: TensorShape) -> bytes:
    dtype, sizes = shape
    axes = b"".join(_message(1, _number(1, size)) for size in sizes)
    tensor = _number(1, DTYPES[dtype]) + _message(2, axes)
    return _text(1, name) + _message(2, _message(1, tensor))


# Fields on the wire: https://protobuf.dev/programming-guides/encoding/


def _number(tag: int, value: int) -> bytes:
    return _varint(tag << 3) + _varint(value)


def _text(tag: int, value: str) -> bytes:
    return _message(tag, value.encode())


def _bytes(tag: int, array: NDArray[np.generic]) -> bytes:
    return _message(tag, array.tobytes())


def _message(tag: int, content: bytes) -> bytes:
    return _varint(tag << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
