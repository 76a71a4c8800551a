"""Many ids looked up together give what a dict gives."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shortlist_server.catalog import item_rows
from shortlist_server.catalog.item_rows import ItemRows

# Short texts of few characters, so that they are prefixes of one another and meet often; the NUL,
# which pads; and a letter that is not ASCII.
TEXTS = st.text(st.sampled_from("ab0-\0é"), min_size=1, max_size=20)
PLAIN = st.text(st.sampled_from("ab0-"), min_size=1, max_size=20)


def by_dict(known: list[str], asked: list[str]) -> list[int]:
    rows = {text: row for row, text in enumerate(known)}
    return [rows[text] for text in asked if text in rows]


@given(
    st.one_of(st.lists(PLAIN, unique=True, min_size=1), st.lists(TEXTS, unique=True, min_size=1)),
    st.lists(TEXTS),
    st.lists(PLAIN),
    st.randoms(),
)
@settings(max_examples=300, deadline=None)
def test_lookup_of_many_gives_what_a_dict_gives(
    known: list[str], others: list[str], plain: list[str], random: Random
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item_rows, "TOGETHER_MIN", 1)
        rows = ItemRows(known)
        for asked in (known + plain, known + others + known[:3]):
            random.shuffle(asked)
            assert rows.rows(asked).tolist() == by_dict(known, asked)


def test_many_items_are_found_together_and_in_order() -> None:
    known = [f"item-{row}" for row in range(20_000)]
    draw = np.random.default_rng(0)
    asked = [f"item-{row}" for row in draw.integers(0, 40_000, 5_000)]
    rows = ItemRows(known)
    assert rows._together
    assert rows.rows(asked).tolist() == by_dict(known, asked)
    assert rows.row("item-7") == 7
    assert rows.row("item-x") is None


def test_long_ids_and_equal_hashes_are_looked_up_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = [f"{row:0100}" for row in range(600)]
    assert not ItemRows(known)._together
    assert ItemRows(known).rows(known).tolist() == list(range(600))
    monkeypatch.setattr(item_rows, "_hashes", lambda words: np.zeros(len(words), np.uint64))
    known = [str(row) for row in range(600)]
    assert not ItemRows(known)._together
    assert ItemRows(known).rows(known).tolist() == list(range(600))


def test_an_empty_catalogue_knows_nothing() -> None:
    assert ItemRows([]).rows(["a"] * 1_000).tolist() == []
