"""What was answered before. `redis_cache.py` keeps it for several servers."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

ENTRY_BYTES = 200
"""About what an entry takes beside its value, in bytes."""


class AnswerCache(Protocol):
    """Keeps bytes for a while. It never fails: what it cannot find or keep is a miss."""

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what is kept under each key; None where nothing is."""

    async def put(self, entries: dict[bytes, bytes]) -> None:
        """Keep values under keys."""

    async def close(self) -> None:
        """Close its connections, if it has any."""


class MemoryCache:
    """Keeps the entries that were used last, up to a bound, in this process."""

    def __init__(
        self, *, bytes_max: int, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin empty.

        Args:
            bytes_max: Most that it takes, in bytes; 0 keeps nothing.
            ttl_s: Age at which an entry is forgotten, in seconds.
            clock: Seconds.
        """
        self._bytes_max = bytes_max
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self.size_bytes = 0

    async def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return what is kept under each key; None where nothing is."""
        return [self._get(key) for key in keys]

    async def put(self, entries: dict[bytes, bytes]) -> None:
        """Keep values under keys; what was not used for longest makes room."""
        for key, value in entries.items():
            self._drop(key)
            size = len(key) + len(value) + ENTRY_BYTES
            if size > self._bytes_max:
                continue
            self._entries[key] = (self._clock() + self._ttl_s, value)
            self.size_bytes += size
            while self.size_bytes > self._bytes_max:
                self._drop(next(iter(self._entries)))

    async def close(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.size_bytes = 0

    def _get(self, key: bytes) -> bytes | None:
        found = self._entries.get(key)
        if found is None:
            return None
        until, value = found
        if self._clock() >= until:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    def _drop(self, key: bytes) -> None:
        if (found := self._entries.pop(key, None)) is not None:
            self.size_bytes -= len(key) + len(found[1]) + ENTRY_BYTES


def cache_key(*parts: Any) -> bytes:
    """Return the key of an answer by all that it depends on, which JSON must be able to say."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()
