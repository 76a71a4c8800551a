"""Texts in an export spec: models read them, and what does not fit is refused by its field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reading_world
import text_world
import tiny_embedder
import tiny_world
from shortlist_exporters.errors import ExportError, SpecError
from shortlist_exporters.export import export_bundle, verify_bundle
from shortlist_exporters.text.embed import embed_texts
from shortlist_server.bundle.reader import Bundle, open_bundle
from shortlist_server.llm.local_embedder import LocalEmbedder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reading_world.write_bundle(tmp_path_factory.mktemp("reading"))


def points_of(bundle: Bundle) -> np.ndarray:
    """Return the point of each item, made from the plots once more."""
    embedder, plots = LocalEmbedder(bundle.path("texts/embedder")), text_world.plots()
    points = np.zeros((len(bundle.item_ids), reading_world.WIDTH), np.float32)
    for row, item_id in enumerate(bundle.item_ids):
        if item_id in plots:
            points[row] = embedder.embed_now([plots[item_id]], kind="item", deadline_s=60)[0]
    return points


def test_items_are_embedded_with_what_their_texts_mean(made: Path) -> None:
    bundle = open_bundle(made)
    assert bundle.texts is not None
    points = points_of(bundle)
    assert set(np.flatnonzero(~points.any(axis=1))) == set(range(0, tiny_world.ITEM_COUNT, 6))
    np.testing.assert_allclose(bundle.texts.by_item(len(points)), points, atol=1e-6)
    genres: Any = [cell or () for cell in bundle.item_columns["genres"].tolist()]
    expected = reading_world.vectors(genres, points)
    np.testing.assert_allclose(bundle.item_embeddings, expected, atol=1e-4)
    assert {output.model for output in bundle.manifest.golden.outputs} >= {"item_tower", "ranker"}  # type: ignore[union-attr]
    verify_bundle(made)


def test_a_reader_that_knows_no_texts_must_refuse_models_that_read_them(
    made: Path, tmp_path: Path
) -> None:
    sections = open_bundle(made).manifest.sections
    assert sections["texts"]["required"] is True
    assert next(iter(sections)) == "texts"
    spec = reading_world.write_spec(tmp_path / "spec", item_tower=None, ranker=None)
    np.save(tmp_path / "spec/items.npy", np.ones((tiny_world.ITEM_COUNT, 8), np.float32))
    (tmp_path / "spec/export.json").write_text(
        spec.read_text().replace('"lists"', '"embeddings": "items.npy", "lists"')
    )
    export_bundle(spec, tmp_path / "bundle")
    assert open_bundle(tmp_path / "bundle").manifest.sections["texts"]["required"] is False


def test_vectors_in_a_file_take_the_place_of_texts(made: Path, tmp_path: Path) -> None:
    texts = open_bundle(made).texts
    assert texts is not None
    given = {"attributes": ["plot"], "embeddings": "points.npy"}
    for place, of in enumerate(({"embedder": "embedder-5"}, {"identity": "service/tiny"})):
        folder = tmp_path / str(place)
        spec = reading_world.write_spec(folder, texts=given | of)
        np.save(folder / "points.npy", texts.by_item(tiny_world.ITEM_COUNT))
        export_bundle(spec, folder / "bundle")
        bundle = open_bundle(folder / "bundle")
        np.testing.assert_array_equal(bundle.item_embeddings, open_bundle(made).item_embeddings)
        assert bundle.manifest.texts is not None
        expected = of.get("identity", "local/tiny@")
        assert bundle.manifest.texts.embedder.identity.startswith(expected)


def unread(shape: list[Any]) -> dict[str, Any]:
    return {
        "model": "item_tower.onnx",
        "inputs": [{**reading_world.text_input(), "shape": shape}],
        "output": "embedding",
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"texts": None},
            "item_tower: input 'text' from 'text.embedding': expected `texts` in the spec",
        ),
        (
            {"item_tower": unread(["item", 12])},
            r"item_tower: input 'text' from 'text.embedding': expected \[batch, 16\], the "
            r"dimension of local/tiny@\w+, got \['item', 12\]",
        ),
        (
            {"texts": {"attributes": ["plot"], "embedder": "embedder-5", "identity": "a"}},
            "texts: Value error, expected either embedder or identity",
        ),
        (
            {"texts": {"attributes": ["plot"], "identity": "a"}},
            "texts: Value error, expected embeddings beside identity",
        ),
        (
            {
                "texts": {
                    "attributes": ["plot"],
                    "embedder": "embedder-5",
                    "file": "plots.csv",
                    "embeddings": "points.npy",
                }
            },
            "texts: Value error, expected either file or embeddings",
        ),
        (
            {"texts": {"attributes": ["year"], "embedder": "embedder-5"}},
            r"texts.attributes: expected columns of texts, some of \['title', 'genres'\], got "
            "'year', which is int64",
        ),
        (
            {"texts": {"attributes": ["plot"], "embedder": "embedder-5", "embeddings": "none.npy"}},
            r"texts.embeddings: .*none.npy: expected a .npy array",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    spec = reading_world.write_spec(tmp_path / "spec", **changes)
    with pytest.raises(SpecError, match=problem):
        export_bundle(spec, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_query_tower_reads_no_texts(tmp_path: Path) -> None:
    tower = {
        "model": "item_tower.onnx",
        "inputs": [reading_world.text_input()],
        "output": "embedding",
    }
    spec = reading_world.write_spec(tmp_path / "spec", query_tower=tower)
    with pytest.raises(SpecError, match=r"query_tower: input 'text'.*a source of the request"):
        export_bundle(spec, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda points: points[:-1], r"expected float32 \[60, 16\], .* got float32 \[59, 16\]"),
        (lambda points: points[:, :8], r"expected float32 \[60, 16\], .* got float32 \[60, 8\]"),
        (lambda points: points.astype(np.float64), "got float64"),
        (lambda points: points * 2, "points of length 1, .* got length 2 at item 'i0'"),
        (lambda points: points * np.nan, "got length nan at item 'i0'"),
        (lambda points: points * 0, "expected items with a text, got none"),
    ],
)
def test_points_that_are_none_are_refused(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], problem: str
) -> None:
    texts = {"attributes": ["plot"], "embedder": "embedder-5", "embeddings": "points.npy"}
    spec = reading_world.write_spec(tmp_path / "spec", texts=texts)
    points = np.zeros((tiny_world.ITEM_COUNT, reading_world.WIDTH), np.float32)
    points[:, 0] = 1
    np.save(tmp_path / "spec/points.npy", change(points))
    with pytest.raises(SpecError, match=rf"texts.embeddings: .*points.npy: .*{problem}"):
        export_bundle(spec, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"dtype": "int64"}, r"expected float32 \[batch, dimension\] and no transforms, got int64"),
        ({"shape": ["item"]}, r"got float32 \['item'\]"),
        ({"transforms": [{"kind": "normalize", "mean": 0.0, "variance": 1.0}]}, "and 1$"),
    ],
)
def test_an_input_takes_points_as_they_are(
    tmp_path: Path, changed: dict[str, Any], problem: str
) -> None:
    tower = {
        "model": "item_tower.onnx",
        "inputs": [reading_world.text_input() | changed],
        "output": "embedding",
    }
    spec = reading_world.write_spec(tmp_path / "spec", item_tower=tower)
    with pytest.raises(ExportError, match=f"item_tower.inputs.0: .*{problem}"):
        export_bundle(spec, tmp_path / "bundle")


def test_texts_that_a_model_was_trained_on_are_not_replaced(made: Path, tmp_path: Path) -> None:
    embedder = tiny_embedder.write_embedder(tmp_path, seed=9)
    with pytest.raises(SpecError, match="got an input 'text' of item_tower"):
        embed_texts(made, tmp_path / "out", attributes=["title"], embedder=embedder)
    assert not (tmp_path / "out").exists()
