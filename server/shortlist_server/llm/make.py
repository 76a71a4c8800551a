"""Makes a guarded language model, or text embedder, of what is wanted of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from shortlist_server.bundle.sections import ServiceEmbedder
from shortlist_server.llm.answer_cache import AnswerCache, MemoryCache
from shortlist_server.llm.cost import HourBudget
from shortlist_server.llm.credentials import ApiKey
from shortlist_server.llm.gemini import TASKS
from shortlist_server.llm.guard import GuardOptions
from shortlist_server.llm.guarded_embedder import GuardedTextEmbedder
from shortlist_server.llm.guarded_model import GuardedLanguageModel
from shortlist_server.llm.observer import LlmObserver
from shortlist_server.llm.own_loop import OwnLoopProvider
from shortlist_server.llm.provider import (
    EmbedderOptions,
    EmbeddingProvider,
    ModelOptions,
    Provider,
)

ProviderName = Literal["gemini", "gemini-legacy", "openai-compatible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """Where answers are kept."""

    bytes_max: int = 64 << 20
    """Of memory; none is taken where there is a Redis."""
    ttl_s: float = 3_600.0
    redis_url: str | None = None
    redis_password: ApiKey | None = None
    redis_timeout_s: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """What stands around a provider."""

    guard: GuardOptions
    cache: CacheOptions
    money_per_hour: float | None = None
    """Of this process; None for no bound."""


def make_language_model(
    provider: ProviderName,
    model: ModelOptions,
    options: ServiceOptions,
    observer: LlmObserver | None = None,
    may_ask: Callable[[], bool] = lambda: True,
) -> GuardedLanguageModel:
    """Return a guarded language model; call it inside the event loop.

    Args:
        provider: Whose API it speaks.
        model: How it is asked.
        options: What stands around it.
        observer: Counts calls; None where nobody asks.
        may_ask: Whether the caller of the current task may have it asked.

    Raises:
        ConfigError: the address of the cache is none.
        MissingExtra: what the provider or the cache needs is not installed.
    """
    return GuardedLanguageModel(
        OwnLoopProvider(lambda: make_provider(provider, model)),
        options.guard,
        cache=_cache(options.cache),
        budget=HourBudget(options.money_per_hour),
        observer=observer,
        settings=_settings(model),
        may_ask=may_ask,
    )


def make_text_embedder(
    provider: ProviderName,
    model: EmbedderOptions,
    options: ServiceOptions,
    observer: LlmObserver | None = None,
) -> GuardedTextEmbedder:
    """Return a guarded text embedder; call it inside the event loop.

    Raises:
        ConfigError: the address of the cache is none.
        MissingExtra: what the provider or the cache needs is not installed.
    """
    return GuardedTextEmbedder(
        make_embedding_provider(provider, model),
        options.guard,
        cache=_cache(options.cache),
        budget=HourBudget(options.money_per_hour),
        observer=observer,
        settings=_settings(model),
    )


def text_space(
    provider: ProviderName, *, model: str, query_prefix: str, item_prefix: str
) -> ServiceEmbedder:
    """Return what the points of an embedder depend on, beside their dimension."""
    gemini = provider != "openai-compatible"
    return ServiceEmbedder(
        # The same service by one SDK or the other.
        api="gemini" if gemini else "openai-compatible",
        model=model,
        query_task=TASKS["query"] if gemini else "",
        item_task=TASKS["item"] if gemini else "",
        query_prefix=query_prefix,
        item_prefix=item_prefix,
    )


def make_provider(provider: ProviderName, options: ModelOptions) -> Provider:
    """Return a language model with nothing around it; call it inside the event loop.

    Raises:
        MissingExtra: what the provider needs is not installed.
    """
    # Each is imported where it is wanted: they are extras.
    if provider == "gemini":
        from shortlist_server.llm.gemini import GeminiModel

        return GeminiModel(options)
    if provider == "gemini-legacy":
        from shortlist_server.llm.gemini_legacy import GeminiLegacyModel

        return GeminiLegacyModel(options)
    from shortlist_server.llm.openai_compatible import OpenAiCompatibleModel

    return OpenAiCompatibleModel(options)


def make_embedding_provider(provider: ProviderName, options: EmbedderOptions) -> EmbeddingProvider:
    """Return a text embedder with nothing around it; call it inside the event loop.

    Raises:
        MissingExtra: what the provider needs is not installed.
    """
    if provider == "gemini":
        from shortlist_server.llm.gemini import GeminiEmbedder

        return GeminiEmbedder(options)
    if provider == "gemini-legacy":
        from shortlist_server.llm.gemini_legacy import GeminiLegacyEmbedder

        return GeminiLegacyEmbedder(options)
    from shortlist_server.llm.openai_compatible import OpenAiCompatibleEmbedder

    return OpenAiCompatibleEmbedder(options)


def _cache(options: CacheOptions) -> AnswerCache:
    if options.redis_url is None:
        return MemoryCache(bytes_max=options.bytes_max, ttl_s=options.ttl_s)
    from shortlist_server.llm.redis_cache import RedisCache

    return RedisCache(
        options.redis_url,
        ttl_s=options.ttl_s,
        timeout_s=options.redis_timeout_s,
        password=options.redis_password,
    )


def _settings(options: ModelOptions | EmbedderOptions) -> str:
    """Return what answers depend on, without the key: they are kept under it."""
    return json.dumps(asdict(replace(options, key=None)), sort_keys=True)
