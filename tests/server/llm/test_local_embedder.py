"""The local embedder: same texts, same points; long texts cut; damaged folders refused by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tiny_embedder
from onnx import helper
from shortlist_server.errors import BundleCorrupt, ShortlistError
from shortlist_server.llm.language_model import LlmTimeout
from shortlist_server.llm.local_embedder import LocalEmbedder

TEXTS = ["a heist in a dream", "the ship sinks", "toy robot", "", "king " * 100]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_embedder.write_embedder(tmp_path_factory.mktemp("embedder"))


@pytest.fixture(scope="module")
def embedder(folder: Path) -> LocalEmbedder:
    return LocalEmbedder(folder)


def embedded(embedder: LocalEmbedder, texts: list[str]) -> np.ndarray:
    return embedder.embed_now(texts, kind="query", deadline_s=60)


def test_points_have_length_1_and_come_in_the_order_of_the_texts(embedder: LocalEmbedder) -> None:
    points = embedded(embedder, TEXTS)
    assert points.shape == (5, embedder.dimension)
    assert points.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-6)
    for text, point in zip(TEXTS, points, strict=True):
        np.testing.assert_allclose(embedded(embedder, [text])[0], point, atol=1e-6)
    assert embedded(embedder, []).shape == (0, embedder.dimension)


async def test_protocol_gives_the_same_points(embedder: LocalEmbedder) -> None:
    points = await embedder.embed(TEXTS, kind="item", deadline_s=60)
    np.testing.assert_array_equal(points, embedded(embedder, TEXTS))


def test_many_threads_get_their_own_points(embedder: LocalEmbedder) -> None:
    expected = {text: embedded(embedder, [text])[0] for text in TEXTS}
    wrong: list[str] = []

    def ask(text: str) -> None:
        found = [embedded(embedder, [text])[0] for _ in range(50)]
        wrong.extend(text for point in found if not np.array_equal(point, expected[text]))

    threads = [threading.Thread(target=ask, args=(text,)) for text in TEXTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("text", ["\ud800", "\x00\x07", "é" * 100_000, "[SEP] [CLS] [PAD]"])
def test_any_text_has_a_point(embedder: LocalEmbedder, text: str) -> None:
    assert np.isfinite(embedded(embedder, [text])).all()


def test_a_time_that_is_over_ends_it(embedder: LocalEmbedder) -> None:
    with pytest.raises(LlmTimeout, match="its time was over after 0 texts"):
        embedder.embed_now(["a"], kind="query", deadline_s=0)


def test_identity_is_of_all_files(folder: Path, embedder: LocalEmbedder, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "copied")
    assert LocalEmbedder(copied).identity == embedder.identity
    changed = json.loads((copied / "embedder.json").read_text()) | {"token_count_max": 16}
    (copied / "embedder.json").write_text(json.dumps(changed))
    assert LocalEmbedder(copied).identity != embedder.identity
    other = tiny_embedder.write_embedder(tmp_path, seed=6)
    assert LocalEmbedder(other).identity != embedder.identity


@pytest.mark.parametrize("name", ["embedder.json", "model.onnx", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other"])
def test_a_damaged_file_is_refused_by_name(
    folder: Path, tmp_path: Path, name: str, damage: str
) -> None:
    copied = shutil.copytree(folder, tmp_path / "copied")
    content = (copied / name).read_bytes()
    if damage == "missing":
        (copied / name).unlink()
    else:
        damaged = {"empty": b"", "cut": content[: len(content) // 2], "other": b'{"a": 1}'}
        (copied / name).write_bytes(damaged[damage])
    with pytest.raises(BundleCorrupt, match=name):
        LocalEmbedder(copied)


def test_a_dimension_that_is_not_the_models_is_refused(folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "copied")
    changed = json.loads((copied / "embedder.json").read_text()) | {"dimension": 12}
    (copied / "embedder.json").write_text(json.dumps(changed))
    with pytest.raises(BundleCorrupt, match=r"model.onnx: expected to give \[texts, 12\]"):
        LocalEmbedder(copied)


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    import tiny_world
    from onnx import TensorProto

    copied = shutil.copytree(folder, tmp_path / "copied")
    tiny_world.save_model(
        copied / "model.onnx",
        [helper.make_node("Identity", ["x"], ["embedding"])],
        {"x": (TensorProto.FLOAT, ["n", 16])},
        {"embedding": ["n", 16]},
        {},
    )
    with pytest.raises(ShortlistError, match=r"inputs: expected .*input_ids"):
        LocalEmbedder(copied)


def test_without_its_extra_one_sentence_names_it(folder: Path) -> None:
    program = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "from pathlib import Path\n"
        "from shortlist_server.llm.local_embedder import LocalEmbedder\n"
        f"try: LocalEmbedder(Path({str(folder)!r}))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("MissingExtra a local text embedder needs")
    assert "shortlist[text]" in ran.stdout
