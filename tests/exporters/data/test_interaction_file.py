from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from shortlist_exporters.data.interaction_file import load_interaction_file
from shortlist_exporters.data.movielens import load_movielens
from shortlist_exporters.errors import DataError


def rows(path: Path) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in load_interaction_file(path).interactions.to_pylist()]


def write(folder: Path, text: str, name: str = "some.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("separator", ["\t", ",", "::", " ", "   "])
def test_fields_may_be_separated_by_what_the_first_line_has(tmp_path: Path, separator: str) -> None:
    lines = [("ann", "x", "4.5", "881250949"), ("bob", "y", "3", "881250950")]
    path = write(tmp_path, "".join(separator.join(line) + "\n" for line in lines))

    assert rows(path) == [("ann", "x", 4.5, 881250949), ("bob", "y", 3.0, 881250950)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 2\n1 3\n", [("1", "2", None, None), ("1", "3", None, None)]),
        ("1 2 881250949\n", [("1", "2", None, 881250949)]),
        ("1 2 3 881250949\n", [("1", "2", 3.0, 881250949)]),
        ("1 9 8 7\n2\n3 5\n", [("1", "9", *2 * [None]), ("1", "8", *2 * [None]),
                               ("1", "7", *2 * [None]), ("3", "5", *2 * [None])]),
        ("user items\n1 9\n2 8 7 \n", [("1", "9", *2 * [None]), ("2", "8", *2 * [None]),
                                      ("2", "7", *2 * [None])]),
        ("user item rating\n1 2 3\n", [("1", "2", 3.0, None)]),
        ("timestamp,userId,rating,movieId\n5,1,4,7\n", [("1", "7", 4.0, 5)]),
        ("user_id,item_id,time,why\n1,2,1998-01-01,\"a, b\"\n", [("1", "2", None, 883612800)]),
        ("user,item,rating\n1,2,\n", [("1", "2", None, None)]),
    ],
)  # fmt: skip
def test_first_line_says_what_fields_are(
    tmp_path: Path, text: str, expected: list[tuple[Any, ...]]
) -> None:
    assert rows(write(tmp_path, text)) == expected


def test_compressed_file_is_read_and_named_without_its_suffixes(tmp_path: Path) -> None:
    path = tmp_path / "gowalla.tsv.gz"
    path.write_bytes(gzip.compress(b"1\t2\t881250949\n"))

    dataset = load_interaction_file(path)

    assert dataset.name == "gowalla"
    assert dataset.items["id"].to_pylist() == ["2"]
    assert not dataset.simulated
    assert rows(path) == [("1", "2", None, 881250949)]


def test_parquet_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    parquet.write_table(pa.table({"user": [1], "itemId": ["x"], "timestamp": [881250949]}), path)

    assert rows(path) == [("1", "x", None, 881250949)]
    parquet.write_table(pa.table({"who": [1], "what": ["x"]}), path)
    with pytest.raises(DataError, match="expected the columns user_id and item_id, got who, what"):
        load_interaction_file(path)


def test_order_of_the_file_is_kept_for_splits_without_times(tmp_path: Path) -> None:
    path = write(tmp_path, "b 3 1 2\na 9 8 7\n")

    assert [row[:2] for row in rows(path)] == [
        ("b", "3"), ("b", "1"), ("b", "2"), ("a", "9"), ("a", "8"), ("a", "7"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected interactions, got an empty file"),
        ("1 2 3\n", r"line 1: expected user item, .* got '1 2 3', which may be several"),
        ("alone\n", r"line 1: expected user item, .* got 'alone'"),
        ("1 2\n\n1 2 3\n", r"line 3: expected 2 fields \(user_id, item_id\) separated by spaces"),
        ("1 2 881250949\n1 2 soon\n", "line 2: time: expected whole seconds or an ISO 8601 time"),
        ("1 2 881250949\n1 2 881250949000\n", r"line 2: time: expected seconds .*milliseconds\?"),
        ("1,2,3,881250949\n1,2,much,881250949\n", "line 2: rating: expected a finite number"),
        ("1,2,3,881250949\n\n,2,3,881250949\n", "line 3: user_id: expected an id of 1 to 256"),
        ("user item rating\n", "expected interactions, got none"),
        ("user userid item\n1 2 3\n", "line 1: expected one column user_id, got two"),
    ],
)
def test_malformed_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_interaction_file(write(tmp_path, text))


@pytest.mark.parametrize("content", [b"1 2\n", gzip.compress(b"1 2\n" * 1000, mtime=0)[:-12]])
def test_broken_gzip_file_is_said_to_be_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.gz"
    path.write_bytes(content)

    with pytest.raises(DataError, match="expected a gzip file, got one that is broken"):
        load_interaction_file(path)


def test_movielens_by_its_ratings_file_alone_has_the_same_interactions(
    real_data: Callable[[str], Path],
) -> None:
    for folder, file in (("ml-100k", "u.data"), ("ml-latest-small", "ratings.csv")):
        alone = load_interaction_file(real_data(folder) / file)

        assert alone.interactions.equals(load_movielens(real_data(folder)).interactions)
