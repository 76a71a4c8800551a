"""The providers of language models and text embedders, by name, set up to ask a stub."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from llm_stub import LlmStub
from shortlist_server.llm.credentials import ApiKey
from shortlist_server.llm.provider import EmbedderOptions, ModelOptions

KEY = "sk-secret-3141592653589793"
CLASSES = {
    "gemini": ("gemini", "GeminiModel", "GeminiEmbedder"),
    "gemini-legacy": ("gemini_legacy", "GeminiLegacyModel", "GeminiLegacyEmbedder"),
    "openai-compatible": (
        "openai_compatible",
        "OpenAiCompatibleModel",
        "OpenAiCompatibleEmbedder",
    ),
}
# google-generativeai is installed in an environment of its own, where the others are not.
TESTED = os.environ.get("SHORTLIST_TEST_PROVIDERS", "gemini openai-compatible").split()


def make_model(name: str, stub: LlmStub, **options: Any) -> Any:
    module, model, _ = CLASSES[name]
    kind = getattr(import_module(f"shortlist_server.llm.{module}"), model)
    given = {"model": "m-1", "base_url": url(name, stub), "key": ApiKey(KEY)}
    return kind(ModelOptions(**given | options))


def make_embedder(name: str, stub: LlmStub, **options: Any) -> Any:
    module, _, embedder = CLASSES[name]
    kind = getattr(import_module(f"shortlist_server.llm.{module}"), embedder)
    given = {"model": "e-1", "base_url": url(name, stub), "key": ApiKey(KEY), "dimension": 16}
    return kind(EmbedderOptions(**given | options))


def url(name: str, stub: LlmStub) -> str:
    return stub.openai_url if name == "openai-compatible" else stub.gemini_url
