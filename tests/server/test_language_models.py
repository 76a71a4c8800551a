"""What the configuration says of language models is what is made."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from llm_providers import KEY
from llm_stub import LlmStub, reverse_handles
from prometheus_client import generate_latest
from redis_server import PASSWORD, RedisServer
from shortlist_server.config import ServerConfig, load_config
from shortlist_server.errors import ConfigError
from shortlist_server.language_models import (
    embedder_options,
    embedding_service,
    make_language_models,
    model_options,
    service_options,
)
from shortlist_server.llm.language_model import LlmBudgetExceeded, LlmUnavailable, Message
from shortlist_server.llm.provider import EmbedderOptions, ModelOptions
from shortlist_server.observability.metrics import Metrics

SCHEMA = {
    "type": "object",
    "properties": {"order": {"type": "array", "items": {"type": "string"}}},
    "required": ["order"],
}
PROMPT = (
    Message(role="user", text=json.dumps({"candidates": [{"handle": one} for one in "abc"]})),
)
LLM = {"provider": "openai-compatible", "model": "m"}
EMBEDDER = {"provider": "gemini", "model": "e", "dimension": 8}


@pytest.fixture
def stub() -> Iterator[LlmStub]:
    with LlmStub() as stub:
        stub.rule = reverse_handles("order")
        yield stub


@pytest.fixture
async def made(stub: LlmStub) -> AsyncIterator[Any]:
    """Makes language models of sections, and closes them."""
    all_made = []

    def make(metrics: Metrics | None = None, workers: int = 0, **sections: Any) -> Any:
        urls = {"gemini": stub.gemini_url, "openai-compatible": stub.openai_url}
        for section in sections.values():
            section.setdefault("base_url", urls[section["provider"]])
        config = ServerConfig.model_validate({"bundle": "x", "workers": workers, **sections})
        all_made.append(make_language_models(config, metrics))
        return all_made[-1]

    yield make
    for one in all_made:
        await one.close()


@pytest.mark.parametrize("provider", ["gemini", "openai-compatible"])
async def test_each_provider_is_made_guarded_and_measured(
    made: Any, stub: LlmStub, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    stub.key = KEY
    metrics = Metrics()
    shared = {"provider": provider, "model": "m", "key_env": "MY_KEY", "price_input_million": 2.0}
    models = made(
        metrics,
        llm=shared | {"price_output_million": 8.0},
    )
    for _ in range(2):
        answer = await models.llm.complete(PROMPT, SCHEMA, deadline_s=10)
        assert answer.value == {"order": ["c", "b", "a"]}
    assert answer.cached
    page = generate_latest(metrics.registry).decode()
    model = f'model="{provider}/m"'
    assert f'shortlist_llm_calls_total{{{model},outcome="CACHED"}} 1.0' in page
    assert f"shortlist_llm_cost_total{{{model}}} 0.00048" in page
    assert f'shortlist_llm_breaker_state{{{model},state="closed"}} 1.0' in page
    assert KEY not in page


async def test_nothing_is_made_of_nothing(made: Any) -> None:
    models = made()
    assert models.llm is None
    assert embedding_service(ServerConfig(bundle=Path("x"))) is None


@pytest.mark.parametrize("provider", ["gemini", "openai-compatible"])
def test_the_text_embedder_is_guarded_and_measured(
    stub: LlmStub, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    stub.key = KEY
    url = stub.gemini_url if provider == "gemini" else stub.openai_url
    section = {"provider": provider, "model": "e", "dimension": 8, "key_env": "MY_KEY"}
    sections = {"text_embedder": section | {"base_url": url, "query_prefix": "query: "}}
    service = embedding_service(ServerConfig.model_validate({"bundle": "x", **sections}))
    assert service is not None
    assert (service.identity, service.dimension) == (f"{provider}/e/8", 8)
    assert service.space is not None
    assert (service.space.api, service.space.model) == (provider, "e")
    assert service.space.query_prefix == "query: "
    assert bool(service.space.query_task) == (provider == "gemini")
    metrics = Metrics()
    service.start(metrics)
    for _ in range(2):
        assert service.embed_now(["a"], kind="query", deadline_s=10).shape == (1, 8)
    service.close()
    assert [asked.texts for asked in stub.asked] == [["query: a"]]
    page = generate_latest(metrics.registry).decode()
    assert f'shortlist_llm_calls_total{{model="{provider}/e/8",outcome="CACHED"}} 1.0' in page
    assert KEY not in page


def test_the_text_embedder_is_refused_without_its_key() -> None:
    sections = {"text_embedder": EMBEDDER | {"key_env": "SHORTLIST_NO_SUCH_KEY"}}
    service = embedding_service(ServerConfig.model_validate({"bundle": "x", **sections}))
    assert service is not None
    with pytest.raises(ConfigError, match=r"text_embedder\.key_env.*SHORTLIST_NO_SUCH_KEY"):
        service.start()
    service.close()


async def test_workers_share_the_money(made: Any, stub: LlmStub) -> None:
    section = LLM | {"price_input_million": 1e4, "money_per_hour": 2.0}
    # One call costs 1.2: one process may make two, one of two workers only one.
    for workers, calls in ((1, 2), (2, 1)):
        models = made(workers=workers, llm=dict(section))
        for number in range(calls):
            said = (*PROMPT, Message(role="user", text=str(number)))
            await models.llm.complete(said, SCHEMA, deadline_s=10)
        with pytest.raises(LlmBudgetExceeded):
            await models.llm.complete(PROMPT[:1] * 2, SCHEMA, deadline_s=10)


async def test_servers_share_answers_by_redis(
    made: Any, stub: LlmStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)
    server = RedisServer()
    try:
        section = LLM | {
            "cache_redis_url": server.url,
            "cache_redis_password_env": "REDIS_PASSWORD",
            "cache_redis_timeout_ms": 5_000,
        }
        one, other = made(llm=dict(section)), made(llm=dict(section))
        await one.llm.complete(PROMPT, SCHEMA, deadline_s=10)
        while one.llm._guard._tasks:
            await next(iter(one.llm._guard._tasks))
        answer = await other.llm.complete(PROMPT, SCHEMA, deadline_s=10)
        assert answer.cached
        assert answer.value == {"order": ["c", "b", "a"]}
        warmer = made(llm=section | {"temperature": 0.5})
        assert not (await warmer.llm.complete(PROMPT, SCHEMA, deadline_s=10)).cached
        assert len(stub.asked) == 2
    finally:
        server.remove()


async def test_nobody_is_asked_without_the_key(
    made: Any, stub: LlmStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"llm\.key_env: environment variable MY_KEY"):
        made(llm=LLM | {"key_env": "MY_KEY"})
    # Of the environment nothing else is taken.
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.setenv(name, KEY)
    stub.key = KEY
    for provider in ("gemini", "openai-compatible"):
        models = made(llm=LLM | {"provider": provider})
        with pytest.raises(LlmUnavailable):
            await models.llm.complete(PROMPT, SCHEMA, deadline_s=10)


def test_every_setting_reaches_its_place() -> None:
    changed: dict[str, Any] = {
        "base_url": "http://127.0.0.1:1",
        "timeout_ms": 1_001,
        "concurrency_max": 3,
        "waiting_max": 4,
        "retries_max": 1,
        "breaker_calls": 9,
        "breaker_calls_min": 6,
        "breaker_failure_share": 0.7,
        "breaker_open_ms": 1_002,
        "breaker_patience_ms": 1_003,
        "price_input_million": 0.1,
        "money_per_hour": 0.2,
        "cache_bytes": 11,
        "cache_ttl_s": 12.0,
        "cache_redis_url": "redis://127.0.0.1",
        "cache_redis_timeout_ms": 1_004,
        "connections_max": 13,
        "answer_bytes_max": 2_048,
    }
    of_llm = {"temperature": 0.5, "output_tokens_max": 14, "thinking_tokens": 15}
    of_embedder = {
        "ask_dimension": False,
        "query_prefix": "q",
        "item_prefix": "i",
        "text_characters_max": 16,
        "texts_max": 17,
    }
    config = ServerConfig.model_validate(
        {
            "bundle": "x",
            "llm": LLM | changed | of_llm | {"price_output_million": 0.3},
            "text_embedder": EMBEDDER | changed | of_embedder,
        }
    )
    assert config.llm is not None
    assert config.text_embedder is not None
    shared = {name: changed[name] for name in ("base_url", "connections_max", "answer_bytes_max")}
    assert model_options(config.llm) == ModelOptions(model="m", **shared, **of_llm)
    assert embedder_options(config.text_embedder) == EmbedderOptions(
        model="e", dimension=8, **shared, **of_embedder
    )
    options = service_options("llm", config.llm, workers=4)
    assert asdict(options) == {
        "cache": {
            "bytes_max": 11,
            "redis_password": None,
            "redis_timeout_s": 1.004,
            "redis_url": "redis://127.0.0.1",
            "ttl_s": 12.0,
        },
        "guard": {
            "breaker": {"calls": 9, "calls_min": 6, "failure_share": 0.7, "open_s": 1.002},
            "concurrency_max": 3,
            "patience_s": 1.003,
            "prices": {"input_million": 0.1, "output_million": 0.3},
            "retries_max": 1,
            "timeout_s": 1.001,
            "waiting_max": 4,
        },
        "money_per_hour": 0.05,
    }
    unset = ServerConfig.model_validate({"bundle": "x", "llm": LLM | {"temperature": "unset"}})
    assert unset.llm is not None
    assert model_options(unset.llm).temperature is None


def test_sections_come_from_the_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.toml"
    file.write_text('bundle = "x"\n[llm]\nprovider = "gemini"\nmodel = "one"\nretries_max = 1\n')
    monkeypatch.setenv("SHORTLIST_SERVER_LLM__MODEL", "two")
    config = load_config(file, {})
    assert config.llm is not None
    assert (config.llm.model, config.llm.retries_max) == ("two", 1)
    assert config.text_embedder is None


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"provider": "palm"}, ["llm.provider", "server.toml", "'gemini'"]),
        ({"modle": "x"}, ["llm.modle", "server.toml"]),
        ({"api_key": KEY}, ["llm.api_key", "server.toml"]),
        ({"temperature": -1.0}, ["llm.temperature", "from 0 to 10"]),
        ({"base_url": "ftp://x"}, ["llm.base_url", "http://"]),
        ({"base_url": "nowhere"}, ["llm.base_url", "a URL like"]),
        ({"base_url": f"http://me:{KEY}@host"}, ["llm.base_url", "without a password"]),
        (
            {"cache_redis_url": f"redis://:{KEY}@host"},
            ["llm.cache_redis_url", "without a password"],
        ),
        ({"breaker_calls": 3}, ["breaker_calls_min", "at most breaker_calls (3), got 5"]),
        ({"money_per_hour": -1}, ["llm.money_per_hour"]),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_place(
    section: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "server.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in (LLM | section).items()]
    file.write_text("\n".join(['bundle = "x"', "[llm]", *lines]))
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    for word in words:
        assert word in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_missing_value_says_where_it_can_be_set(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('bundle = "x"\n[llm]\nprovider = "gemini"\n')
    with pytest.raises(ConfigError, match=r"SHORTLIST_SERVER_LLM__MODEL or in \[llm\] of"):
        load_config(file, {})
