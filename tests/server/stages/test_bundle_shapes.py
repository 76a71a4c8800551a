"""Bundles of other shapes than the tiny world's: metrics, missing parts, histories, rankers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_world
from onnx import TensorProto, helper
from shortlist_exporters.errors import ExportError
from shortlist_exporters.export import export_bundle
from shortlist_server.errors import DimensionMismatch, InvalidValue, ModelSignatureMismatch
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import (
    Answer,
    ColdStartBasis,
    Event,
    Examples,
    Outcome,
    Query,
    Shortfall,
    User,
    Vector,
)
from shortlist_server.generation import Generation, load_generation


def made(folder: Path, **changes: Any) -> Generation:
    export_bundle(tiny_world.write_spec(folder / "spec", **changes), folder / "bundle")
    return load_generation(folder / "bundle")


def ask(generation: Generation, subject: User | Examples | Vector, **options: Any) -> Answer:
    return generation.funnel.recommend(Query(subject=subject), Options(**options), Budget(10))


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
@pytest.mark.parametrize("ef", [None, 60])
def test_retrieval_orders_by_the_bundles_metric(
    tmp_path: Path, metric: str, ef: int | None
) -> None:
    generation = made(tmp_path, metric=metric)
    raw = np.load(tmp_path / "spec/items.npy").astype(np.float64)
    point = np.linspace(-1, 2, 8)
    scores = {
        "inner_product": raw @ point,
        "cosine": raw @ point / np.linalg.norm(raw, axis=1) / np.linalg.norm(point),
        "l2": -((raw - point) ** 2).sum(axis=1),
    }[metric]
    answer = ask(generation, Vector(values=point.astype(np.float32)), limit=10, ef=ef)
    assert answer.items.rows.tolist() == np.argsort(-scores)[:10].tolist()
    assert answer.items.scores == pytest.approx(np.sort(scores)[::-1][:10], abs=1e-5)


def test_cosine_of_a_zero_vector_is_refused(tmp_path: Path) -> None:
    generation = made(tmp_path, metric="cosine")
    with pytest.raises(InvalidValue, match="not zero"):
        ask(generation, Vector(values=np.zeros(8, np.float32)))
    with pytest.raises(DimensionMismatch, match="expected 8 numbers, got 3 numbers"):
        ask(generation, Vector(values=np.ones(3, np.float32)))


def test_without_a_user_table_users_are_known_by_the_towers_vocabulary(tmp_path: Path) -> None:
    generation = made(tmp_path, users=None, interactions=None)
    known, unknown = ask(generation, User(id="u1")), ask(generation, User(id="nobody"))
    assert known.cold_start is None
    assert known.sources[0].name == "two_tower"
    assert unknown.cold_start is ColdStartBasis.NOTHING
    golden = generation.bundle.manifest.golden
    assert golden is not None
    assert np.load(generation.bundle.path(golden.outputs[0].values)).shape == (13, 8)


def test_without_popularity_an_unknown_user_gets_an_empty_list_that_says_why(
    tmp_path: Path,
) -> None:
    answer = ask(made(tmp_path, users=None, interactions=None), User(id="nobody"))
    assert len(answer.items.rows) == 0
    assert answer.shortfall is Shortfall.POPULARITY_EXHAUSTED
    assert [report.outcome for report in answer.stages][3] is Outcome.SKIPPED


def test_without_a_query_tower_users_are_answered_from_their_history(tmp_path: Path) -> None:
    generation = made(tmp_path, query_tower=None)
    answer = ask(generation, User(id="u1"))
    assert answer.sources[0].name == "history"
    assert answer.cold_start is None
    assert not set(answer.items.rows) & set(generation.catalog.seen("u1"))


def test_plan_says_that_a_tower_does_not_read_the_history_sent(tmp_path: Path) -> None:
    generation = made(tmp_path)
    plans = [
        ask(generation, User(id="u1", history=history)).stages[1].plan
        for history in ((), (Event(item_id="i3"),))
    ]
    assert plans == ["query tower", "query tower, which reads no history"]


def test_value_that_the_tower_cannot_take_is_the_callers_fault(tmp_path: Path) -> None:
    """A raw integer goes into a table of 13 rows; the load-time run on its default went well."""
    inputs = [
        {"name": "user", "dtype": "int64", "shape": ["request"], "source": "context.hour"},
        tiny_world.AGE_INPUT,
    ]
    tower = {"model": "query_tower.onnx", "inputs": inputs, "output": "embedding"}
    generation = made(tmp_path, query_tower=tower)
    query = Query(subject=User(id="u1"), context={"hour": 99})
    with pytest.raises(InvalidValue, match="query: expected features that the query tower takes"):
        generation.funnel.recommend(query, Options(), Budget(10))


def test_value_that_the_ranker_cannot_take_is_the_callers_fault(tmp_path: Path) -> None:
    user = {"name": "user", "dtype": "int64", "shape": ["request"], "source": "context.hour"}
    inputs = [user, *tiny_world.RANKER_INPUTS[1:]]
    ranker = {"model": "ranker.onnx", "inputs": inputs, "weights": {"rating": 1.0}}
    generation = made(tmp_path, ranker=ranker)
    query = Query(subject=User(id="u1"), context={"hour": 99})
    with pytest.raises(InvalidValue, match="query: expected features that the ranker takes"):
        generation.funnel.recommend(query, Options(), Budget(10))


def test_known_user_is_ranked_also_without_a_query_tower(tmp_path: Path) -> None:
    answer = ask(made(tmp_path, query_tower=None), User(id="u1"))
    assert answer.items.ranking_scores is not None


def test_user_whom_only_the_tower_knows_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "spec"
    spec = tiny_world.write_spec(folder, interactions=None)
    (folder / "users.csv").write_text("id,age,segment\nu0,20.5,old\n")
    export_bundle(spec, tmp_path / "bundle")
    answer = ask(load_generation(tmp_path / "bundle"), User(id="u7"))
    assert answer.cold_start is None
    assert answer.sources[0].name == "two_tower"


def test_ranker_that_does_not_give_a_number_a_candidate_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "spec"
    folder.mkdir()
    tiny_world.save_model(
        folder / "pair.onnx",
        [helper.make_node("Concat", ["year", "year"], ["score"], axis=1)],
        {"year": (TensorProto.FLOAT, ["batch", 1])},
        {"score": ["batch", 2]},
        {},
    )
    inputs = [{"name": "year", "dtype": "float32", "shape": ["batch", 1], "source": "item.year"}]
    features = [{"name": "item.year", "type": "int64", "default": 0}, *tiny_world.FEATURES]
    ranker = {"model": "pair.onnx", "inputs": inputs, "weights": {"score": 1.0}}
    with pytest.raises(ModelSignatureMismatch, match=r"'score': expected shape \[3\] or \[3, 1\]"):
        made(tmp_path, features=features, ranker=ranker)
    assert not (tmp_path / "bundle").exists()


def test_tiny_query_vectors_keep_their_direction_under_cosine(tmp_path: Path) -> None:
    generation = made(tmp_path, metric="cosine")
    point = np.linspace(-1, 2, 8).astype(np.float32)
    plain = ask(generation, Vector(values=point))
    for scale in (1e-30, 1e-13, 1e12):
        scaled = ask(generation, Vector(values=point * np.float32(scale)))
        assert scaled.items.rows.tolist() == plain.items.rows.tolist()
        assert scaled.items.scores == pytest.approx(plain.items.scores, abs=1e-5)


def test_without_ranker_and_towers_the_vectors_alone_are_a_bundle(tmp_path: Path) -> None:
    generation = made(
        tmp_path, query_tower=None, ranker=None, users=None, interactions=None, vocabularies=None
    )
    answer = ask(generation, Examples(item_ids=("i3",)), limit=4)
    assert len(answer.items.rows) == 4
    assert generation.parity == []


HISTORY_INPUTS = [
    {
        "name": "recent",
        "dtype": "int64",
        "shape": ["request", 3],
        "source": "history.item_id",
        "transforms": [
            {"kind": "lookup", "vocabulary": "item_ids"},
            {"kind": "pad", "length": 3, "side": "left", "keep": "last"},
        ],
    },
]


def test_tower_over_the_history_gets_the_newest_events_padded_on_its_side(tmp_path: Path) -> None:
    """Embedding = the sum of the three inputs, in the first component: shows what was fed."""
    folder = tmp_path / "spec"
    folder.mkdir()
    tiny_world.save_model(
        folder / "history_tower.onnx",
        [
            helper.make_node("Cast", ["recent"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["numbers", "spread"], ["embedding"]),
        ],
        {"recent": (TensorProto.INT64, ["request", 3])},
        {"embedding": ["request", 8]},
        {"spread": np.array([[1, 100, 10_000]], np.float32).T @ np.eye(1, 8, dtype=np.float32)},
    )
    (folder / "item_ids.txt").write_text("".join(f"i{row}\n" for row in range(60)))
    vocabularies = {
        "item_ids": {"file": "item_ids.txt"},
        "users": {"file": "users.txt"},
        "genres": {"file": "genres.txt"},
    }
    tower = {"model": "history_tower.onnx", "inputs": HISTORY_INPUTS, "output": "embedding"}
    generation = made(tmp_path, query_tower=tower, vocabularies=vocabularies)

    def fed(*item_ids: str) -> float:
        answer = ask(
            generation, User(id="nobody", history=tuple(Event(item_id=name) for name in item_ids))
        )
        assert answer.sources[0].name == "two_tower"
        assert answer.items.retrieval_scores is not None
        first = answer.items.rows[0]
        return float(answer.items.retrieval_scores[0] / generation.bundle.item_embeddings[first][0])

    assert fed("i0") == pytest.approx(1 * 10_000)  # index 0 is for unknown items, i0 has 1
    assert fed("i0", "i4") == pytest.approx(1 * 100 + 5 * 10_000)
    assert fed("i9", "i0", "i4", "i1") == pytest.approx(1 + 5 * 100 + 2 * 10_000)
    own = generation.catalog.seen("u1")[-3:] + 1
    answer = ask(generation, User(id="u1"))
    assert answer.items.retrieval_scores is not None
    first = answer.items.rows[0]
    expected = float(own @ [1, 100, 10_000]) * generation.bundle.item_embeddings[first][0]
    assert answer.items.retrieval_scores[0] == pytest.approx(expected, rel=1e-5)


def test_ranker_without_a_request_index_gets_the_request_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "spec"
    folder.mkdir()
    tiny_world.save_model(
        folder / "plain.onnx",
        [
            helper.make_node("Mul", ["hour", "retrieved"], ["product"]),
            helper.make_node("Add", ["product", "year"], ["score"]),
        ],
        {name: (TensorProto.FLOAT, ["batch", 1]) for name in ("hour", "retrieved", "year")},
        {"score": ["batch", 1]},
        {},
    )
    inputs = [
        {"name": "hour", "dtype": "float32", "shape": ["batch", 1], "source": "context.hour"},
        {
            "name": "retrieved",
            "dtype": "float32",
            "shape": ["batch", 1],
            "source": "retrieval.score",
        },
        {"name": "year", "dtype": "float32", "shape": ["batch", 1], "source": "item.year"},
    ]
    features = [
        {"name": "user.age", "type": "double", "default": 30.0},
        {"name": "context.hour", "type": "int64", "default": 3},
        {"name": "item.year", "type": "int64", "default": 1900},
    ]
    generation = made(
        tmp_path,
        features=features,
        vocabularies={"users": {"file": "users.txt"}},
        ranker={"model": "plain.onnx", "inputs": inputs, "weights": {"score": 1.0}},
    )
    answer = ask(generation, Examples(item_ids=("i3",)), limit=5)
    assert answer.items.retrieval_scores is not None
    years = [generation.catalog.attribute("year", row) or 1900 for row in answer.items.rows]
    for score, retrieved, year in zip(
        answer.items.scores, answer.items.retrieval_scores, years, strict=True
    ):
        assert score == pytest.approx(3 * retrieved + float(year), rel=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "manhattan"}, ["metric"]),
        ({"items": {"file": "nowhere.csv", "embeddings": "items.npy"}}, ["nowhere.csv"]),
        ({"items": {"file": "items.csv", "id": "sku", "embeddings": "items.npy"}}, ["sku"]),
        ({"items": {"file": "items.csv", "embeddings": "nowhere.npy"}}, ["nowhere.npy"]),
        ({"items": {"file": "items.csv"}}, ["items.embeddings", "item_tower"]),
        ({"vocabularies": {"users": {"file": "nowhere.txt"}}}, ["nowhere.txt"]),
        (
            {
                "ranker": {
                    "model": "nowhere.onnx",
                    "inputs": tiny_world.RANKER_INPUTS,
                    "weights": {"rating": 1.0},
                }
            },
            ["nowhere.onnx"],
        ),
        (
            {
                "ranker": {
                    "model": "ranker.onnx",
                    "inputs": tiny_world.RANKER_INPUTS,
                    "weights": {"stars": 1.0},
                }
            },
            ["stars", "like", "rating"],
        ),
        ({"interactions": {"file": "interactions.csv", "item": "thing"}}, ["thing"]),
    ],
)
def test_spec_with_a_fault_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    spec = tiny_world.write_spec(tmp_path / "spec", **changes)
    with pytest.raises(ExportError) as caught:
        export_bundle(spec, tmp_path / "bundle")
    for word in words:
        assert word in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["spec"]
