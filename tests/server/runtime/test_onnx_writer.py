"""What the server writes is ONNX, as the `onnx` package understands it."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from shortlist_server.runtime.onnx_session import open_model
from shortlist_server.runtime.onnx_writer import Node, model


def a_model() -> bytes:
    return model(
        [Node("Cast", ["a"], "b", {"to": 1}), Node("Mul", ["b", "w"], "c")],
        inputs={"a": ("int32", [2, 300])},
        outputs={"c": ("float32", [2, 300])},
        constants={"w": np.linspace(-1, 1, 300, dtype=np.float32)},
    )


def test_model_is_valid_and_says_what_was_asked() -> None:
    read = onnx.load_from_string(a_model())
    onnx.checker.check_model(read, full_check=True)
    assert [node.op_type for node in read.graph.node] == ["Cast", "Mul"]
    assert read.graph.node[0].attribute[0].i == 1
    assert [axis.dim_value for axis in read.graph.input[0].type.tensor_type.shape.dim] == [2, 300]
    assert read.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT32
    assert read.graph.output[0].name == "c"
    assert (read.ir_version, read.opset_import[0].version) == (8, 13)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int8", "int32"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 200)])
def test_constants_keep_shape_and_values(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape).astype(dtype)
    written = model([], inputs={}, outputs={}, constants={"x": array})
    read = numpy_helper.to_array(onnx.load_from_string(written).graph.initializer[0])
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_big_endian_constants_are_written_as_little_endian() -> None:
    array = np.arange(4, dtype=">i4")
    written = model([], inputs={}, outputs={}, constants={"x": array})
    read = numpy_helper.to_array(onnx.load_from_string(written).graph.initializer[0])
    np.testing.assert_array_equal(read, [0, 1, 2, 3])


def test_onnx_runtime_computes_it() -> None:
    numbers = np.arange(600, dtype=np.int32).reshape(2, 300)
    (found,) = open_model(a_model()).run(None, {"a": numbers})
    np.testing.assert_array_equal(
        found, numbers.astype(np.float32) * np.linspace(-1, 1, 300, dtype=np.float32)
    )
