from __future__ import annotations

from shortlist_server.conversation.kept import KeptConversations, KeptOptions, new_id


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def kept(**options: float) -> tuple[KeptConversations, Clock]:
    clock = Clock()
    return KeptConversations(KeptOptions(**options), clock), clock  # type: ignore[arg-type]


def test_only_the_owner_finds_a_conversation() -> None:
    conversations, _ = kept()
    conversations.keep("a", "ada", b"state")
    assert conversations.find("a", "ada") == b"state"
    assert conversations.find("a", "ben") is None
    assert conversations.find("a", "") is None
    assert conversations.find("b", "ada") is None


def test_a_conversation_is_forgotten_some_time_after_its_last_turn() -> None:
    conversations, clock = kept(ttl_s=10)
    conversations.keep("a", "ada", b"1")
    clock.now = 9
    conversations.keep("a", "ada", b"2")
    clock.now = 18.9
    assert conversations.find("a", "ada") == b"2"
    clock.now = 19
    assert conversations.find("a", "ada") is None
    assert conversations.size_bytes == 0


def test_those_without_a_turn_for_the_longest_time_make_room() -> None:
    conversations, _ = kept(count_max=2)
    conversations.keep("a", "ada", b"1")
    conversations.keep("b", "ada", b"1")
    conversations.keep("a", "ada", b"2")
    conversations.keep("c", "ada", b"1")
    assert conversations.find("b", "ada") is None
    assert conversations.find("a", "ada") == b"2"
    assert len(conversations) == 2


def test_memory_is_bounded() -> None:
    conversations, _ = kept(bytes_max=100)
    for number in range(10):
        conversations.keep(str(number), "ada", bytes(40))
        assert conversations.size_bytes <= 100
    assert len(conversations) == 2
    conversations.keep("large", "ada", bytes(101))
    assert (len(conversations), conversations.size_bytes) == (0, 0)


def test_ids_are_not_to_be_guessed() -> None:
    assert len({new_id() for _ in range(100)}) == 100
    assert len(new_id()) == 32
