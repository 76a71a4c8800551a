from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from shortlist_exporters.data import load_dataset
from shortlist_exporters.errors import DataError

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    directory = tmp_path / "shop"
    directory.mkdir()
    (directory / "interactions.csv").write_text("user_id,item_id,rating,time\n1,a,4,5\n2,b,3,6\n")
    (directory / "items.csv").write_text("id,title,genres\na,A,x|y\nb,B,\n")
    (directory / "users.csv").write_text("id,age\n1,30\n2,40\n")
    return directory


def test_no_path_means_the_sample() -> None:
    assert load_dataset(None).name == "sample-films"


@pytest.mark.parametrize(
    ("fixture", "name"),
    [
        ("write_100k", "movielens-100k"),
        ("write_1m", "movielens-1m"),
        ("write_10m", "movielens-10m"),
        ("write_csv", "movielens-latest-small"),
    ],
)
def test_movielens_is_recognised_by_its_files(
    request: pytest.FixtureRequest, fixture: str, name: str
) -> None:
    assert load_dataset(request.getfixturevalue(fixture)({})).name == name


def test_standard_files_are_read(shop: Path) -> None:
    dataset = load_dataset(shop)

    assert dataset.name == "shop"
    assert dataset.interactions["time"].to_pylist() == [5, 6]
    assert dataset.items.to_pydict() == {
        "id": ["a", "b"],
        "title": ["A", "B"],
        "genres": [["x", "y"], []],
    }
    assert dataset.users is not None
    assert dataset.users["age"].to_pylist() == [30, 40]


def test_interactions_alone_are_enough(shop: Path) -> None:
    (shop / "items.csv").unlink()
    (shop / "users.csv").unlink()
    (shop / "interactions.csv").write_text("item_id,user_id\nb,1\na,1\n")

    dataset = load_dataset(shop)

    assert dataset.items.to_pydict() == {"id": ["b", "a"]}
    assert dataset.users is None
    assert dataset.interactions["rating"].null_count == 2
    assert dataset.interactions["time"].null_count == 2


def test_parquet_may_stand_beside_csv(shop: Path) -> None:
    (shop / "items.csv").unlink()
    parquet.write_table(pa.table({"id": ["a", "b"], "genres": [["x"], []]}), shop / "items.parquet")

    assert load_dataset(shop).items["genres"].to_pylist() == [["x"], []]


def test_same_file_as_csv_and_parquet_is_refused(shop: Path) -> None:
    parquet.write_table(pa.table({"id": ["a"]}), shop / "items.parquet")

    with pytest.raises(DataError, match=r"expected one of items.csv and items.parquet, got both"):
        load_dataset(shop)


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"

    with pytest.raises(DataError, match=re.escape(f"{path}: expected a folder")) as caught:
        load_dataset(path)

    assert "got nothing" in str(caught.value)


def test_file_of_interactions_is_a_data_set_without_attributes(shop: Path) -> None:
    whole, alone = load_dataset(shop), load_dataset(shop / "interactions.csv")

    assert alone.interactions.equals(whole.interactions)
    assert alone.items.column_names == ["id"]
    assert alone.users is None


def test_unknown_folder_is_an_error_that_lists_what_was_looked_for_and_found(
    tmp_path: Path,
) -> None:
    for number in range(12):
        (tmp_path / f"part-{number:02}.txt").touch()

    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path)

    message = str(caught.value)
    for name in (
        "u.data",
        "ratings.dat",
        "ratings.csv",
        "interactions.csv",
        "interactions.parquet",
    ):
        assert name in message
    assert message.endswith(
        "got part-00.txt, part-01.txt, part-02.txt, part-03.txt, part-04.txt, "
        "part-05.txt, part-06.txt, part-07.txt, part-08.txt, part-09.txt and 2 more"
    )


def test_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got an empty folder"):
        load_dataset(tmp_path)


def test_malformed_standard_file_is_reported_with_its_line(shop: Path) -> None:
    (shop / "interactions.csv").write_text("user_id,item_id,rating\n1,a,4\n1,a,much\n")

    with pytest.raises(DataError, match=r"interactions.csv, line 3: .*got 'much'"):
        load_dataset(shop)


def test_real_folders_are_recognised(real_data: Callable[[str], Path]) -> None:
    assert load_dataset(real_data("ml-100k")).name == "movielens-100k"
    assert load_dataset(real_data("ml-latest-small")).name == "movielens-latest-small"
