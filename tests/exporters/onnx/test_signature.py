from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from shortlist_exporters.errors import SpecError
from shortlist_exporters.onnx.signature import Signature, Tensor, check_signature, read_signature
from shortlist_server.bundle.manifest import Input

FOUND = Signature(
    inputs={
        "user_id": Tensor(dtype="int64", shape=("?",)),
        "history": Tensor(dtype="int64", shape=("?", 10)),
    },
    outputs={
        "embedding": Tensor(dtype="float32", shape=("?", 32)),
        "count": Tensor(dtype="int64", shape=("?",)),
    },
)


def declare(name: str, dtype: Any = "int64", shape: list[int | str] | None = None) -> Input:
    return Input(name=name, dtype=dtype, shape=shape or ["batch"], source="user.x")


USER = declare("user_id")
HISTORY = declare("history", shape=["batch", 10])


def test_declaration_that_fits_passes_with_undeclared_outputs() -> None:
    check_signature(FOUND, inputs=[HISTORY, USER], outputs=["embedding"], what="tower")


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (
            [USER],
            ["embedding"],
            r"takes an input 'history' \(int64 \[\?, 10\]\), which is not decl",
        ),
        ([USER, HISTORY, declare("age")], ["embedding"], "input 'age' is declared, but the model"),
        ([USER, HISTORY, USER], ["embedding"], "input 'user_id': expected to be declared once"),
        (
            [declare("user_id", "int32"), HISTORY],
            ["embedding"],
            r"'user_id' is declared as int32 \[batch\], but the model takes int64 \[\?\]",
        ),
        (
            [USER, declare("history", shape=["batch", 12])],
            ["embedding"],
            r"'history' is declared as int64 \[batch, 12\], but the model takes int64 \[\?, 10\]",
        ),
        ([USER, declare("history", shape=["batch", "length"])], ["embedding"], "'history' is decl"),
        ([USER, declare("history")], ["embedding"], "'history' is declared"),
        ([USER, HISTORY], ["vector"], r"output 'vector' is named in the spec, .*'embedding'"),
        ([USER, HISTORY], ["count"], "output 'count': expected float32, the model gives int64"),
    ],
)
def test_difference_is_refused_by_name(
    inputs: list[Input], outputs: list[str], message: str
) -> None:
    with pytest.raises(SpecError, match=f"^tower: .*{message}"):
        check_signature(FOUND, inputs=inputs, outputs=outputs, what="tower")


def test_onnx_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    tensor = Tensor(dtype="float32", shape=("batch", 3))
    assert read_signature(path) == Signature(inputs={"x": tensor}, outputs={"y": tensor})


def test_file_that_is_no_onnx_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(SpecError, match=r"model\.onnx: .*cannot load"):
        read_signature(path)


def test_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such model"):
        read_signature(tmp_path / "model.onnx")


@pytest.mark.export
def test_saved_model_is_read(trained: Path) -> None:
    found = read_signature(trained / "item_tower")
    assert found.inputs["item_id"] == Tensor(dtype="int64", shape=("?",))
    assert found.inputs["item_genres"] == Tensor(dtype="int64", shape=("?", 3))
    assert found.inputs["item_year"] == Tensor(dtype="float32", shape=("?",))
    assert found.outputs == {"embedding": Tensor(dtype="float32", shape=("?", 8))}


@pytest.mark.export
def test_folder_that_is_no_saved_model_is_refused(tensorflow: Any, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"without saved_model\.pb"):
        read_signature(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 10)
    with pytest.raises(SpecError, match="cannot be parsed"):
        read_signature(tmp_path)


@pytest.mark.export
def test_saved_model_without_serving_default_is_refused(tensorflow: Any, tmp_path: Path) -> None:
    module = tensorflow.Module()
    tensorflow.saved_model.save(module, str(tmp_path / "model"))
    with pytest.raises(SpecError, match=r"expected a signature 'serving_default', got \[\]"):
        read_signature(tmp_path / "model")
