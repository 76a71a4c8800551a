"""What every store of conversations keeps to, whatever it is kept in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from shortlist_server.conversation.kept import (
    KeptConversations,
    KeptOptions,
    MemoryConversations,
    new_id,
)
from shortlist_server.conversation.kept_file import FileConversations


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


Kept: TypeAlias = Callable[..., tuple[KeptConversations, Clock]]


@pytest.fixture(params=["memory", "file"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    def make(**given: float) -> tuple[KeptConversations, Clock]:
        clock, options = Clock(), KeptOptions(**given)  # type: ignore[arg-type]
        if request.param == "memory":
            return MemoryConversations(options, clock), clock
        opened = FileConversations(tmp_path, options, clock)
        request.addfinalizer(opened.close)
        return opened, clock

    return make


async def test_only_the_owner_finds_a_conversation(kept: Kept) -> None:
    conversations, _ = kept()
    await conversations.keep("a", "ada", b"state")
    assert await conversations.find("a", "ada") == b"state"
    assert await conversations.find("a", "ben") is None
    assert await conversations.find("a", "") is None
    assert await conversations.find("b", "ada") is None


async def test_a_conversation_is_forgotten_some_time_after_its_last_turn(kept: Kept) -> None:
    conversations, clock = kept(ttl_s=10)
    await conversations.keep("a", "ada", b"1")
    clock.now = 9
    await conversations.keep("a", "ada", b"2")
    clock.now = 18.9
    assert await conversations.find("a", "ada") == b"2"
    clock.now = 19
    assert await conversations.find("a", "ada") is None
    await conversations.keep("b", "ada", b"")
    assert (len(conversations), conversations.size_bytes) == (1, 0)


async def test_those_without_a_turn_for_the_longest_time_make_room(kept: Kept) -> None:
    conversations, clock = kept(count_max=2)
    for number, name in enumerate("abac"):
        clock.now = number
        await conversations.keep(name, "ada", str(number).encode())
    assert await conversations.find("b", "ada") is None
    assert await conversations.find("a", "ada") == b"2"
    assert len(conversations) == 2


async def test_what_they_take_is_bounded(kept: Kept) -> None:
    conversations, _ = kept(bytes_max=100)
    for number in range(10):
        await conversations.keep(str(number), "ada", bytes(40))
        assert conversations.size_bytes <= 100
    assert len(conversations) == 2
    await conversations.keep("large", "ada", bytes(101))
    assert (len(conversations), conversations.size_bytes) == (0, 0)


def test_ids_are_not_to_be_guessed() -> None:
    assert len({new_id() for _ in range(100)}) == 100
    assert len(new_id()) == 32
