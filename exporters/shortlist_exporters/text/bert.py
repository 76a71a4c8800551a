"""A sentence model of the BERT family, from its safetensors folder to one ONNX graph: encoder, mean
over the tokens, unit length. Needs no training framework.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from shortlist_server.errors import MissingExtra

from shortlist_exporters.errors import ConversionError

OPSET = 20
"""The first with Gelu as one operator."""
IR_VERSION = 9
WEIGHT_MAX = 63
"""Largest weight of 8 bits: sums of two products stay within 16 bits, in which processors without
VNNI add them up. With 127 these would compute other points than the rest.
"""
WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig:
    """What the graph depends on, beside the weights."""

    layer_count: int
    head_count: int
    dimension: int
    position_count: int
    epsilon: float


def read_config(folder: Path) -> BertConfig:
    """Return the configuration of a model folder.

    Raises:
        ConversionError: there is none, or it is that of a model of another kind.
    """
    path = folder / CONFIG
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConversionError(f"{path}: expected the configuration of a model: {error}") from error
    expected = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
    }
    for name, wanted in expected.items():
        if (got := document.get(name, wanted)) != wanted:
            raise ConversionError(f"{path}: {name}: expected {wanted!r}, got {got!r}")
    _check_pooling(folder)
    try:
        config = BertConfig(
            layer_count=int(document["num_hidden_layers"]),
            head_count=int(document["num_attention_heads"]),
            dimension=int(document["hidden_size"]),
            position_count=int(document["max_position_embeddings"]),
            epsilon=float(document["layer_norm_eps"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConversionError(f"{path}: expected the configuration of a BERT: {error!r}") from error
    if config.head_count < 1 or config.dimension % config.head_count:
        raise ConversionError(
            f"{path}: expected hidden_size to be a multiple of num_attention_heads, got "
            f"{config.dimension} and {config.head_count}"
        )
    return config


def _check_pooling(folder: Path) -> None:
    path = folder / "1_Pooling" / CONFIG
    if not path.is_file():
        return
    document = json.loads(path.read_bytes())
    modes = [name for name, on in document.items() if name.startswith("pooling_mode_") and on]
    if modes != ["pooling_mode_mean_tokens"]:
        raise ConversionError(f"{path}: expected pooling_mode_mean_tokens alone, got {modes}")


def read_weights(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Return the weights of a model folder by name, float32.

    Raises:
        ConversionError: there are none.
        MissingExtra: the package `safetensors` is not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise MissingExtra(feature="reading safetensors", extra="export") from error
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise ConversionError(f"{path}: expected weights as safetensors: {error}") from error
    return {
        name.removeprefix("bert."): tensor.astype(np.float32)
        for name, tensor in tensors.items()
        if tensor.dtype.kind == "f"
    }


def build_model(
    config: BertConfig, weights: dict[str, NDArray[np.float32]], *, int8: bool = False
) -> Any:
    """Return the ONNX model: `input_ids` and `attention_mask`, int64 [texts, tokens], to
    `embedding`, float32 [texts, dimension], each of length 1.

    Args:
        config: What it depends on.
        weights: By name.
        int8: Whether the dense layers multiply integers of 8 bits. What goes into them is scaled
            by the range that it has, over all texts of a run: for the same point each time, a text
            must be embedded alone.

    Raises:
        ConversionError: a weight is missing.
    """
    graph = _Graph(config, weights, int8=int8)
    hidden = graph.embeddings()
    for layer in range(config.layer_count):
        hidden = graph.layer(hidden, f"encoder.layer.{layer}.")
    graph.pool(hidden)
    text = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    embedding = helper.make_tensor_value_info(
        "embedding", TensorProto.FLOAT, ["texts", config.dimension]
    )
    made = helper.make_model(
        helper.make_graph(graph.nodes, "sentence", text, [embedding], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(made)
    return made


class _Graph:
    """The nodes so far. Each method adds some and returns the name of what they give."""

    def __init__(
        self, config: BertConfig, weights: dict[str, NDArray[np.float32]], *, int8: bool
    ) -> None:
        self._int8 = int8
        self._config = config
        self._weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: set[str] = set()

    def embeddings(self) -> str:
        """Words, positions and the one segment, summed and normalised."""
        words = self._weight("embeddings.word_embeddings.weight")
        # A text is one segment: its vector is the same at every position.
        segment = self._weights_of("embeddings.token_type_embeddings.weight")[0]
        positions = self._weights_of("embeddings.position_embeddings.weight") + segment
        of_words = self._add("Gather", [words, "input_ids"])
        shape = self._add("Shape", ["input_ids"], start=1, end=2)
        zero, axis = self._constant("zero", [0]), self._constant("axis_0", [0])
        of_positions = self._add(
            "Slice", [self._constant("positions", positions), zero, shape, axis]
        )
        mask = self._add("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
        column = self._add("Unsqueeze", [mask, self._constant("axes_1_2", [1, 2])])
        absent = self._add("Sub", [self._constant("one", np.float32(1)), column])
        self._add("Mul", [absent, self._constant("lowest", np.float32(-1e9))], "bias")
        return self._norm(self._add("Add", [of_words, of_positions]), "embeddings.LayerNorm.")

    def layer(self, hidden: str, name: str) -> str:
        """Return the hidden states after attention and the two dense layers."""
        attended = self._dense(self._attention(hidden, name), f"{name}attention.output.dense.")
        after = self._norm(
            self._add("Add", [attended, hidden]), f"{name}attention.output.LayerNorm."
        )
        wide = self._add("Gelu", [self._dense(after, f"{name}intermediate.dense.")])
        narrow = self._dense(wide, f"{name}output.dense.")
        return self._norm(self._add("Add", [narrow, after]), f"{name}output.LayerNorm.")

    def pool(self, hidden: str) -> None:
        """Take the mean over the tokens that are there, at unit length."""
        last, middle = self._constant("axes_2", [2]), self._constant("axes_1", [1])
        kept = self._add("Mul", [hidden, self._add("Unsqueeze", ["mask", last])])
        total = self._add("ReduceSum", [kept, middle], keepdims=0)
        # The length of the sum is that of the mean times a number: unit length takes it away.
        length = self._add("ReduceL2", [total, middle], keepdims=1)
        least = self._add("Max", [length, self._constant("least", np.float32(1e-12))])
        self._add("Div", [total, least], "embedding")

    def _attention(self, hidden: str, name: str) -> str:
        heads, dimension = self._config.head_count, self._config.dimension
        parts = [f"{name}attention.self.{part}." for part in ("query", "key", "value")]
        scale = np.float32((dimension / heads) ** -0.5)
        # One product for all three, the scale of the scores folded into the query's part.
        matrix = np.concatenate(
            [
                self._weights_of(f"{part}weight").T * (scale if at == 0 else 1)
                for at, part in enumerate(parts)
            ],
            axis=1,
        )
        bias = np.concatenate(
            [
                self._weights_of(f"{part}bias") * (scale if at == 0 else 1)
                for at, part in enumerate(parts)
            ]
        )
        product = self._product(hidden, f"{name}qkv.weight", matrix)
        joined = self._add("Add", [product, self._constant(f"{name}qkv.bias", bias)])
        split = [f"{name}{part}" for part in ("query", "key", "value")]
        self.nodes.append(helper.make_node("Split", [joined], split, axis=2, num_outputs=3))
        shape = self._constant("by_head", [0, 0, heads, dimension // heads])
        query, key, value = (self._add("Reshape", [part, shape]) for part in split)
        query = self._add("Transpose", [query], perm=[0, 2, 1, 3])
        key = self._add("Transpose", [key], perm=[0, 2, 3, 1])
        value = self._add("Transpose", [value], perm=[0, 2, 1, 3])
        scores = self._add("Add", [self._add("MatMul", [query, key]), "bias"])
        mixed = self._add("MatMul", [self._add("Softmax", [scores], axis=-1), value])
        back = self._add("Transpose", [mixed], perm=[0, 2, 1, 3])
        return self._add("Reshape", [back, self._constant("joined", [0, 0, dimension])])

    def _dense(self, hidden: str, name: str) -> str:
        product = self._product(hidden, f"{name}weight", self._weights_of(f"{name}weight").T)
        return self._add("Add", [product, self._weight(f"{name}bias")])

    def _product(self, hidden: str, name: str, matrix: NDArray[np.float32]) -> str:
        if not self._int8:
            return self._add("MatMul", [hidden, self._constant(name, matrix)])
        scales = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / WEIGHT_MAX
        whole = np.rint(matrix / scales).astype(np.int8)
        parts = [f"{name}.{part}" for part in ("input", "scale", "zero")]
        self.nodes.append(helper.make_node("DynamicQuantizeLinear", [hidden], parts))
        values, scale, zero = parts
        product = self._add("MatMulInteger", [values, self._constant(name, whole), zero])
        numbers = self._add("Cast", [product], to=TensorProto.FLOAT)
        by = self._constant(f"{name}.scales", scales.astype(np.float32))
        return self._add("Mul", [numbers, self._add("Mul", [scale, by])])

    def _norm(self, hidden: str, name: str) -> str:
        parts = [self._weight(f"{name}weight"), self._weight(f"{name}bias")]
        return self._add(
            "LayerNormalization", [hidden, *parts], axis=-1, epsilon=self._config.epsilon
        )

    def _weights_of(self, name: str) -> NDArray[np.float32]:
        if name not in self._weights:
            raise ConversionError(f"{WEIGHTS}: expected a weight {name!r}, got none")
        return self._weights[name]

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights_of(name))

    def _constant(self, name: str, value: Any) -> str:
        if name not in self._known:
            self._known.add(name)
            array = np.asarray(value)
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _add(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output
