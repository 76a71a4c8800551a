"""Answers that several servers share, in Redis. The only importer of redis, which is an optional
extra.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from shortlist_server.errors import ConfigError, MissingExtra
from shortlist_server.llm.credentials import ApiKey

logger = logging.getLogger(__name__)

NAMESPACE = b"shortlist:llm:1:"
WARNING_S = 60.0
"""Least time between two warnings."""


class RedisCache:
    """Keeps entries in Redis, which bounds their memory (`maxmemory`), not this.

    When Redis is slow or away, everything is a miss.
    """

    def __init__(
        self, url: str, *, ttl_s: float, timeout_s: float, password: ApiKey | None = None
    ) -> None:
        """Connect when first asked.

        Args:
            url: redis://host:port/database, or unix:///path.
            ttl_s: Age at which an entry is forgotten, in seconds.
            timeout_s: Longest that Redis may take, in seconds.
            password: Of the server.

        Raises:
            ConfigError: the URL is none of Redis.
            MissingExtra: redis is not installed.
        """
        try:
            import redis.asyncio
        except ImportError as error:
            raise MissingExtra(feature="a cache in Redis", extra="redis") from error
        self._error: type[Exception] = redis.RedisError
        self._ttl_ms = max(1, round(ttl_s * 1e3))
        self._timeout_s = timeout_s
        self._warned_at = -WARNING_S
        try:
            self._client: Any = redis.asyncio.Redis.from_url(
                url, password=None if password is None else password.reveal(), protocol=2
            )
        except ValueError as error:
            raise ConfigError(f"llm.cache_redis_url: expected a URL of Redis: {error}") from error

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what is kept under each key; None where nothing is, or Redis does not say."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return list(
                    await self._client.mget([NAMESPACE + key.hex().encode() for key in keys])
                )
        except (self._error, OSError, TimeoutError) as error:
            self._warn(error)
            return [None] * len(keys)

    async def put(self, entries: dict[bytes, bytes]) -> None:
        """Keep values under keys, if Redis takes them."""
        try:
            async with asyncio.timeout(self._timeout_s), self._client.pipeline(False) as pipeline:
                for key, value in entries.items():
                    pipeline.set(NAMESPACE + key.hex().encode(), value, px=self._ttl_ms)
                await pipeline.execute()
        except (self._error, OSError, TimeoutError) as error:
            self._warn(error)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _warn(self, error: Exception) -> None:
        if (now := time.monotonic()) - self._warned_at >= WARNING_S:
            self._warned_at = now
            # Its message may hold the address, and what it was asked.
            logger.warning("llm.cache_redis_url: not available: %s", type(error).__name__)
