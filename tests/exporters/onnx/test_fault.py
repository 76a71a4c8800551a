from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from shortlist_exporters.onnx.fault import layer_at_fault, layer_name
from shortlist_exporters.onnx.saved_model import SavedModel
from shortlist_exporters.onnx.tensorflow import convert_saved_model
from shortlist_server.bundle.manifest import Input, Tolerance


@pytest.mark.parametrize(
    ("node", "layer"),
    [
        ("StatefulPartitionedCall/tower/dense/MatMul:0", "tower/dense"),
        ("PartitionedCall_1/dense/BiasAdd", "dense"),
        ("StatefulPartitionedCall/mul", "mul"),
        ("MatMul", "MatMul"),
    ],
)
def test_layer_is_what_the_node_stands_in(node: str, layer: str) -> None:
    assert layer_name(node) == layer


@pytest.mark.export
def test_layer_whose_weights_differ_is_named(
    tensorflow: Any, save_model: Any, tmp_path: Path
) -> None:
    first, second, third = (
        tensorflow.keras.layers.Dense(4, activation="relu", name=name)
        for name in ("first", "second", "third")
    )
    folder = save_model(
        lambda tensors: {"y": third(second(first(tensors["x"])))},
        layers=[first, second, third],
        specs={"x": ("float32", [None, 4])},
    )
    inputs = [Input(name="x", dtype="float32", shape=["batch", 4], source="user.x")]
    convert_saved_model(folder, tmp_path / "y.onnx", inputs=inputs, outputs=["y"])
    model = onnx.load(str(tmp_path / "y.onnx"))
    frozen = SavedModel(folder).freeze()
    feeds = {"x": np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)}

    def fault() -> str | None:
        return layer_at_fault(frozen, model, inputs=inputs, feeds=feeds, tolerance=Tolerance())

    assert fault() is None
    weights = next(tensor for tensor in model.graph.initializer if "second/MatMul" in tensor.name)
    changed = onnx.numpy_helper.to_array(weights) + np.float32(1)
    weights.CopyFrom(onnx.numpy_helper.from_array(changed, weights.name))
    assert fault() == "second"
