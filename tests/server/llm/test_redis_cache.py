"""Answers in Redis are shared, and a Redis that is away is a miss."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import PASSWORD, RedisServer
from shortlist_server.errors import ConfigError, MissingExtra
from shortlist_server.llm.answer_cache import cache_key
from shortlist_server.llm.credentials import ApiKey
from shortlist_server.llm.redis_cache import RedisCache


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.remove()


def make_cache(url: str, **options: Any) -> RedisCache:
    given = {"ttl_s": 60.0, "timeout_s": 5.0, "password": ApiKey(PASSWORD)}
    return RedisCache(url, **given | options)


@pytest.fixture
async def cache(server: RedisServer) -> AsyncIterator[RedisCache]:
    cache = make_cache(server.url)
    await cache._client.flushall()
    yield cache
    await cache.close()


async def test_another_server_finds_what_this_one_kept(
    cache: RedisCache, server: RedisServer
) -> None:
    one, two, none = (cache_key(text) for text in ("one", "two", "none"))
    await cache.put({one: b"1", two: b"\x00\xff"})
    other = make_cache(server.url)
    assert await other.get([two, none, one]) == [b"\x00\xff", None, b"1"]
    await other.close()


async def test_entries_are_forgotten(cache: RedisCache, server: RedisServer) -> None:
    key = cache_key("one")
    brief = make_cache(server.url, ttl_s=90.0)
    await brief.put({key: b"1"})
    (name,) = await cache._client.keys()
    assert name.startswith(b"shortlist:llm:1:")
    assert 60_000 < await cache._client.pttl(name) <= 90_000
    await brief.close()


async def test_a_wrong_password_is_a_miss_and_is_not_logged(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make_cache(server.url, password=ApiKey("not-this-one"))
    await cache.put({b"key": b"1"})
    assert await cache.get([b"key"]) == [None]
    assert "llm.cache_redis_url: not available: " in caplog.text
    assert len(caplog.records) == 1, "once a minute at most"
    assert "not-this-one" not in caplog.text
    await cache.close()


async def test_who_is_away_or_silent_is_a_miss() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as silent:
        path = Path(folder) / "silent"
        silent.bind(str(path))
        silent.listen()
        for url in (f"unix://{path}", "unix:///nobody/there", "redis://127.0.0.1:1"):
            cache = make_cache(url, timeout_s=0.1)
            await cache.put({b"key": b"1"})
            assert await cache.get([b"key", b"other"]) == [None, None]
            await cache.close()


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"llm\.cache_redis_url: expected a URL of Redis"):
        make_cache("somewhere")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(MissingExtra, match=r"pip install 'shortlist\[redis\]'"):
        make_cache("redis://127.0.0.1")
