"""A tiny sentence model with weights from a seed, as the folder that training would have left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from shortlist_exporters.text.embedder import build_embedder
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel

WORDS = [
    "a",
    "an",
    "and",
    "at",
    "boat",
    "boy",
    "dog",
    "dream",
    "film",
    "funny",
    "ghost",
    "heist",
    "horror",
    "house",
    "ice",
    "in",
    "is",
    "king",
    "lost",
    "love",
    "moon",
    "new",
    "of",
    "old",
    "on",
    "rat",
    "robot",
    "sad",
    "ship",
    "sinks",
    "space",
    "the",
    "toy",
    "train",
    "war",
    "west",
    "with",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "max_position_embeddings": 32,
    "layer_norm_eps": 1e-12,
}


def write_model(folder: Path, *, seed: int = 5, **changes: Any) -> Path:
    """Write `config.json`, `model.safetensors` and `tokenizer.json`; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | changes
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights(config, seed), folder / "model.safetensors")
    tokenizer = Tokenizer(
        WordLevel({word: at for at, word in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # As those of the wild have it: the embedder switches both off.
    tokenizer.enable_padding(length=20)
    tokenizer.enable_truncation(20)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def weights(config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Return the weights of a BERT by name."""
    draw = np.random.default_rng(seed)
    width, wide = config["hidden_size"], config["intermediate_size"]

    def normal(*shape: int, scale: float = 0.5) -> np.ndarray:
        return (draw.normal(size=shape) * scale).astype(np.float32)

    made = {
        "embeddings.word_embeddings.weight": normal(len(SPECIAL) + len(WORDS), width, scale=1.0),
        "embeddings.position_embeddings.weight": normal(
            config["max_position_embeddings"], width, scale=0.1
        ),
        "embeddings.token_type_embeddings.weight": normal(2, width, scale=0.1),
    }

    def norm(name: str) -> None:
        made[f"{name}.weight"] = 1 + normal(width, scale=0.1)
        made[f"{name}.bias"] = normal(width, scale=0.1)

    def dense(name: str, outputs: int, inputs: int) -> None:
        made[f"{name}.weight"] = normal(outputs, inputs)
        made[f"{name}.bias"] = normal(outputs, scale=0.1)

    norm("embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}"
        for part in ("query", "key", "value"):
            dense(f"{prefix}.attention.self.{part}", width, width)
        dense(f"{prefix}.attention.output.dense", width, width)
        norm(f"{prefix}.attention.output.LayerNorm")
        dense(f"{prefix}.intermediate.dense", wide, width)
        dense(f"{prefix}.output.dense", width, wide)
        norm(f"{prefix}.output.LayerNorm")
    return made


def write_embedder(folder: Path, *, seed: int = 5, name: str = "tiny") -> Path:
    """Write an embedder; returns its folder."""
    model = write_model(folder / f"model-{seed}", seed=seed)
    build_embedder(model, folder / f"embedder-{seed}", name=name)
    return folder / f"embedder-{seed}"
