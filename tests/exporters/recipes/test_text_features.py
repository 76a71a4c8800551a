"""Films that nobody has rated, and that the models were trained without, reach those whose taste
they are: by what their texts mean.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny_embedder
from conftest import RunningServer
from shortlist_client import CatalogItem, Client
from shortlist_exporters.cli import main
from shortlist_exporters.data.dataset import Dataset
from shortlist_exporters.export import export_bundle
from shortlist_exporters.onnx.tensorflow import SavedModel
from shortlist_exporters.recipes import TwoTowerOptions, train_two_tower
from shortlist_exporters.recipes.trained import read_spec
from shortlist_exporters.text.items import EmbeddedTexts, embed_items
from shortlist_server.bundle.reader import open_bundle
from shortlist_server.errors import ConfigError
from shortlist_server.generation import load_generation

THEMES = {
    "space": ["robot", "space", "moon", "dream"],
    "war": ["war", "king", "west", "train"],
    "home": ["love", "toy", "dog", "house"],
}
FILLERS = ["a", "the", "in", "of", "new", "old", "lost", "film"]
FILM_COUNT, HELD_OUT, USER_COUNT, RATED = 150, 30, 120, 25
OPTIONS = TwoTowerOptions(epochs=12, batch_size=256, dimension=16, ranker_hidden=(32, 16))


def theme_of(number: int) -> str:
    return list(THEMES)[number % len(THEMES)]


@cache
def plots() -> list[str]:
    """Return the plot of each film, those that are held out after the others."""
    draw = random.Random(3)
    made = []
    for number in range(FILM_COUNT + HELD_OUT):
        words = draw.choices(THEMES[theme_of(number)], k=4) + draw.choices(FILLERS, k=4)
        draw.shuffle(words)
        made.append(" ".join(words))
    return made


def dataset() -> Dataset:
    """Users who rate films of their own theme high and others low; nothing but the plot tells of
    which theme a film is.
    """
    draw = random.Random(4)
    rows = []
    for user in range(USER_COUNT):
        own = [film for film in range(FILM_COUNT) if theme_of(film) == theme_of(user)]
        others = [film for film in range(FILM_COUNT) if theme_of(film) != theme_of(user)]
        rows += [(f"u{user}", f"f{film}", 5.0) for film in draw.sample(own, RATED - 3)]
        rows += [(f"u{user}", f"f{film}", 1.0) for film in draw.sample(others, 3)]
    users, films, ratings = zip(*rows, strict=True)
    return Dataset(
        name="themes",
        simulated=True,
        interactions=pa.table(
            {
                "user_id": users,
                "item_id": films,
                "rating": pa.array(ratings, pa.float32()),
                "time": pa.nulls(len(rows), pa.int64()),
            }
        ),
        items=pa.table(
            {
                "id": [f"f{film}" for film in range(FILM_COUNT)],
                "title": [f"Film {film}" for film in range(FILM_COUNT)],
                # One film in ten has none.
                "plot": [
                    None if film % 10 == 9 else plot
                    for film, plot in enumerate(plots()[:FILM_COUNT])
                ],
            }
        ),
        users=None,
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedTexts:
    folder = tmp_path_factory.mktemp("embedder")
    films = dataset()
    return embed_items(
        films.items["id"].to_pylist(),
        films.item_texts(),
        attributes=["plot"],
        embedder=tiny_embedder.write_embedder(folder),
        texts=None,
        kept=folder / "kept",
        field="--text",
    )


@pytest.fixture(scope="module")
def trained(
    tensorflow: Any, texts: EmbeddedTexts, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("reading") / "trained"
    train_two_tower(dataset(), out, OPTIONS, texts=texts)
    return out


@pytest.fixture(scope="module")
def bundle(trained: Path) -> Path:
    export_bundle(trained, trained.parent / "bundle", version="1")
    return trained.parent / "bundle"


@cache
def held_out() -> dict[str, CatalogItem]:
    return {
        f"f{film}": CatalogItem(f"f{film}", {"title": f"Film {film}", "plot": plots()[film]})
        for film in range(FILM_COUNT, FILM_COUNT + HELD_OUT)
    }


class Answers:
    """What a server that was told of new films says of them, by user."""

    def __init__(self, bundle: Path, store: Path, items: Sequence[CatalogItem]) -> None:
        self.retrieved: dict[str, list[str]] = {}
        self.ratings: dict[str, dict[str, float]] = {}
        server = RunningServer(bundle, load_generation(bundle), catalog_store=str(store))
        try:
            with Client(server.target, timeout_s=60) as client:
                self._ask(client, items)
        finally:
            server.stop()

    def _ask(self, client: Client, items: Sequence[CatalogItem]) -> None:
        changes = client.upsert_items(items)
        assert not changes.failures
        for user in (f"u{user}" for user in range(USER_COUNT)):
            answer = client.retrieve(
                user=user,
                candidate_count=FILM_COUNT + HELD_OUT,
                min_revision=changes.revision,
            )
            self.retrieved[user] = [item.id for item in answer.items]
            ranked = client.rank(user=user, item_ids=list(held_out()))
            self.ratings[user] = {item.id: item.outputs["rating"] for item in ranked.items}

    def order_of_new(self, user: str) -> list[str]:
        return [item_id for item_id in self.retrieved[user] if item_id in held_out()]


def shares_first(order: list[str], user: str) -> float:
    """Return the share of pairs of a film of the user's theme and another, the one before the
    other: 0.5 by chance, 1 at best.
    """
    own = [theme_of(int(film[1:])) == theme_of(int(user[1:])) for film in order]
    places = np.arange(len(order))
    before = places[own][:, np.newaxis] < places[np.invert(own)][np.newaxis]
    return float(before.mean())


@pytest.mark.export
def test_films_that_nobody_rated_reach_those_whose_taste_they_are(
    bundle: Path, tmp_path: Path
) -> None:
    answers = Answers(bundle, tmp_path / "catalog.sqlite", list(held_out().values()))
    orders = {user: answers.order_of_new(user) for user in answers.retrieved}
    assert {len(order) for order in orders.values()} == {HELD_OUT}
    assert np.mean([shares_first(order, user) for user, order in orders.items()]) > 0.8
    # Among the first 20 of all that a user has not seen, too; by chance 1.3 of them were new and of
    # his theme.
    suiting = [
        film in held_out() and theme_of(int(film[1:])) == theme_of(int(user[1:]))
        for user, found in answers.retrieved.items()
        for film in found[:20]
    ]
    assert sum(suiting) / USER_COUNT > 1.8
    by_rating = [
        shares_first(sorted(ratings, key=lambda film, of=ratings: -of[film]), user)
        for user, ratings in answers.ratings.items()
    ]
    assert np.mean(by_rating) > 0.53


@pytest.mark.export
def test_without_a_plot_new_films_are_all_alike(bundle: Path, tmp_path: Path) -> None:
    """It is the plot, and nothing else, by which they reach anybody."""
    silent = [CatalogItem(item_id, {"title": "Film"}) for item_id in held_out()]
    answers = Answers(bundle, tmp_path / "catalog.sqlite", silent)
    for ratings in answers.ratings.values():
        assert len(set(ratings.values())) == 1
    assert len({tuple(order) for order in map(answers.order_of_new, answers.ratings)}) == 1


@pytest.mark.export
def test_the_trained_folder_and_the_bundle_hold_the_texts(
    trained: Path, bundle: Path, texts: EmbeddedTexts
) -> None:
    spec = read_spec(trained)
    assert spec.texts is not None
    assert spec.texts.attributes == ["plot"]
    for model in (spec.item_tower, spec.ranker):
        assert model is not None
        (tensor,) = [one for one in model.inputs if one.source == "text.embedding"]
        assert tensor.shape[1] == texts.dimension
    made = open_bundle(bundle)
    assert made.manifest.texts is not None
    assert made.texts is not None
    assert made.manifest.texts.required
    assert made.manifest.texts.embedder.identity == texts.identity
    np.testing.assert_array_equal(made.texts.by_item(FILM_COUNT), texts.points)


@pytest.mark.export
def test_a_missing_text_adds_nothing_to_an_embedding(trained: Path) -> None:
    tower = SavedModel(trained / "item_tower")
    points = np.zeros((2, 16), np.float32)
    ids = np.array([0, 5], np.int64)
    spec = read_spec(trained)
    assert spec.item_tower is not None
    names = {tensor.name for tensor in spec.item_tower.inputs}
    assert names == {"item_id", "text_embedding"}
    without = tower.run({"item_id": ids, "text_embedding": points})["embedding"]
    points[:, 0] = 1
    with_text = tower.run({"item_id": ids, "text_embedding": points})["embedding"]
    added = with_text - without
    np.testing.assert_allclose(added[0], added[1], atol=1e-5)
    assert np.abs(added).max() > 0.01


def test_models_of_ids_alone_read_no_texts(texts: EmbeddedTexts, tmp_path: Path) -> None:
    options = TwoTowerOptions(features="ids")
    with pytest.raises(ConfigError, match="texts: expected features `all`"):
        train_two_tower(dataset(), tmp_path / "out", options, texts=texts)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--text", "title"], "--text: expected --embedder, which embeds the texts, got none"),
        (
            ["--text", "title", "--embedder", "e", "--features", "ids"],
            "--text: expected --features all, whose models read texts, got ids",
        ),
        (["--embedder", "e"], "--embedder: expected --text beside it"),
        (["--texts", "t.csv"], "--texts: expected --text beside it"),
        (
            ["--text", "plot", "--embedder", "e"],
            "--text: expected columns of texts, some of ['title', 'genres'], got 'plot'",
        ),
        (["--item-id-dropout", "1"], "item_id_dropout: expected 0 to below 1, got 1.0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--out", str(tmp_path / "out"), *arguments]) == 1
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
