"""The table printer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortlist_client.cli.table import Column, cut, printable, table_lines, width

LETTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(printable)


def test_text_stands_left_and_numbers_right() -> None:
    columns = [
        Column(title="id", cells=["5", "1234"]),
        Column(title="score", cells=["4.5", "10.25"], numeric=True),
        Column(title="end", cells=["", "x"]),
    ]
    assert table_lines(columns, width_max=None) == [
        "id    score  end",
        "5       4.5",
        "1234  10.25  x",
    ]


def test_wide_letters_take_two_columns_and_accents_none() -> None:
    columns = [
        Column(title="t", cells=["七人の侍", "Amélie", "x"]),
        Column(title="n", cells=["1", "2", "3"], numeric=True),
    ]
    assert table_lines(columns, width_max=None) == [
        "t         n",
        "七人の侍  1",
        "Amélie    2",
        "x         3",
    ]
    assert width("七人の侍") == 8
    assert width("Ame\u0301lie") == 6


def test_the_widest_text_gives_way_and_numbers_stay_whole() -> None:
    columns = [
        Column(title="id", cells=["1"]),
        Column(title="title", cells=["a very long title"]),
        Column(title="genre", cells=["documentary"]),
        Column(title="score", cells=["1234567.1234"], numeric=True),
    ]
    lines = table_lines(columns, width_max=40)
    assert lines[1] == "1   a very lo…  documenta…  1234567.1234"
    assert max(map(width, lines)) <= 40


def test_a_line_that_cannot_shrink_enough_is_cut_at_its_end() -> None:
    columns = [Column(title=f"n{i}", cells=["123456789"], numeric=True) for i in range(5)]
    lines = table_lines(columns, width_max=25)
    assert lines[1] == "123456789  123456789  12…"


@given(st.lists(LETTERS, min_size=1, max_size=5), st.integers(1, 60))
def test_no_line_is_wider_than_allowed(cells: list[str], width_max: int) -> None:
    columns = [Column(title="title", cells=cells), Column(title="again", cells=cells)]
    lines = table_lines(columns, width_max=width_max)
    assert len(lines) == len(cells) + 1
    assert max(map(width, lines)) <= width_max


@given(LETTERS, st.integers(1, 40))
def test_cutting_keeps_the_beginning_and_says_that_it_cut(text: str, width_max: int) -> None:
    shown = cut(text, width_max)
    assert width(shown) <= width_max
    if shown != text:
        assert shown.endswith("…")
        assert text.startswith(shown[:-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two\nlines\tand\rmore", "two lines and more"),
        ("a\x1b[31mred", "a\ufffd[31mred"),
        ("right\u202eto left", "rightto left"),
        ("no-break\xa0space", "no-break space"),
        ("七人の侍", "七人の侍"),
    ],
)
def test_text_cannot_leave_its_line_or_steer_the_terminal(text: str, expected: str) -> None:
    assert printable(text) == expected


@given(st.text())
def test_everything_becomes_printable(text: str) -> None:
    assert printable(text).isprintable()
