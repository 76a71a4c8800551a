"""A small seeded data set, TensorFlow, and models trained on the one with the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from shortlist_exporters.data.dataset import Dataset

USER_COUNT = 200
ITEM_COUNT = 100
INTERACTION_COUNT = 2_000

GENRES = ("Comedy", "Crime", "Drama", "Horror", "Western")

SaveModel = Callable[..., Path]


@pytest.fixture(scope="session")
def tensorflow() -> Any:
    """TensorFlow with Keras 2; what it warns of while it is imported is not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from shortlist_exporters.onnx.framework import import_recommenders, import_tf2onnx

        import_recommenders()
        import_tf2onnx()
        from shortlist_exporters.recipes.keras import tf
    return tf


@pytest.fixture(autouse=True)
def _foreign_warnings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let TensorFlow, tf2onnx and onnx warn as they like where they run."""
    with warnings.catch_warnings():
        if request.node.get_closest_marker("export"):
            warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def small_dataset() -> Dataset:
    """200 users and 100 items; every kind of column, with gaps, and a user whom no table knows."""
    return make_dataset(np.random.default_rng(7))


@pytest.fixture(scope="session")
def trained(
    tensorflow: Any, small_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Models with every feature, the time included, trained for one epoch."""
    from shortlist_exporters.recipes import TwoTowerOptions, train_two_tower

    out = tmp_path_factory.mktemp("trained") / "out"
    options = TwoTowerOptions(
        epochs=1, batch_size=256, dimension=8, ranker_hidden=(16, 8), time=True, test_fraction=0.2
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train_two_tower(small_dataset, out, options)
    return out


@pytest.fixture
def save_model(tensorflow: Any, tmp_path: Path) -> SaveModel:
    """A function that writes a SavedModel: one Python function, its layers and its inputs."""

    def save(
        serve: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        *,
        layers: list[Any],
        specs: Mapping[str, tuple[str, list[int | None]]],
        name: str = "model",
    ) -> Path:
        module = tensorflow.Module()
        module.kept = layers
        signature = {
            key: tensorflow.TensorSpec(shape, dtype, name=key)
            for key, (dtype, shape) in specs.items()
        }
        module.serve = tensorflow.function(serve, input_signature=[signature])
        folder = tmp_path / name
        tensorflow.saved_model.save(
            module, str(folder), signatures={"serving_default": module.serve}
        )
        return folder

    return save


def make_dataset(generator: np.random.Generator) -> Dataset:
    users = [f"u{number}" for number in range(USER_COUNT)]
    items = [f"i{number}" for number in range(ITEM_COUNT)]
    ages = generator.integers(18, 70, USER_COUNT - 1).tolist()
    user_table = pa.table(
        {
            # The last user did something but stands in no table.
            "id": users[:-1],
            "age": pa.array([None if number % 50 == 0 else age for number, age in enumerate(ages)]),
            "height": pa.array(generator.normal(1.7, 0.1, USER_COUNT - 1)),
            "premium": pa.array(generator.random(USER_COUNT - 1) < 0.3),
            "city": pa.array(generator.choice(["Oslo", "Bergen", "Voss"], USER_COUNT - 1)),
            "country": pa.array(["NO"] * (USER_COUNT - 1)),
        }
    )
    genres = [
        generator.choice(GENRES, generator.integers(0, 4), replace=False).tolist() for _ in items
    ]
    item_table = pa.table(
        {
            "id": items,
            "title": [f"Film {number}" for number in range(ITEM_COUNT)],
            "year": pa.array(generator.integers(1930, 2000, ITEM_COUNT)),
            "genres": pa.array(genres, pa.list_(pa.string())),
            "frame sizes": pa.array([[1, 2]] * ITEM_COUNT, pa.list_(pa.int64())),
        }
    )
    # A few items are liked by many.
    popular = np.minimum(generator.exponential(20, INTERACTION_COUNT), ITEM_COUNT - 1).astype(int)
    active = generator.integers(0, USER_COUNT, INTERACTION_COUNT)
    active[:2] = USER_COUNT - 1
    interactions = pa.table(
        {
            "user_id": [users[row] for row in active],
            "item_id": [items[row] for row in popular],
            "rating": pa.array(generator.integers(1, 6, INTERACTION_COUNT), pa.float32()),
            "time": pa.array(generator.integers(10**9, 10**9 + 10**7, INTERACTION_COUNT)),
        }
    )
    return Dataset(
        name="small", simulated=True, interactions=interactions, items=item_table, users=user_table
    )
