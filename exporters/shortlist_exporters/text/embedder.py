"""Makes an embedder of a sentence model's folder: the files that the server's local embedder
takes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
from shortlist_server.errors import BundleError
from shortlist_server.llm.local_embedder import (
    MODEL,
    TOKENIZER,
    Description,
    LocalEmbedder,
    write_description,
)

from shortlist_exporters.errors import ConversionError
from shortlist_exporters.progress import step
from shortlist_exporters.text.bert import build_model, read_config, read_weights


def build_embedder(
    folder: Path,
    out: Path,
    *,
    name: str | None = None,
    token_count_max: int | None = None,
    int8: bool = False,
) -> str:
    """Make an embedder of a model folder; returns the embedder's identity.

    Args:
        folder: A BERT with mean pooling: `config.json`, `model.safetensors`, `tokenizer.json`, as
            sentence-transformers writes it.
        out: The folder that will be the embedder; made, and must not be there.
        name: Its name; that of the folder's model where None.
        token_count_max: Tokens of a text; what the folder says where None.
        int8: Whether its dense layers multiply integers of 8 bits: faster, and somewhat other
            points.

    Raises:
        ConversionError: the folder is not one of such a model, or `out` is there.
        BundleError: what came of it cannot be loaded; nothing is left at `out`.
        MissingExtra: safetensors or tokenizers is not installed.
    """
    if out.exists():
        raise ConversionError(f"{out}: already exists; name another folder")
    config = read_config(folder)
    if not (folder / TOKENIZER).is_file():
        raise ConversionError(f"{folder / TOKENIZER}: expected a tokenizer, got none")
    tokens = token_count_max or _token_count_max(folder, config.position_count)
    if not 3 <= tokens <= config.position_count:
        raise ConversionError(
            f"{folder}: expected texts of 3..{config.position_count} tokens, the positions of the "
            f"model, got {tokens}"
        )
    with step("build the graph"):
        model = build_model(config, read_weights(folder), int8=int8)
    temporary = out.parent / f".{out.name}.writing"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        onnx.save(model, temporary / MODEL)
        shutil.copyfile(folder / TOKENIZER, temporary / TOKENIZER)
        description = {
            "format_version": 1,
            "name": name or folder.resolve().name,
            "dimension": config.dimension,
            "token_count_max": tokens,
            "alone": int8,
        }
        write_description(temporary, Description.model_validate(description))
        with step("load it"):
            identity = LocalEmbedder(temporary).identity
        temporary.rename(out)
    except (BundleError, ValueError) as error:
        raise ConversionError(f"{folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return identity


def _token_count_max(folder: Path, positions: int) -> int:
    """Return how many tokens of a text the model is meant to read."""
    path = folder / "sentence_bert_config.json"
    if not path.is_file():
        return positions
    try:
        document: Any = json.loads(path.read_bytes())
        return int(document["max_seq_length"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConversionError(f"{path}: expected max_seq_length: {error!r}") from error
