"""The cache in memory keeps what was used last, within its bounds."""

from __future__ import annotations

import pytest
from shortlist_server.llm.answer_cache import ENTRY_BYTES, MemoryCache, cache_key

KEY_BYTES = 1
ENTRY = ENTRY_BYTES + KEY_BYTES + 4


async def test_entries_are_forgotten_when_they_are_old() -> None:
    now = [0.0]
    cache = MemoryCache(bytes_max=10 * ENTRY, ttl_s=5, clock=lambda: now[0])
    await cache.put({b"a": b"1111"})
    now[0] = 4.9
    assert await cache.get([b"a"]) == [b"1111"]
    now[0] = 5.0
    assert await cache.get([b"a"]) == [None]
    assert cache.size_bytes == 0


async def test_what_was_not_used_for_longest_makes_room() -> None:
    cache = MemoryCache(bytes_max=2 * ENTRY, ttl_s=5)
    await cache.put({b"a": b"1111", b"b": b"2222"})
    await cache.get([b"a"])
    await cache.put({b"c": b"3333"})
    assert await cache.get([b"a", b"b", b"c"]) == [b"1111", None, b"3333"]
    assert cache.size_bytes == 2 * ENTRY


async def test_what_is_too_large_is_not_kept_and_replaces_what_was() -> None:
    cache = MemoryCache(bytes_max=ENTRY, ttl_s=5)
    await cache.put({b"a": b"1111"})
    await cache.put({b"a": b"22222"})
    assert await cache.get([b"a"]) == [None]
    assert cache.size_bytes == 0
    await cache.put({b"a": b"1111"})
    await cache.put({b"a": b"22"})
    assert await cache.get([b"a"]) == [b"22"]
    assert cache.size_bytes == ENTRY - 2
    await cache.close()
    assert cache.size_bytes == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [(("ab", "c"), ("a", "bc")), (("a",), (["a"],)), (({"a": 1},), ({"a": 2},)), ((), ("",))],
)
def test_keys_of_different_things_differ(one: tuple[object], other: tuple[object]) -> None:
    assert cache_key(*one) != cache_key(*other)
    assert cache_key(*one) == cache_key(*one)


def test_the_order_of_a_schemas_names_is_no_difference() -> None:
    assert cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1})
