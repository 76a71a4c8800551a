from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shortlist_exporters.data.dataset import Dataset
from shortlist_exporters.errors import ExportError
from shortlist_exporters.onnx.probe import random_probe
from shortlist_exporters.onnx.tensorflow import SavedModel, convert_saved_model
from shortlist_exporters.recipes import TwoTowerOptions, train_two_tower
from shortlist_exporters.recipes.trained import all_users
from shortlist_exporters.spec import Spec, read_spec
from shortlist_server.bundle.manifest import Input, Model
from shortlist_server.errors import ConfigError
from shortlist_server.runtime.onnx_session import OnnxSession

QUICK = TwoTowerOptions(epochs=1, batch_size=512, dimension=4, ranker_hidden=(4,))

MODELS = ("query_tower", "item_tower", "ranker")


def vocabulary_sizes(folder: Path, spec: Spec) -> dict[str, int]:
    return {
        name: len(json.loads((folder / vocabulary.file).read_text(encoding="utf-8")))
        for name, vocabulary in spec.vocabularies.items()
    }


def model_inputs(spec: Spec, name: str) -> list[Input]:
    inputs: list[Input] = getattr(spec, name).inputs
    return inputs


def answers(folder: Path, name: str) -> dict[str, Any]:
    spec = read_spec(folder)
    probe = random_probe(
        model_inputs(spec, name), vocabulary_sizes=vocabulary_sizes(folder, spec), count=20
    )
    return SavedModel(folder / name).run(probe)


@pytest.mark.export
def test_folder_holds_what_the_spec_says(trained: Path, small_dataset: Dataset) -> None:
    spec = read_spec(trained)
    assert spec.name == "small"
    assert spec.data.simulated
    assert spec.users is not None
    assert spec.interactions is not None
    items = pq.read_table(trained / spec.items.file)
    users = pq.read_table(trained / spec.users.file)
    train = pq.read_table(trained / spec.interactions.file)
    test = pq.read_table(trained / "test.parquet")
    assert items.equals(small_dataset.items)
    assert (len(users), len(train), len(test)) == (200, 1600, 400)
    sizes = vocabulary_sizes(trained, spec)
    assert (sizes["user.id"], sizes["item.id"]) == (200, 100)
    assert {feature.name for feature in spec.features} >= {
        "user.age",
        "item.genres",
        "context.time",
    }
    assert set(spec.framework_versions) == {"tensorflow", "tensorflow-recommenders", "tf-keras"}
    assert not list(trained.parent.glob(".*"))


@pytest.mark.export
def test_training_is_told(trained: Path) -> None:
    told = json.loads((trained / "training.json").read_text(encoding="utf-8"))
    assert told["options"]["epochs"] == 1
    assert told["split"] == {"kind": "random", "test_fraction": 0.2, "seed": 42}
    assert told["result"]["train_count"] == 1600
    assert np.isfinite([told["result"]["retrieval_loss"], told["result"]["ranking_rmse"]]).all()
    assert "item.title" in told["result"]["skipped"]


@pytest.mark.export
def test_time_defaults_to_the_newest_of_the_training_part(trained: Path) -> None:
    spec = read_spec(trained)
    default = next(feature.default for feature in spec.features if feature.name == "context.time")
    times = pq.read_table(trained / "interactions.parquet")["time"].to_pylist()
    assert default == max(times)


@pytest.mark.export
@pytest.mark.parametrize("name", MODELS)
def test_model_passes_every_gate_of_the_conversion(
    trained: Path, tmp_path: Path, name: str
) -> None:
    spec = read_spec(trained)
    inputs = model_inputs(spec, name)
    path = tmp_path / f"{name}.onnx"
    output = "rating" if name == "ranker" else "embedding"
    sizes = vocabulary_sizes(trained, spec)
    outputs = convert_saved_model(
        trained / name, path, inputs=inputs, outputs=[output], vocabulary_sizes=sizes
    )
    assert outputs[0].shape == (["candidate"] if name == "ranker" else ["batch", 8])
    session = OnnxSession(path, Model(file=path.name, inputs=inputs, outputs=outputs))
    for rows in (0, 1, 7, 500):
        probe = random_probe(inputs, vocabulary_sizes=sizes, count=rows, seed=rows)
        # Index 0 is the unknown user or item: the one that no training example may have had.
        for tensor in inputs:
            if tensor.source in ("user.id", "item.id"):
                probe[tensor.name][:2] = 0
        assert len(session.run(probe)[output]) == rows


@pytest.mark.export
def test_ranker_joins_each_candidate_with_its_own_request(trained: Path) -> None:
    spec = read_spec(trained)
    inputs = model_inputs(spec, "ranker")
    axes = {tensor.name: tensor.shape[0] for tensor in inputs}
    assert axes["user_id"] == axes["context_time"] == "request"
    assert axes["item_id"] == axes["request_index"] == "candidate"
    probe = random_probe(inputs, vocabulary_sizes=vocabulary_sizes(trained, spec), count=30)
    ranker = SavedModel(trained / "ranker")
    together = ranker.run(probe)["rating"]
    for request in range(3):
        mine = probe["request_index"] == request
        alone = {
            name: values[mine] if axes[name] == "candidate" else values[request : request + 1]
            for name, values in probe.items()
        }
        alone["request_index"] = np.zeros(mine.sum(), np.int64)
        np.testing.assert_allclose(ranker.run(alone)["rating"], together[mine], atol=1e-5)


@pytest.mark.export
def test_same_seed_gives_same_models(
    tensorflow: Any, small_dataset: Dataset, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        train_two_tower(small_dataset, tmp_path / name, QUICK)
    for name in MODELS:
        first, second = (
            next(iter(answers(tmp_path / folder, name).values())) for folder in ("first", "second")
        )
        assert first.std() > 0
        np.testing.assert_array_equal(first, second)


@pytest.mark.export
def test_ids_alone_are_the_tutorials_models(
    tensorflow: Any, small_dataset: Dataset, tmp_path: Path
) -> None:
    options = dataclasses.replace(QUICK, features="ids", dimension=32, ranker_hidden=(256, 64))
    summary = train_two_tower(small_dataset, tmp_path / "out", options)
    spec = read_spec(tmp_path / "out")
    assert spec.features == []
    assert {name: [tensor.name for tensor in model_inputs(spec, name)] for name in MODELS} == {
        "query_tower": ["user_id"],
        "item_tower": ["item_id"],
        "ranker": ["user_id", "item_id", "request_index"],
    }
    # The tower is the embedding itself, and the ranker has the tutorial's number of weights.
    shapes = {
        name: sorted(shape for _, shape in tensorflow.train.list_variables(str(folder)))
        for name in MODELS
        for folder in [tmp_path / "out" / name / "variables" / "variables"]
    }
    assert [200 + 1, 32] in shapes["query_tower"]
    assert [64, 256] in shapes["ranker"]
    assert [256, 64] in shapes["ranker"]
    assert summary.test_count == 0
    assert not (tmp_path / "out" / "test.parquet").exists()


@pytest.mark.export
def test_data_without_ratings_gives_no_ranker(
    tensorflow: Any, small_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interactions = small_dataset.interactions
    nulls = pa.nulls(len(interactions), pa.float32())
    position = interactions.column_names.index("rating")
    dataset = dataclasses.replace(
        small_dataset, interactions=interactions.set_column(position, "rating", nulls), users=None
    )
    summary = train_two_tower(dataset, tmp_path / "out", QUICK)
    spec = read_spec(tmp_path / "out")
    assert spec.ranker is None
    assert summary.ranking_rmse is None
    assert "no ranker: the interactions have no ratings" in capsys.readouterr().err
    # Without a table of users, those who did something are known.
    users = pq.read_table(tmp_path / "out" / "users.parquet")
    assert users.column_names == ["id"]
    assert set(users["id"].to_pylist()) == set(interactions["user_id"].to_pylist())


@pytest.mark.export
def test_progress_is_one_line_an_epoch_where_there_is_no_terminal(
    tensorflow: Any, small_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = dataclasses.replace(QUICK, features="ids", epochs=2)
    train_two_tower(small_dataset, tmp_path / "out", options)
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if "epoch" in line]
    assert [line.partition(":")[0] for line in lines] == [
        "towers, epoch 1 of 2",
        "towers, epoch 2 of 2",
        "ranker, epoch 1 of 2",
        "ranker, epoch 2 of 2",
    ]
    assert "rmse" in lines[-1]
    assert printed.out == ""


def test_existing_folder_is_refused_before_training(small_dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text("{}")
    with pytest.raises(ExportError, match="--replace"):
        train_two_tower(small_dataset, tmp_path, QUICK)


def test_too_few_interactions_are_refused(small_dataset: Dataset, tmp_path: Path) -> None:
    few = dataclasses.replace(small_dataset, interactions=small_dataset.interactions.slice(0, 1))
    with pytest.raises(ConfigError, match="expected 2 or more to train on, got 1"):
        train_two_tower(few, tmp_path / "out", QUICK)
    few = dataclasses.replace(small_dataset, interactions=small_dataset.interactions.slice(0, 3))
    with pytest.raises(ConfigError, match="test_fraction"):
        train_two_tower(few, tmp_path / "out", dataclasses.replace(QUICK, test_fraction=0.1))
    assert list(tmp_path.iterdir()) == []


def test_users_of_the_interactions_join_those_of_the_table(small_dataset: Dataset) -> None:
    users = all_users(small_dataset)
    assert len(users) == 200
    assert users["id"].to_pylist()[-1] == "u199"
    assert users["age"].to_pylist()[-1] is None
