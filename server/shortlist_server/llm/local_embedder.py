"""A sentence model that runs in this process: a tokenizer, and an ONNX graph from tokens to points
of unit length. The only importer of tokenizers, which is an optional extra.

An embedder is a folder: `embedder.json`, `tokenizer.json` and `model.onnx`, as `shortlist-export
build-embedder` writes it. Texts are data here: nothing that they say is followed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shortlist_server.bundle.sections import EMBEDDER_FILES
from shortlist_server.errors import BundleCorrupt, MissingExtra
from shortlist_server.funnel.arrays import Floats
from shortlist_server.llm.language_model import LlmInvalidOutput, LlmTimeout
from shortlist_server.runtime.onnx_session import GraphSession

DESCRIPTION, MODEL, TOKENIZER = EMBEDDER_FILES
INPUTS = dict.fromkeys(("input_ids", "attention_mask"), ("int64", 2))
OUTPUT = "embedding"
TOGETHER = 8
"""Texts in one call of the model: more of them would be no faster on one core."""
CHARACTERS_PER_TOKEN = 32
"""A longer text is cut before it becomes tokens: so many characters for each that the model takes.
"""


class Description(BaseModel):
    """What `embedder.json` says."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format_version: Literal[1]
    name: Annotated[
        str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.-]+$")
    ]
    dimension: Annotated[int, Field(ge=1, le=65536)]
    token_count_max: Annotated[int, Field(ge=3, le=8192)]
    """Tokens of a text, with those that the tokenizer adds; the rest of it is cut off."""
    alone: bool = False
    """Whether each text is a run of the graph by itself, since its point would depend on the others
    of the run.
    """


class LocalEmbedder:
    """Embeds texts in the thread that asks; implements `language_model.TextEmbedder`.

    Safe to call from several threads at once.
    """

    waits = False

    def __init__(self, folder: Path) -> None:
        """Load an embedder.

        Raises:
            BundleCorrupt: a file is missing, damaged, or not what `embedder.json` says.
            MissingExtra: the package `tokenizers` is not installed.
        """
        tokenizers = _tokenizers()
        self._description = read_description(folder)
        self.dimension = self._description.dimension
        self.identity = identity_of(folder)
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
            self._tokenizer.enable_truncation(self._description.token_count_max)
            self._tokenizer.no_padding()
        except Exception as error:  # it raises bare Exception
            raise BundleCorrupt(f"{folder / TOKENIZER}: cannot be loaded: {error}") from error
        self._session = GraphSession(folder / MODEL, INPUTS, {OUTPUT: ("float32", 2)})
        self._probe(folder)

    async def embed(
        self, texts: Sequence[str], *, kind: Literal["query", "item"], deadline_s: float
    ) -> Floats:
        """Return a point at unit length for each text; see `language_model.TextEmbedder`."""
        return await asyncio.to_thread(self.embed_now, texts, kind=kind, deadline_s=deadline_s)

    def embed_now(
        self,
        texts: Sequence[str],
        *,
        kind: Literal["query", "item"],
        deadline_s: float,
    ) -> Floats:
        """Return a point at unit length for each text, float32 [n, dimension], computed in this
        thread.

        Args:
            texts: The texts; what is longer than the model takes is cut.
            kind: Of no effect: this model embeds queries and items alike.
            deadline_s: Time from now until the answer is no use any more, in seconds; looked at
                before each few texts.

        Raises:
            LlmTimeout: it was over.
            LlmInvalidOutput: the model gave numbers that make no direction.
        """
        end = time.monotonic() + deadline_s
        tokens = [self._tokens(text) for text in texts]
        points = np.empty((len(texts), self.dimension), np.float32)
        # Those of like length together: what is padded is computed, too.
        order = sorted(range(len(texts)), key=lambda at: len(tokens[at]))
        count = 1 if self._description.alone else TOGETHER
        for start in range(0, len(order), count):
            if time.monotonic() >= end:
                raise LlmTimeout(f"{self.identity}: its time was over after {start} texts")
            together = order[start : start + count]
            points[together] = self._run([tokens[at] for at in together])
        return points

    def _tokens(self, text: str) -> list[int]:
        cut = text[: CHARACTERS_PER_TOKEN * self._description.token_count_max]
        # What cannot be written as UTF-8, a half of a pair of surrogates, the tokenizer refuses.
        ids: list[int] = self._tokenizer.encode(cut.encode("utf-8", "replace").decode()).ids
        return ids

    def _run(self, tokens: Sequence[Sequence[int]]) -> Floats:
        width = max(map(len, tokens))
        ids = np.zeros((len(tokens), width), np.int64)
        mask = np.zeros((len(tokens), width), np.int64)
        for row, of_text in enumerate(tokens):
            ids[row, : len(of_text)] = of_text
            mask[row, : len(of_text)] = 1
        points: Floats = self._session.run({"input_ids": ids, "attention_mask": mask})[OUTPUT]
        if not np.allclose(np.linalg.norm(points, axis=1), 1, atol=1e-3):  # NaN is not close
            raise LlmInvalidOutput(f"{self.identity}: expected points of length 1, got others")
        return points

    def _probe(self, folder: Path) -> None:
        """Run it once: two texts of different lengths, and the longest that it takes."""
        longest = "a " * self._description.token_count_max
        try:
            points = self.embed_now(["a", longest], kind="item", deadline_s=3_600)
        except LlmInvalidOutput as error:
            raise BundleCorrupt(f"{folder / MODEL}: {error}") from error
        except Exception as error:  # onnxruntime's exceptions share no base class; numpy's shapes
            raise BundleCorrupt(
                f"{folder / MODEL}: expected to give [texts, {self.dimension}] for tokens of "
                f"{TOKENIZER}: {error}"
            ) from error
        assert points.shape == (2, self.dimension)


def read_description(folder: Path) -> Description:
    """Return what an embedder's folder says of itself.

    Raises:
        BundleCorrupt: a file is missing, or it says something that an embedder is not.
    """
    for name in EMBEDDER_FILES:
        if not (folder / name).is_file():
            raise BundleCorrupt(
                f"{folder / name}: expected a file of an embedder, as `shortlist-export "
                "build-embedder` writes them, got none"
            )
    path = folder / DESCRIPTION
    try:
        return Description.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise BundleCorrupt(f"{path}: {where}: {problem['msg']}") from error


def write_description(folder: Path, description: Description) -> None:
    """Write `embedder.json`."""
    # What is as it always was is not written: the identity of an embedder is made of its files.
    text = json.dumps(description.model_dump(exclude_defaults=True), indent=1, sort_keys=True)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def identity_of(folder: Path) -> str:
    """Return the identity of an embedder: its name, and what its files are."""
    digest = hashlib.sha256()
    for name in EMBEDDER_FILES:
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"local/{read_description(folder).name}@{digest.hexdigest()[:16]}"


def _tokenizers() -> Any:
    # Threads of its own would take cores from requests, and do not survive a fork; read at its
    # first use.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        import tokenizers
    except ImportError as error:
        raise MissingExtra(feature="a local text embedder", extra="text") from error
    return tokenizers
