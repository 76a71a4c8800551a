"""Text embeddings in a bundle: of which texts, begun again after a kill, refused by name."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import text_world
import tiny_embedder
import tiny_world
from shortlist_exporters.cli import main
from shortlist_exporters.errors import DataError, SpecError
from shortlist_exporters.export import verify_bundle
from shortlist_exporters.inspection import describe
from shortlist_exporters.text import items
from shortlist_exporters.text.embed import embed_texts
from shortlist_server.bundle.reader import open_bundle
from shortlist_server.errors import BundleError
from shortlist_server.llm.local_embedder import LocalEmbedder


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_embedder.write_embedder(tmp_path_factory.mktemp("embedder"))


def test_each_item_with_a_text_has_the_point_of_its_text(text_bundle: Path) -> None:
    bundle = open_bundle(text_bundle)
    section = bundle.manifest.texts
    assert section is not None
    assert bundle.texts is not None
    plots = text_world.plots()
    ids = [bundle.item_ids[row] for row in bundle.texts.rows]
    assert ids == list(plots)
    loaded = LocalEmbedder(bundle.path("texts/embedder"))
    assert section.embedder.identity == loaded.identity
    expected = loaded.embed_now([plots[item_id] for item_id in ids], kind="item", deadline_s=60)
    np.testing.assert_allclose(bundle.texts.embeddings, expected, atol=1e-6)


def test_what_else_the_bundle_has_is_as_it_was(text_bundle: Path, tiny_bundle: Path) -> None:
    with_texts, without = open_bundle(text_bundle).manifest, open_bundle(tiny_bundle).manifest
    kept = {name: file for name, file in with_texts.files.items() if not name.startswith("texts/")}
    changed = {name for name, file in kept.items() if without.files[name] != file}
    assert not changed
    assert set(kept) == set(without.files)
    verify_bundle(text_bundle)


def test_texts_are_made_of_attributes_in_their_order(
    tiny_bundle: Path, embedder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "texts.csv"
    file.write_text("id,plot\ni1,the ship\tsinks\n")
    manifest = embed_texts(
        tiny_bundle,
        tmp_path / "bundle",
        attributes=["title", "plot", "genres"],
        embedder=embedder,
        texts=file,
    )
    bundle = open_bundle(tmp_path / "bundle")
    assert manifest.version == "1-text"
    assert bundle.texts is not None
    assert len(bundle.texts.rows) == tiny_world.ITEM_COUNT
    genres: Any = bundle.item_columns["genres"][1]
    text = ". ".join(["Film 1 é", "the ship sinks", *([", ".join(genres)] if genres else [])])
    expected = LocalEmbedder(embedder).embed_now([text], kind="item", deadline_s=60)[0]
    np.testing.assert_allclose(bundle.texts.embeddings[1], expected, atol=1e-6)
    assert describe(tmp_path / "bundle")["texts"]["attributes"] == ["title", "plot", "genres"]


def test_a_bundle_that_has_texts_gets_others_in_place(
    text_bundle: Path, embedder: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        embed_texts(
            text_bundle if not (tmp_path / "bundle").exists() else tmp_path / "bundle",
            tmp_path / "bundle",
            attributes=["title"],
            embedder=embedder,
            replace=True,
        )
    verify_bundle(tmp_path / "bundle")
    texts = open_bundle(tmp_path / "bundle").texts
    assert texts is not None
    assert len(texts.rows) == tiny_world.ITEM_COUNT


def test_after_a_kill_what_was_embedded_is_not_embedded_again(
    tiny_bundle: Path, embedder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    # Killed as it embeds the third chunk, the process has kept two.
    program = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from shortlist_exporters.text import embed, items\n"
        "from shortlist_server.llm.local_embedder import LocalEmbedder\n"
        "items.CHUNK = 20\n"
        "class Dying(LocalEmbedder):\n"
        "    left = 2\n"
        "    def embed_now(self, texts, **options):\n"
        "        if len(texts) == 20:\n"
        "            if not self.left:\n"
        "                os.kill(os.getpid(), signal.SIGKILL)\n"
        "            self.left -= 1\n"
        "        return super().embed_now(texts, **options)\n"
        "items.LocalEmbedder = Dying\n"
        f"embed.embed_texts(Path({str(tiny_bundle)!r}), Path({str(out)!r}), attributes=['title'],\n"
        f"                  embedder=Path({str(embedder)!r}))\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not out.exists()
    assert len(list((tmp_path / ".bundle.embeddings").glob("*.npy"))) == 2
    embedded: list[int] = []

    class Counting(LocalEmbedder):
        def embed_now(self, texts: Any, **options: Any) -> Any:
            embedded.append(len(texts))
            return super().embed_now(texts, **options)

    monkeypatch.setattr(items, "CHUNK", 20)
    monkeypatch.setattr(items, "LocalEmbedder", Counting)
    embed_texts(tiny_bundle, out, attributes=["title"], embedder=embedder)
    assert embedded.count(20) == 1  # the probe of the loading embeds two
    embed_texts(tiny_bundle, tmp_path / "whole", attributes=["title"], embedder=embedder)
    again, whole = open_bundle(out).texts, open_bundle(tmp_path / "whole").texts
    assert again is not None
    assert whole is not None
    np.testing.assert_array_equal(again.embeddings, whole.embeddings)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        (["plot"], r"expected columns of texts, some of \['title', 'genres'\], got 'plot'"),
        (["title", "year"], "got 'year', which is int64"),
    ],
)
def test_attributes_that_hold_no_text_are_refused(
    tiny_bundle: Path, embedder: Path, tmp_path: Path, attributes: list[str], problem: str
) -> None:
    with pytest.raises(SpecError, match=problem):
        embed_texts(tiny_bundle, tmp_path / "out", attributes=attributes, embedder=embedder)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "line 1: expected a column `id` and others"),
        (b"name,plot\n", "line 1: expected a column `id` and others"),
        (b"id,plot,plot\n", "each once"),
        (b"id,plot\ni1\n", "line 2: expected 2 values"),
        (b"id,plot\ni1,a,b\n", "line 2: expected 2 values"),
        (b"id,plot\ni1,\xff\n", "expected a CSV file in UTF-8"),
        (b'id,plot\ni1,"a', "expected a CSV file in UTF-8"),
    ],
)
def test_a_file_of_texts_that_is_none_is_refused(
    tiny_bundle: Path, embedder: Path, tmp_path: Path, content: bytes, problem: str
) -> None:
    file = tmp_path / "texts.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=problem):
        embed_texts(
            tiny_bundle, tmp_path / "out", attributes=["plot"], embedder=embedder, texts=file
        )


def test_items_of_which_none_has_a_text_are_refused(
    tiny_bundle: Path, embedder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "texts.csv"
    file.write_text("id,plot\nnobody,ship\ni1,  \n")
    with pytest.raises(SpecError, match=r"expected items with a text, got none in \['plot'\]"):
        embed_texts(
            tiny_bundle, tmp_path / "out", attributes=["plot"], embedder=embedder, texts=file
        )


def test_command(
    tiny_bundle: Path, embedder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plots = text_world.write_plots(tmp_path / "plots.csv")
    arguments = ["embed-text", str(tiny_bundle), "--text", "title", "plot", "--texts", str(plots)]
    arguments += ["--embedder", str(embedder), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--version", "7"]) == 0
    assert "bundle tiny 7" in capsys.readouterr().err
    assert main(arguments) == 1
    assert "already exists" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert "60 items by title, plot, 16 dimensions, local/tiny@" in " ".join(
        capsys.readouterr().out.split()
    )


def test_an_embedder_that_is_none_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"embedder\.json"):
        embed_texts(tiny_bundle, tmp_path / "out", attributes=["title"], embedder=tmp_path)
