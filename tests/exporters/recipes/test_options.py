from __future__ import annotations

from typing import Any

import pytest
from shortlist_exporters.data.split import parse_split
from shortlist_exporters.recipes import TwoTowerOptions
from shortlist_server.errors import ConfigError


@pytest.mark.parametrize(
    "wrong",
    [
        {"dimension": 0},
        {"dimension": 4097},
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"ranker_learning_rate": -1.0},
        {"ranker_hidden": ()},
        {"ranker_hidden": (64, 0)},
        {"id_dropout": 1.0},
        {"test_fraction": 1.0},
        {"test_fraction": -0.1},
        {"seed": -1},
    ],
)
def test_value_out_of_range_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))}: expected .*, got"):
        TwoTowerOptions(**wrong)


def test_split_and_share_of_a_split_are_refused_together() -> None:
    with pytest.raises(ConfigError, match=r"split: expected no test_fraction beside it, got 0\.2"):
        TwoTowerOptions(split=parse_split("leave-last-out"), test_fraction=0.2)


def test_batch_size_is_the_tutorials_with_ids_alone() -> None:
    assert TwoTowerOptions(features="ids").interactions_per_step == 8192
    assert TwoTowerOptions(features="all").interactions_per_step == 1024
    assert TwoTowerOptions(features="ids", batch_size=10).interactions_per_step == 10
