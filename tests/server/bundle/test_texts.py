"""Texts of a bundle that are not what its manifest says are refused by name."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_world
import tiny_embedder
from shortlist_exporters.export import verify_bundle
from shortlist_server.bundle.item_text import clean_text, item_text
from shortlist_server.errors import BundleError, NotConfigured
from shortlist_server.generation import GenerationOptions, load_generation


@pytest.fixture
def copy(text_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(text_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def made_good(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    edit(folder, lambda document: document["files"].update({name: entry}))


def save(folder: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(folder / name, change(np.load(folder / name)))
    made_good(folder, name)


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(BundleError) as caught:
        load_generation(folder)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("texts/rows.npy", lambda rows: rows[::-1].copy(), "rising"),
        ("texts/rows.npy", lambda rows: np.r_[rows[:-1], 60], "rows from 0 to 59"),
        ("texts/rows.npy", lambda rows: rows[:0], "one row or more"),
        ("texts/rows.npy", lambda rows: rows[:-1], "float32 [49, 16]"),
        ("texts/rows.npy", lambda rows: rows.astype(np.int32), "int64"),
        ("texts/embeddings.npy", lambda points: points * 2, "vectors of length 1"),
        ("texts/embeddings.npy", lambda points: points * np.nan, "vectors of length 1"),
        ("texts/embeddings.npy", lambda points: points[:, :8].copy(), "float32 [50, 16]"),
        ("texts/embeddings.npy", lambda points: points[::-1].copy(), "texts/hnsw.bin"),
    ],
)
def test_arrays_that_are_not_texts_are_refused(
    copy: Path, name: str, change: Callable[[np.ndarray], np.ndarray], problem: str
) -> None:
    save(copy, name, change)
    refused(copy, problem)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda texts: texts.update(attributes=[]), "at least 1 item"),
        (lambda texts: texts.update(attributes=["year"]), "'year': expected string or string_list"),
        (lambda texts: texts.update(dimension=8), "float32 [50, 8]"),
        (lambda texts: texts["embedder"].update(folder="../out"), "match pattern"),
        (lambda texts: texts["embedder"].update(folder="texts"), "texts/embedder.json"),
        (lambda texts: texts["index"].update(file="texts/none.bin"), "texts/none.bin"),
        (lambda texts: texts.update(more=1), "Extra inputs"),
    ],
)
def test_a_section_that_does_not_agree_is_refused(
    copy: Path, change: Callable[[dict[str, Any]], Any], problem: str
) -> None:
    edit(copy, lambda document: change(document["sections"]["texts"]))
    refused(copy, problem)


READING = {
    "name": "text",
    "dtype": "float32",
    "shape": ["batch", 16],
    "source": "text.embedding",
}


def reads(section: str, **changes: Any) -> Callable[[dict[str, Any]], Any]:
    """Have the first input of a model take the points of texts."""

    def change(document: dict[str, Any]) -> None:
        document["sections"][section]["model"]["inputs"][0] = READING | changes

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            reads("ranker", shape=["batch", 12]),
            "ranker: input 'text' from 'text.embedding': expected [batch, 16], the dimension of "
            "the texts, got ['batch', 12]",
        ),
        (
            reads("query_tower"),
            "query_tower: input 'text' from 'text.embedding': expected a source of the request",
        ),
        (reads("ranker", dtype="float64"), "expected float32 [batch, dimension]"),
        (reads("ranker", shape=["batch"]), "expected float32 [batch, dimension]"),
        (
            reads("ranker", transforms=[{"kind": "length", "maximum": 3}]),
            "expected float32 [batch, dimension] and no transforms",
        ),
    ],
)
def test_models_that_read_other_texts_are_refused_by_their_input(
    copy: Path, change: Callable[[dict[str, Any]], Any], problem: str
) -> None:
    edit(copy, change)
    refused(copy, problem)


def test_models_that_read_texts_need_them(copy: Path) -> None:
    edit(copy, reads("ranker"))
    edit(copy, lambda document: document["sections"].pop("texts"))
    refused(copy, "ranker: input 'text' from 'text.embedding': expected a section `texts`")


def test_another_embedder_than_the_one_that_embedded_is_refused_by_both_names(
    copy: Path, tmp_path: Path
) -> None:
    other = tiny_embedder.write_embedder(tmp_path, seed=9, name="other")
    for file in other.iterdir():
        shutil.copyfile(file, copy / "texts/embedder" / file.name)
        made_good(copy, f"texts/embedder/{file.name}")
    refused(copy, "texts.embedder: expected local/tiny@", "got local/other@")
    with pytest.raises(BundleError, match="got local/other@"):
        verify_bundle(copy)


def test_a_damaged_embedder_is_refused_by_its_file(copy: Path) -> None:
    (copy / "texts/embedder/tokenizer.json").write_text("{}")
    made_good(copy, "texts/embedder/tokenizer.json")
    refused(copy, "tokenizer.json")


def test_a_configured_embedder_of_another_identity_is_refused(copy: Path, tmp_path: Path) -> None:
    class Service:
        identity, dimension, space, waits = "service/other", 16, None, True

    folder = text_world.of_service(copy, tmp_path / "remote", "service/tiny")
    with pytest.raises(
        NotConfigured, match=r"text_embedder.model: expected 'service/tiny'.*'service/other'"
    ):
        load_generation(folder, GenerationOptions(text_embedder=Service()))  # type: ignore[arg-type]


def test_one_of_another_dimension_is_refused(copy: Path, tmp_path: Path) -> None:
    class Service:
        identity, dimension, space, waits = "service/tiny", 8, None, True

    folder = text_world.of_service(copy, tmp_path / "remote", "service/tiny")
    with pytest.raises(NotConfigured, match=r"text_embedder.dimension: expected 16.*not 8"):
        load_generation(folder, GenerationOptions(text_embedder=Service()))  # type: ignore[arg-type]


def test_without_the_extra_the_rest_is_served(
    text_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    loaded = load_generation(text_bundle)
    assert loaded.items.texts is not None
    assert loaded.items.texts.points is None
    assert "shortlist[text]" in loaded.items.texts.missing
    assert "shortlist[text]" in caplog.text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["Up", None, "An old man\nand his house."], "Up. An old man and his house."),
        ([["Crime", "Drama"], ""], "Crime, Drama"),
        ([None, [], " \x00 "], ""),
        (["\u202eUp\x1b[31m"], "\u202eUp [31m"),
    ],
)
def test_text_of_an_item(values: list[Any], expected: str) -> None:
    assert item_text(values) == expected


def test_cleaning_twice_changes_nothing() -> None:
    text = "".join(map(chr, range(0x300))) + "\u2028\u2029 \u00a0x"
    assert clean_text(clean_text(text)) == clean_text(text)
    assert not any(ord(sign) < 32 or ord(sign) == 127 for sign in clean_text(text))
