from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from shortlist_exporters.errors import ConversionError, SpecError
from shortlist_exporters.onnx.tensorflow import convert_saved_model, run_saved_model
from shortlist_server.bundle.manifest import Input, Model, Output
from shortlist_server.bundle.transforms import Lookup
from shortlist_server.errors import ParityError
from shortlist_server.runtime.onnx_session import OnnxSession

pytestmark = pytest.mark.export

USER = Input(
    name="user_id",
    dtype="int64",
    shape=["batch"],
    source="user.id",
    transforms=[Lookup(vocabulary="user.id")],
)
AGE = Input(name="age", dtype="float32", shape=["batch"], source="user.age")
SPECS = {"user_id": ("int64", [None]), "age": ("float32", [None])}
VOCABULARY_SIZES = {"user.id": 9}


def convert(folder: Path, *inputs: Input, **options: Any) -> list[Output]:
    return convert_saved_model(
        folder,
        folder.with_suffix(".onnx"),
        inputs=inputs,
        outputs=["embedding"],
        vocabulary_sizes=VOCABULARY_SIZES,
        **options,
    )


@pytest.fixture
def layers(tensorflow: Any) -> Any:
    class Layers:
        ids = tensorflow.keras.layers.Embedding(10, 4, name="ids")
        age = tensorflow.keras.layers.Normalization(
            axis=None, mean=40.0, variance=100.0, name="age"
        )
        # Not a variable: TensorFlow captures it, and a careless conversion makes an input of it.
        scale = tensorflow.constant([1.0, 2.0, 3.0, 4.0])

        def __call__(self, tensors: Any) -> Any:
            age = tensorflow.expand_dims(self.age(tensors["age"]), -1)
            return {"embedding": self.ids(tensors["user_id"]) * self.scale + age}

    return Layers()


@pytest.mark.parametrize("rows", [0, 1, 7, 500])
def test_converted_model_answers_alike_at_any_batch_size(
    layers: Any, save_model: Any, rows: int
) -> None:
    folder = save_model(layers, layers=[layers.ids, layers.age], specs=SPECS)
    outputs = convert(folder, USER, AGE)
    assert outputs == [Output(name="embedding", shape=["batch", 4])]
    path = folder.with_suffix(".onnx")
    session = OnnxSession(path, Model(file=path.name, inputs=[USER, AGE], outputs=outputs))
    generator = np.random.default_rng(rows)
    feeds: dict[str, Any] = {
        "user_id": generator.integers(0, 10, rows),
        "age": generator.normal(40, 10, rows).astype(np.float32),
    }
    expected = run_saved_model(folder, feeds)["embedding"]
    assert expected.shape == (rows, 4)
    np.testing.assert_allclose(session.run(feeds)["embedding"], expected, rtol=1e-5, atol=1e-5)


def test_captured_constants_become_no_inputs_and_axes_keep_their_names(
    layers: Any, save_model: Any
) -> None:
    folder = save_model(layers, layers=[layers.ids, layers.age], specs=SPECS)
    convert(folder, USER, AGE)
    graph = onnx.load(str(folder.with_suffix(".onnx"))).graph
    assert sorted(value.name for value in graph.input) == ["age", "user_id"]
    axes = {
        value.type.tensor_type.shape.dim[0].dim_param for value in [*graph.input, *graph.output]
    }
    assert axes == {"batch"}


def refused(folder: Path, error: type[Exception], message: str, *inputs: Input) -> None:
    with pytest.raises(error, match=message):
        convert(folder, *inputs)
    assert not folder.with_suffix(".onnx").exists()


def test_operation_without_counterpart_is_named_with_its_layer(
    tensorflow: Any, layers: Any, save_model: Any
) -> None:
    buckets = tensorflow.keras.layers.Discretization([20.0, 40.0], name="age_buckets")
    folder = save_model(
        lambda tensors: {"embedding": layers.ids(buckets(tensors["age"]))},
        layers=[layers.ids, buckets],
        specs={"age": SPECS["age"]},
    )
    refused(folder, ConversionError, "operation Bucketize in layer 'age_buckets'", AGE)


def test_raw_operation_without_counterpart_is_named(tensorflow: Any, save_model: Any) -> None:
    folder = save_model(
        lambda tensors: {"embedding": tensorflow.raw_ops.BesselJ0(x=tensors["age"])},
        layers=[],
        specs={"age": SPECS["age"]},
    )
    refused(folder, ConversionError, "operation BesselJ0 .* transform of its input", AGE)


def test_lookup_table_is_named_with_its_layer(
    tensorflow: Any, layers: Any, save_model: Any
) -> None:
    lookup = tensorflow.keras.layers.StringLookup(vocabulary=["1", "2"], name="user_lookup")
    folder = save_model(
        lambda tensors: {"embedding": layers.ids(lookup(tensorflow.as_string(tensors["user_id"])))},
        layers=[layers.ids, lookup],
        specs={"user_id": SPECS["user_id"]},
    )
    refused(folder, ConversionError, "LookupTableFindV2 .*user_lookup", USER)


def test_input_that_is_not_declared_is_named(layers: Any, save_model: Any) -> None:
    folder = save_model(layers, layers=[layers.ids, layers.age], specs=SPECS)
    refused(folder, SpecError, r"takes an input 'age' \(float32 \[\?\]\), which is not", USER)


def test_input_declared_with_another_dtype_is_named(layers: Any, save_model: Any) -> None:
    folder = save_model(layers, layers=[layers.ids, layers.age], specs=SPECS)
    wrong = USER.model_copy(update={"dtype": "int32"})
    refused(folder, SpecError, r"'user_id' is declared as int32 \[batch\]", wrong, AGE)


def test_model_that_answers_otherwise_is_refused_with_layer_and_place(
    tensorflow: Any, layers: Any, save_model: Any
) -> None:
    noise = tensorflow.keras.layers.GaussianNoise(0.5, name="noise")
    folder = save_model(
        lambda tensors: {"embedding": noise(layers.ids(tensors["user_id"]), training=True)},
        layers=[layers.ids, noise],
        specs={"user_id": SPECS["user_id"]},
    )
    message = r"model: output 'embedding', .*at \[0, 0\] expected .*; layer 'noise/.* differs first"
    refused(folder, ParityError, message, USER)


def test_vocabulary_larger_than_the_embedding_is_refused(layers: Any, save_model: Any) -> None:
    folder = save_model(layers, layers=[layers.ids, layers.age], specs=SPECS)
    with pytest.raises(SpecError, match="TensorFlow cannot run this model"):
        convert_saved_model(
            folder,
            folder.with_suffix(".onnx"),
            inputs=[USER, AGE],
            outputs=["embedding"],
            vocabulary_sizes={"user.id": 1000},
        )


def test_model_that_drops_rows_is_refused(tensorflow: Any, layers: Any, save_model: Any) -> None:
    folder = save_model(
        lambda tensors: {"embedding": layers.ids(tensorflow.unique(tensors["user_id"])[0])},
        layers=[layers.ids],
        specs={"user_id": SPECS["user_id"]},
    )
    refused(folder, ConversionError, "expected 7 rows, one for each row of the inputs", USER)


def test_recurrent_model_is_spared_the_empty_batch(
    tensorflow: Any, layers: Any, save_model: Any
) -> None:
    # ONNX Runtime aborts the process on a GRU without rows; a test of it could not fail, only die.
    recurrent = tensorflow.keras.layers.GRU(4, name="gru")
    folder = save_model(
        lambda tensors: {"embedding": recurrent(layers.ids(tensors["history"]))},
        layers=[layers.ids, recurrent],
        specs={"history": ("int64", [None, None])},
    )
    history = USER.model_copy(update={"name": "history", "shape": ["batch", "length"]})
    assert convert(folder, history) == [Output(name="embedding", shape=["batch", 4])]


def test_folder_that_tensorflow_cannot_load_is_refused(layers: Any, save_model: Any) -> None:
    folder = save_model(layers, layers=[layers.ids, layers.age], specs=SPECS)
    for file in (folder / "variables").iterdir():
        file.unlink()
    refused(folder, SpecError, "TensorFlow cannot load this SavedModel", USER, AGE)


def test_run_names_the_inputs_that_it_takes(layers: Any, save_model: Any) -> None:
    folder = save_model(layers, layers=[layers.ids, layers.age], specs=SPECS)
    with pytest.raises(SpecError, match=r"expected the inputs \['age', 'user_id'\], got \['age'\]"):
        run_saved_model(folder, {"age": np.zeros(1, np.float32)})
