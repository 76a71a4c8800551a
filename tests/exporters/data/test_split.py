from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from shortlist_exporters.data.split import parse_split, random_split
from shortlist_server.errors import ConfigError


def numbered(count: int) -> pa.Table:
    return pa.table({"user_id": [str(row) for row in range(count)], "time": list(range(count))})


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_parts_hold_every_row_once_in_exact_sizes(count: int, fraction: float, seed: int) -> None:
    assume(0 < round(count * fraction) < count)

    train, test = random_split(numbered(count), test_fraction=fraction, seed=seed)

    assert len(test) == round(count * fraction)
    assert sorted(train["time"].to_pylist() + test["time"].to_pylist()) == list(range(count))
    assert all(str(row["time"]) == row["user_id"] for row in test.to_pylist())


def test_same_seed_gives_equal_parts_and_another_seed_others() -> None:
    first = random_split(numbered(100), test_fraction=0.2, seed=3)
    again = random_split(numbered(100), test_fraction=0.2, seed=3)
    other = random_split(numbered(100), test_fraction=0.2, seed=4)

    assert first[0].equals(again[0])
    assert first[1].equals(again[1])
    assert not first[1].equals(other[1])


def test_parts_are_shuffled() -> None:
    train, test = random_split(numbered(100), test_fraction=0.5, seed=1)

    assert train["time"].to_pylist() != sorted(train["time"].to_pylist())
    assert test["time"].to_pylist() != sorted(test["time"].to_pylist())


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="test_fraction: expected above 0 and below 1"):
        random_split(numbered(10), test_fraction=fraction, seed=1)


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed: expected 0 or more, got -1"):
        random_split(numbered(10), test_fraction=0.2, seed=-1)


@pytest.mark.parametrize(("count", "fraction"), [(0, 0.5), (1, 0.5), (2, 0.1), (2, 0.9)])
def test_empty_part_is_refused(count: int, fraction: float) -> None:
    with pytest.raises(ValueError, match="leaves a part empty"):
        random_split(numbered(count), test_fraction=fraction, seed=1)


def events(*rows: tuple[str, str, int | None]) -> pa.Table:
    users, items, times = zip(*rows, strict=True)
    return pa.table({"user_id": users, "item_id": items, "time": pa.array(times, pa.int64())})


many = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.integers(0, 9)), min_size=2
)


def parts(spec: str, table: pa.Table) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    train, test = (
        [tuple(row.values()) for row in part.to_pylist()] for part in parse_split(spec).apply(table)
    )
    return train, test


def test_random_share_holds_out_what_training_with_the_fraction_does() -> None:
    table = events(*(("u", str(row), row) for row in range(1_000)))
    train, test = random_split(table, test_fraction=0.2, seed=7)

    split = parse_split("random:0.8:7").apply(table)

    assert split[0].equals(train)
    assert split[1].equals(test)


def test_last_of_each_user_is_left_out_and_of_equal_times_the_later_row() -> None:
    train, test = parts(
        "leave-last-out",
        events(
            ("ada", "late", 9),
            ("ben", "first", 5),
            ("ada", "early", 1),
            ("ben", "tie", 5),
            ("once", "only", 3),
        ),
    )

    assert test == [("ada", "late", 9), ("ben", "tie", 5)]
    assert train == [("ben", "first", 5), ("ada", "early", 1), ("once", "only", 3)]


def test_undated_interactions_are_in_the_order_of_their_rows() -> None:
    train, test = parts("leave-last-out", events(("ada", "x", None), ("ada", "y", None)))

    assert (train, test) == ([("ada", "x", None)], [("ada", "y", None)])


@given(many)
def test_leave_last_out_tests_with_one_row_of_each_user_who_has_two(
    rows: list[tuple[str, str, int]],
) -> None:
    counts = Counter(user for user, _, _ in rows)
    assume(max(counts.values()) > 1)

    train, test = parts("leave-last-out", events(*rows))

    assert Counter(train + test) == Counter(rows)
    assert Counter(user for user, _, _ in test) == {u: 1 for u, n in counts.items() if n > 1}
    for user, _, time in test:
        assert time == max(row[2] for row in rows if row[0] == user)


@given(many, st.floats(0.05, 0.95))
def test_temporal_split_trains_on_nothing_from_the_time_of_the_test(
    rows: list[tuple[str, str, int]], share: float
) -> None:
    assume(len({time for _, _, time in rows}) > 1)
    assume(sorted(row[2] for row in rows)[int(len(rows) * share)] > min(row[2] for row in rows))

    train, test = parts(f"temporal:{share}", events(*rows))

    assert Counter(train + test) == Counter(rows)
    assert max(row[2] for row in train) < min(row[2] for row in test)
    assert len(train) <= share * len(rows)


def test_temporal_split_by_a_date_begins_the_test_with_that_day() -> None:
    rows = [("ada", "x", 86_399), ("ada", "y", 86_400), ("ben", "z", 1_000_000)]

    train, test = parts("temporal:1970-01-02", events(*rows))

    assert (train, test) == (rows[:1], rows[1:])


@given(many, st.floats(0.2, 0.8), st.integers(0, 2**32 - 1))
def test_cold_items_are_in_no_row_that_is_trained_on(
    rows: list[tuple[str, str, int]], share: float, seed: int
) -> None:
    items = {item for _, item, _ in rows}
    assume(0 < round(len(items) * share) < len(items))

    train, test = parts(f"cold-items:{share}:{seed}", events(*rows))

    assert Counter(train + test) == Counter(rows)
    assert not {row[1] for row in train} & {row[1] for row in test}
    assert len({row[1] for row in test}) == round(len(items) * share)


@pytest.mark.parametrize(
    "text", ["random:0.8:7", "leave-last-out", "temporal:0.9", "temporal:1998-01-01T00:00:00"]
)
def test_split_is_told_as_it_is_read(text: str) -> None:
    assert parse_split(text).text == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "split: expected random:SHARE"),
        ("random", "split: expected random:SHARE"),
        ("random:x", "split: expected random:SHARE"),
        ("random:0.8:1:2", "split: expected random:SHARE"),
        ("leave-last-out:2", "split: expected random:SHARE"),
        ("random:1.2", "expected a share above 0 and below 1, got 1.2"),
        ("random:nan", "expected a share above 0 and below 1, got nan"),
        ("cold-items:0.1:-3", "expected a seed of 0 to .*, got '-3'"),
        ("temporal:yesterday", "expected a share, or a date or time in ISO 8601, got 'yesterday'"),
    ],
)
def test_what_is_no_split_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_split(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("temporal:1960-01-01", "got nothing to train on of 2 interactions"),
        ("temporal:2020-01-01", "got nothing to test with of 2 interactions"),
        ("cold-items:0.1", "got nothing to test with"),
        ("random:0.9", "leaves a part empty"),
    ],
)
def test_part_without_anything_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_split(text).apply(events(("ada", "x", 1), ("ada", "y", 2)))


@pytest.mark.parametrize("text", ["temporal:0.5", "leave-last-out"])
def test_times_that_are_missing_are_counted(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a time in each interaction.*, got 1"):
        parse_split(text).apply(events(("ada", "x", 1), ("ada", "y", None)))
