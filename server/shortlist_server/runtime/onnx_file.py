"""ONNX files, looked at before ONNX Runtime reads them.

ONNX Runtime checks nearly everything about a model. What it does not (1.32) is whether an input
that a node leaves out, by an empty name, is one that its operator can do without: it loads the
model, and reads at address 0 when it runs it, which ends the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np

from shortlist_server.errors import BundleCorrupt

IsOptional: TypeAlias = Callable[[str, str, int], bool]
"""Whether an operator, of a domain and a name, can do without its input of a position."""

DEPTH_MAX = 64
"""Graphs inside of graphs."""

# Numbers of fields in onnx.proto.
NODE_INPUT, NODE_OPERATOR, NODE_DOMAIN = 1, 4, 7
INNER = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {6: "graph", 11: "graph"},
}
"""The messages that hold nodes, at some depth, by the message and the field that they are in."""


def check_model(path: Path, name: str, is_optional: IsOptional) -> None:
    """Check that no node of a model leaves out an input that its operator needs.

    Args:
        path: The ONNX file.
        name: What to call it in errors.
        is_optional: What the operators can do without.

    Raises:
        BundleCorrupt: one does, or the file is no ONNX file.
    """
    if not path.stat().st_size:
        raise BundleCorrupt(f"{name}: cannot load this model: the file is empty")
    # Slices of it are no copies; weights may be gigabytes.
    data = np.memmap(path, np.uint8, "r").data
    try:
        for domain, operator, position in _left_out(data, "model", DEPTH_MAX):
            if not is_optional(domain, operator, position):
                raise BundleCorrupt(
                    f"{name}: expected all inputs that {operator!r} needs, got none as number "
                    f"{position}"
                )
    except (IndexError, UnicodeDecodeError, RecursionError) as error:
        raise BundleCorrupt(f"{name}: cannot load this model: {error}") from error


def _left_out(data: memoryview, kind: str, depth: int) -> Iterator[tuple[str, str, int]]:
    """Return the inputs that the nodes of a message leave out: domain, operator, position."""
    if not depth:
        raise RecursionError("graphs inside of graphs without an end")
    inputs, operator, domain = [], "", ""
    for number, content in _fields(data):
        if kind == "node" and number == NODE_INPUT:
            inputs.append(bool(content))
        elif kind == "node" and number == NODE_OPERATOR:
            operator = str(content, "utf-8")
        elif kind == "node" and number == NODE_DOMAIN:
            domain = str(content, "utf-8")
        elif number in INNER[kind]:
            yield from _left_out(content, INNER[kind][number], depth - 1)
    yield from ((domain, operator, at) for at, is_named in enumerate(inputs) if not is_named)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Return the fields of a message that hold bytes: number and content."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            _, at = _varint(data, at)
        elif wire == 2:
            size, at = _varint(data, at)
            if size > len(data) - at:
                raise IndexError(f"a field is {size} bytes long, {len(data) - at} are left")
            yield tag >> 3, data[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise IndexError(f"a field is of wire type {wire}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a number, and where what follows it begins."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
        if shift > 63:
            raise IndexError("a number is longer than 10 bytes")
