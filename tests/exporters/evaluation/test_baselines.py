from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse
from shortlist_exporters.data import load_dataset
from shortlist_exporters.data.split import parse_split
from shortlist_exporters.evaluation import baselines
from shortlist_exporters.evaluation.baselines import BASELINES, top_lists
from shortlist_exporters.evaluation.holdout import Holdout, make_holdout
from shortlist_exporters.evaluation.list_metrics import list_measures, ranks
from shortlist_server.errors import ConfigError, MissingExtra

USERS, ITEMS = 40, 15
ALL = np.arange(USERS)


@pytest.fixture(scope="module")
def dense() -> Any:
    return interests(np.random.default_rng(3), USERS, ITEMS)


def taste_of(users: int, items: int) -> Any:
    return (np.arange(users)[:, None] % 2) == (np.arange(items) % 2)


def interests(draw: np.random.Generator, users: int, items: int) -> Any:
    """Who did what: two tastes, and some chance."""
    share = np.where(taste_of(users, items), 0.5, 0.1)
    return (draw.random((users, items)) < share).astype(np.float32)


@pytest.fixture(scope="module")
def train(dense: Any) -> Any:
    return sparse.csr_array(dense)


def test_popularity_is_how_many_did_it(train: Any, dense: Any) -> None:
    scores = BASELINES["popularity"].learn(train, 1)(ALL)

    assert np.array_equal(scores, np.tile(dense.sum(axis=0), (USERS, 1)))


def test_random_is_the_same_for_a_seed_and_each_user_has_his_own(train: Any) -> None:
    scores = BASELINES["random"].learn(train, 1)(ALL)

    assert np.array_equal(scores[[5]], BASELINES["random"].learn(train, 1)(np.array([5])))
    assert not np.array_equal(scores[5], scores[6])
    assert not np.array_equal(scores, BASELINES["random"].learn(train, 2)(ALL))


def test_neighbours_are_the_nearest_by_shrunk_cosine(
    train: Any, dense: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "NEIGHBOUR_COUNT", 4)
    monkeypatch.setattr(baselines, "ROWS_AT_ONCE", 7)
    counts = dense.sum(axis=0)
    expected = np.zeros((USERS, ITEMS))
    for item in range(ITEMS):
        alike = [
            0.0
            if other == item
            else float(dense[:, item] @ dense[:, other])
            / (np.sqrt(counts[item] * counts[other]) + 10.0)
            for other in range(ITEMS)
        ]
        least = sorted(alike)[-4]
        for other in range(ITEMS):  # of those that are as near as the fourth all count
            expected[:, item] += dense[:, other] * alike[other] * (alike[other] >= least)

    scores = BASELINES["item-knn"].learn(train, 1)(ALL)

    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_ease_is_each_items_ridge_regression_on_the_others(train: Any, dense: Any) -> None:
    """The closed solution has every column of the constrained problem: Steck 2019, section 3.1."""
    gram = dense.T.astype(np.float64) @ dense
    weights = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        others = [other for other in range(ITEMS) if other != item]
        regularized = gram[np.ix_(others, others)] + 300.0 * np.eye(ITEMS - 1)
        weights[others, item] = np.linalg.solve(regularized, gram[others, item])

    scores = BASELINES["ease"].learn(train, 1)(ALL)

    np.testing.assert_allclose(scores, dense @ weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["item-knn", "ease", "als"])
def test_users_who_did_nothing_get_what_is_popular(dense: Any, name: str) -> None:
    world = sparse.csr_array(np.vstack([dense, np.zeros((1, ITEMS), np.float32)]))

    scores = BASELINES[name].learn(world, 1)(np.array([3, USERS]))

    assert np.array_equal(scores[1], dense.sum(axis=0))
    assert not np.array_equal(scores[0], dense.sum(axis=0))


def test_ease_of_too_many_items_is_refused(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "DENSE_ITEMS_MAX", 10)

    with pytest.raises(ConfigError, match="baseline ease: expected at most 10 items, got 15"):
        BASELINES["ease"].learn(train, 1)


def test_als_learns_tastes_and_is_the_same_for_a_seed() -> None:
    world = interests(np.random.default_rng(4), 400, 60)
    scores = BASELINES["als"].learn(sparse.csr_array(world), 7)(np.arange(400))

    own = taste_of(400, 60)
    unseen = world == 0
    assert scores[own & unseen].mean() > 2 * abs(scores[~own & unseen].mean())
    again = BASELINES["als"].learn(sparse.csr_array(world), 7)(np.arange(400))
    assert np.array_equal(scores, again)


def test_als_names_its_extra(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)

    with pytest.raises(MissingExtra, match="baselines"):
        BASELINES["als"].learn(train, 1)


def holdout(dense: Any, exclude_seen: bool) -> Holdout:
    rows, columns = np.nonzero(dense)
    names = [f"i{item}" for item in range(ITEMS)]
    table = pa.table(
        {
            "user_id": [f"u{row}" for row in rows],
            "item_id": [names[column] for column in columns],
            "rating": pa.nulls(len(rows), pa.float32()),
        }
    )
    kept, held_out = parse_split("random:0.8").apply(table)
    return make_holdout(
        kept, held_out, item_ids=names, more_item_ids=["beside"], exclude_seen=exclude_seen
    )


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_lists_are_the_best_by_score_and_of_equal_ones_the_first(
    dense: Any, exclude_seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "ROWS_AT_ONCE", 7)
    world = holdout(dense, exclude_seen)
    counts = world.train_counts

    lists = top_lists(
        BASELINES["popularity"].learn(world.train, 1), world, 12, exclude_seen=exclude_seen
    )

    for user, shown in enumerate(lists):
        seen = set(np.flatnonzero(world.seen.toarray()[user])) if exclude_seen else set()
        allowed = [item for item in range(ITEMS) if item not in seen]
        best = sorted(allowed, key=lambda item: (-counts[item], item))[:12]
        assert shown.tolist() == best + [-1] * (12 - len(best))


def test_baselines_have_their_published_figures_on_movielens_100k(real_data: Path) -> None:
    """Random 80/20, the share of 20,000 pairs among the first k: measured apart from this code."""
    dataset = load_dataset(real_data / "ml-100k")
    train, test = parse_split("random:0.8:1").apply(dataset.interactions)

    def hits(name: str, exclude_seen: bool) -> list[float]:
        world = make_holdout(
            train, test, item_ids=dataset.items["id"].to_pylist(), exclude_seen=exclude_seen
        )
        scorer = BASELINES[name].learn(world.train, 1)
        lists = top_lists(scorer, world, 100, exclude_seen=exclude_seen)
        places = ranks(lists, world.offsets, world.items)
        figures = list_measures(places, world.offsets, [10, 50, 100])
        return [figures[f"hit_at_{k}"].value for k in (10, 50, 100)]

    assert hits("ease", True) == pytest.approx([0.173, 0.461, 0.623], abs=0.005)
    assert hits("popularity", True)[2] == pytest.approx(0.410, abs=0.005)
    assert hits("popularity", False)[2] == pytest.approx(0.294, abs=0.005)
    # By chance a list of 100 of some 1,580 holds a pair with 100 / 1,580.
    assert hits("random", True)[2] == pytest.approx(0.065, abs=0.005)
