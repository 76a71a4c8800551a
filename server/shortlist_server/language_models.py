"""What the configuration says of language models and text embedders."""

from __future__ import annotations

from dataclasses import dataclass

from shortlist_server.config import ServerConfig
from shortlist_server.config_llm import LlmConfig, ServiceConfig, TextEmbedderConfig
from shortlist_server.llm.breaker import BreakerOptions
from shortlist_server.llm.cost import Prices
from shortlist_server.llm.credentials import read_key
from shortlist_server.llm.embedding_service import EmbeddingService
from shortlist_server.llm.guard import GuardOptions
from shortlist_server.llm.guarded_model import GuardedLanguageModel
from shortlist_server.llm.make import (
    CacheOptions,
    ServiceOptions,
    make_language_model,
    make_text_embedder,
    text_space,
)
from shortlist_server.llm.observer import LlmObserver
from shortlist_server.llm.provider import EmbedderOptions, EmbeddingProvider, ModelOptions
from shortlist_server.rpc.access import may_have_models_asked


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModels:
    """What a process calls."""

    llm: GuardedLanguageModel | None = None

    async def close(self) -> None:
        """Cancel what is under way, and close the connections."""
        if self.llm is not None:
            await self.llm.close()


def make_language_models(
    config: ServerConfig, observer: LlmObserver | None = None
) -> LanguageModels:
    """Return the language models that are configured; call it inside the event loop.

    Raises:
        ConfigError: a key cannot be read, or the address of a cache is none.
        MissingExtra: what a provider or a cache needs is not installed.
    """
    if (llm := config.llm) is None:
        return LanguageModels()
    options = service_options("llm", llm, config.workers)
    return LanguageModels(
        llm=make_language_model(
            llm.provider, model_options(llm), options, observer, may_have_models_asked
        )
    )


def embedding_service(config: ServerConfig) -> EmbeddingService | None:
    """Return the text embedder that is configured, which begins with its first call; None where
    there is none.
    """
    if (section := config.text_embedder) is None:
        return None

    def make(observer: LlmObserver | None) -> EmbeddingProvider:
        return make_text_embedder(
            section.provider,
            embedder_options(section),
            service_options("text_embedder", section, config.workers),
            observer,
        )

    return EmbeddingService(
        make,
        identity=f"{section.provider}/{section.model}/{section.dimension}",
        dimension=section.dimension,
        space=text_space(
            section.provider,
            model=section.model,
            query_prefix=section.query_prefix,
            item_prefix=section.item_prefix,
        ),
    )


def model_options(llm: LlmConfig) -> ModelOptions:
    """Return how the section `llm` asks its model.

    Raises:
        ConfigError: the key cannot be read.
    """
    return ModelOptions(
        model=llm.model,
        base_url=llm.base_url,
        key=read_key("llm.key", variable=llm.key_env, file=llm.key_file),
        temperature=None if llm.temperature == "unset" else llm.temperature,
        output_tokens_max=llm.output_tokens_max,
        thinking_tokens=llm.thinking_tokens,
        answer_bytes_max=llm.answer_bytes_max,
        connections_max=llm.connections_max,
    )


def embedder_options(text_embedder: TextEmbedderConfig) -> EmbedderOptions:
    """Return how the section `text_embedder` asks its model.

    Raises:
        ConfigError: the key cannot be read.
    """
    variable, file = text_embedder.key_env, text_embedder.key_file
    return EmbedderOptions(
        model=text_embedder.model,
        dimension=text_embedder.dimension,
        base_url=text_embedder.base_url,
        key=read_key("text_embedder.key", variable=variable, file=file),
        ask_dimension=text_embedder.ask_dimension,
        query_prefix=text_embedder.query_prefix,
        item_prefix=text_embedder.item_prefix,
        text_characters_max=text_embedder.text_characters_max,
        texts_max=text_embedder.texts_max,
        answer_bytes_max=text_embedder.answer_bytes_max,
        connections_max=text_embedder.connections_max,
    )


def service_options(section: str, service: ServiceConfig, workers: int) -> ServiceOptions:
    """Return what a section says of what stands around a provider.

    Args:
        section: Its name.
        service: The section.
        workers: Processes that share its money; 0 for one.

    Raises:
        ConfigError: the password of the cache cannot be read.
    """
    output = service.price_output_million if isinstance(service, LlmConfig) else 0.0
    money = service.money_per_hour
    return ServiceOptions(
        guard=GuardOptions(
            timeout_s=service.timeout_ms / 1e3,
            concurrency_max=service.concurrency_max,
            waiting_max=service.waiting_max,
            retries_max=service.retries_max,
            patience_s=service.breaker_patience_ms / 1e3,
            breaker=BreakerOptions(
                calls=service.breaker_calls,
                calls_min=service.breaker_calls_min,
                failure_share=service.breaker_failure_share,
                open_s=service.breaker_open_ms / 1e3,
            ),
            prices=Prices(input_million=service.price_input_million, output_million=output),
        ),
        cache=CacheOptions(
            bytes_max=service.cache_bytes,
            ttl_s=service.cache_ttl_s,
            redis_url=service.cache_redis_url,
            redis_password=read_key(
                f"{section}.cache_redis_password",
                variable=service.cache_redis_password_env,
                file=service.cache_redis_password_file,
            ),
            redis_timeout_s=service.cache_redis_timeout_ms / 1e3,
        ),
        money_per_hour=None if money is None else money / max(1, workers),
    )
