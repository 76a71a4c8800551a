from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from shortlist_exporters.data.dataset import Dataset
from shortlist_exporters.recipes.features import column_features, id_features

pytestmark = pytest.mark.export


def test_split_form_equals_the_concatenated_one(tensorflow: Any, small_dataset: Dataset) -> None:
    from shortlist_exporters.recipes.ranking import RankingModel

    assert small_dataset.users is not None
    users, items = small_dataset.users, small_dataset.items
    user = id_features("user", users["id"]) + column_features("user", users)
    item = id_features("item", items["id"]) + column_features("item", items)
    model = RankingModel(
        user.inputs,
        item.inputs,
        dimension=8,
        hidden=(16, 8),
        id_dropout=0.5,
        item_id_dropout=0.5,
        text_dropout=0.1,
        rating_mean=3.5,
    )
    of_user, of_item = user.tensors(users), item.tensors(items)
    generator = np.random.default_rng(5)
    asked, candidates = generator.integers(0, 199, 300), generator.integers(0, 100, 300)
    joined = {
        **{name: values[asked] for name, values in of_user.items()},
        **{name: values[candidates] for name, values in of_item.items()},
    }
    whole = model(joined).numpy()
    split = model.call_split(
        {**of_user, **{name: values[candidates] for name, values in of_item.items()}}, asked
    ).numpy()
    assert whole.shape == (300, 1)
    assert split.shape == (300,)
    assert split.std() > 0
    np.testing.assert_allclose(split, whole[:, 0], rtol=1e-5, atol=1e-6)


def test_some_ids_count_as_unknown_in_training_alone(tensorflow: Any) -> None:
    from shortlist_exporters.recipes.layers import IdEmbedding

    tensorflow.keras.utils.set_random_seed(3)
    layer = IdEmbedding(2, 4, dropout=0.25, name="user_id")
    known = np.ones(1000, np.int64)
    trained, served = layer(known, training=True).numpy(), layer(known).numpy()
    unknown = (trained == layer(np.zeros(1, np.int64)).numpy()).all(axis=1)
    assert 0.2 < unknown.mean() < 0.3
    assert (served == served[0]).all()


def test_mean_of_a_list_leaves_padding_out(tensorflow: Any) -> None:
    from shortlist_exporters.recipes.layers import MeanEmbedding

    layer = MeanEmbedding(5, 4, name="genres")
    mean = layer(np.array([[2, 3, 0], [0, 0, 0]])).numpy()
    two, three = (layer(np.array([[index, 0, 0]])).numpy()[0] for index in (2, 3))
    np.testing.assert_allclose(mean[0], (two + three) / 2, rtol=1e-6)
    np.testing.assert_array_equal(mean[1], np.zeros(4))


def test_number_far_off_is_clipped(tensorflow: Any) -> None:
    from shortlist_exporters.recipes.layers import CLIP, Number

    values = np.array([0.5, 1e9, -1e9], np.float32)
    assert Number()(values).numpy().tolist() == [[0.5], [CLIP], [-CLIP]]
