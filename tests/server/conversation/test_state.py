from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from shortlist_server.conversation.state import (
    LIKED_MAX,
    REJECTED_MAX,
    SHOWN_MAX,
    TURNS_MAX,
    AnsweredTurn,
    Conversation,
)

IDS = st.lists(st.integers(0, 2_000).map(str), max_size=20, unique=True)


@given(st.lists(st.tuples(IDS, IDS, IDS), max_size=60))
def test_a_conversation_stays_bounded_and_keeps_the_newest(
    turns: list[tuple[list[str], list[str], list[str]]],
) -> None:
    conversation = Conversation()
    for shown, liked, rejected in turns:
        conversation = conversation.after(
            AnsweredTurn(text="t", reply="r", item_ids=tuple(shown)),
            taste="t",
            conditions=(),
            liked=[item for item in liked if item not in rejected],
            rejected=rejected,
        )
        assert conversation.last_item_ids == tuple(shown)
        assert set(shown) <= set(conversation.shown)
        assert set(rejected) <= set(conversation.rejected)
        assert not set(conversation.liked) & set(conversation.rejected)
    for ids, most in (
        (conversation.shown, SHOWN_MAX),
        (conversation.liked, LIKED_MAX),
        (conversation.rejected, REJECTED_MAX),
    ):
        assert len(set(ids)) == len(ids) <= most
    assert len(conversation.turns) == min(len(turns), TURNS_MAX)
