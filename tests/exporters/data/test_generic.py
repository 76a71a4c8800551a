from __future__ import annotations

import csv
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from shortlist_exporters.data import ColumnNames, load_interactions, read_table_file
from shortlist_exporters.errors import DataError

EVENTS = "user_id,item_id,rating,time\n007,a,4.5,100\n8,b,,\n007,b,-1,200\n"
ONLY_IDS = ColumnNames(rating=None, time=None)
NO_TIME = ColumnNames(time=None)


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8", newline="")
    return path


def write_parquet(path: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def test_interactions_keep_ids_as_written_and_empty_fields_as_null(tmp_path: Path) -> None:
    dataset = load_interactions(write(tmp_path / "events.csv", EVENTS), name="shop")

    assert dataset.name == "shop"
    assert dataset.simulated is False
    assert dataset.interactions.to_pydict() == {
        "user_id": ["007", "8", "007"],
        "item_id": ["a", "b", "b"],
        "rating": [4.5, None, -1.0],
        "time": [100, None, 200],
    }
    assert [str(field.type) for field in dataset.interactions.schema] == [
        "string",
        "string",
        "float",
        "int64",
    ]
    assert dataset.users is None


def test_without_an_items_file_items_are_those_of_the_interactions(tmp_path: Path) -> None:
    content = "user_id,item_id\n1,z\n1,a\n2,z\n"

    dataset = load_interactions(
        write(tmp_path / "events.csv", content), name="shop", names=ONLY_IDS
    )

    assert dataset.items.to_pydict() == {"id": ["z", "a"]}
    assert dataset.interactions["rating"].to_pylist() == [None, None, None]
    assert str(dataset.interactions.schema.field("rating").type) == "float"
    assert str(dataset.interactions.schema.field("time").type) == "int64"


def test_columns_are_found_by_the_given_names(tmp_path: Path) -> None:
    events = write(tmp_path / "e.csv", "extra;score;sku;who;at\nx;2;10;ann;2020-01-01\n")
    items = write(tmp_path / "i.csv", "price;sku;tags\n9.5;10;a, b,,c\n8;11;\n")
    users = write(tmp_path / "u.csv", "login;age\nann;30\n")
    names = ColumnNames(
        user="who",
        item="sku",
        rating="score",
        time="at",
        item_id="sku",
        user_id="login",
        item_lists={"tags": ","},
    )

    dataset = load_interactions(
        events, name="shop", items=items, users=users, names=names, delimiter=";"
    )

    assert dataset.interactions.to_pylist() == [
        {"user_id": "ann", "item_id": "10", "rating": 2.0, "time": 1577836800}
    ]
    assert dataset.items.to_pydict() == {
        "id": ["10", "11"],
        "price": [9.5, 8.0],
        "tags": [["a", "b", "c"], []],
    }
    assert dataset.users is not None
    assert dataset.users.to_pydict() == {"id": ["ann"], "age": [30]}


def test_csv_types_are_inferred_and_dates_stay_text(tmp_path: Path) -> None:
    content = (
        "id,count,price,new,released,opens,title,nothing\n"
        '1,3,1.5,true,2020-01-31,10:30:00,"He said ""hi"",\nand left",\n'
        '2,,,,,,"",\n'
    )

    table = read_table_file(write(tmp_path / "items.csv", content), string_columns=["id"])

    assert table.to_pydict() == {
        "id": ["1", "2"],
        "count": [3, None],
        "price": [1.5, None],
        "new": [True, None],
        "released": ["2020-01-31", None],
        "opens": ["10:30:00", None],
        "title": ['He said "hi",\nand left', ""],
        "nothing": [None, None],
    }
    assert [str(field.type) for field in table.schema] == [
        "string",
        "int64",
        "double",
        "bool",
        "string",
        "string",
        "string",
        "string",
    ]


def test_quoted_line_breaks_are_read_in_files_of_many_blocks(tmp_path: Path) -> None:
    # Arrow reads CSV in blocks of 1 MB, and must not end one at a line break in quotes.
    plot = "\n".join(["line"] * 1_000)
    rows = "".join(f'{number},"{plot}"\n' for number in range(700))

    table = read_table_file(write(tmp_path / "items.csv", "id,plot\n" + rows))

    assert table["plot"].to_pylist() == [plot] * 700


def test_words_for_missing_values_are_words(tmp_path: Path) -> None:
    content = "id,title\n1,NULL\n2,NA\n3,nan\nnull,N/A\n"

    table = read_table_file(write(tmp_path / "items.csv", content), string_columns=["id"])

    assert table["title"].to_pylist() == ["NULL", "NA", "nan", "N/A"]
    assert table["id"].to_pylist() == ["1", "2", "3", "null"]


PARQUET_TYPES = [
    (pa.int8(), 3, "int64", 3),
    (pa.int32(), -3, "int64", -3),
    (pa.uint16(), 3, "int64", 3),
    (pa.uint64(), 3, "int64", 3),
    (pa.float16(), 0.5, "double", 0.5),
    (pa.float32(), 0.5, "double", 0.5),
    (pa.large_string(), "x", "string", "x"),
    (pa.dictionary(pa.int32(), pa.string()), "x", "string", "x"),
    (pa.bool_(), True, "bool", True),
    (pa.null(), None, "string", None),
    (pa.list_(pa.int32()), [1, 2], "list<item: int64>", [1, 2]),
    (pa.large_list(pa.large_string()), ["x"], "list<item: string>", ["x"]),
    (pa.list_(pa.float32(), 2), [0.5, 1.5], "list<item: double>", [0.5, 1.5]),
    (pa.list_(pa.bool_()), [True], "list<item: bool>", [True]),
]


@pytest.mark.parametrize(("given_type", "value", "expected_type", "expected"), PARQUET_TYPES)
def test_parquet_types_become_those_of_the_contract(
    tmp_path: Path, given_type: pa.DataType, value: object, expected_type: str, expected: object
) -> None:
    column = pa.array([value, None], given_type)
    path = write_parquet(tmp_path / "items.parquet", id=["1", "2"], attribute=column)

    table = read_table_file(path)

    assert str(table.schema.field("attribute").type) == expected_type
    assert table["attribute"].to_pylist() == [expected, None]


@pytest.mark.parametrize(
    ("column", "type_name"),
    [
        (pa.array([datetime(2020, 1, 1)]), "timestamp[us]"),
        (pa.array([date(2020, 1, 1)]), "date32[day]"),
        (pa.array([{"a": 1}]), "struct<a: int64>"),
        (pa.array([b"bytes"]), "binary"),
        (pa.array([Decimal("1.5")]), "decimal128(2, 1)"),
        (pa.array([[[1]]]), "list<"),
        (pa.array([[{"a": 1}]]), "list<"),
    ],
)
def test_unsupported_type_is_reported_with_file_column_and_type(
    tmp_path: Path, column: pa.Array, type_name: str
) -> None:
    path = write_parquet(tmp_path / "items.parquet", id=["1"], made=column)

    with pytest.raises(DataError) as caught:
        read_table_file(path)

    message = str(caught.value)
    assert message.startswith(
        f'{path}: column "made": expected string, integer, floating point, bool or a list of one '
        f"of these, got the type {type_name}"
    )


def test_integer_beyond_int64_is_reported(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "items.parquet", id=["1"], n=pa.array([2**64 - 1], pa.uint64()))

    with pytest.raises(DataError, match='column "n": expected values that fit int64, got uint64'):
        read_table_file(path)


INSTANT = datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
SECONDS = 1577934245


@pytest.mark.parametrize(
    "text",
    [
        "1577934245",
        "2020-01-02T03:04:05",
        "2020-01-02 03:04:05",
        "2020-01-02T03:04:05Z",
        "2020-01-02T03:04:05.999+00:00",
        "2020-01-02T05:04:05+02:00",
        "20200102T030405",
    ],
)
@pytest.mark.parametrize("other", ["", "100", "1970-01-01T00:01:40"])
def test_time_text_may_be_seconds_or_iso_8601_even_mixed(
    tmp_path: Path, text: str, other: str
) -> None:
    content = f"user_id,item_id,time\n1,a,{text}\n1,a,{other}\n"
    names = ColumnNames(rating=None)

    dataset = load_interactions(write(tmp_path / "e.csv", content), name="shop", names=names)

    assert dataset.interactions["time"].to_pylist() == [SECONDS, 100 if other else None]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([SECONDS], pa.int32()),
        pa.array([SECONDS], pa.uint32()),
        pa.array([INSTANT.replace(tzinfo=None)], pa.timestamp("ns")),
        pa.array([INSTANT], pa.timestamp("ms", tz="UTC")),
        pa.array([INSTANT], pa.timestamp("us", tz="America/New_York")),
        pa.array(["2020-01-02T03:04:05Z"], pa.large_string()),
    ],
    ids=lambda column: str(column.type),
)
def test_parquet_times_become_seconds(tmp_path: Path, column: pa.Array) -> None:
    path = write_parquet(tmp_path / "e.parquet", user_id=[1], item_id=[2], time=column)

    dataset = load_interactions(path, name="shop", names=ColumnNames(rating=None))

    assert dataset.interactions.to_pylist() == [
        {"user_id": "1", "item_id": "2", "rating": None, "time": SECONDS}
    ]


def test_time_columns_of_a_table_become_seconds(tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", "user_id,at\n007,2020-01-02T03:04:05\n")

    table = read_table_file(path, string_columns=["user_id"], time_columns=["at"])

    assert table.to_pylist() == [{"user_id": "007", "at": SECONDS}]


@pytest.mark.parametrize(
    "column",
    [pa.array([3], pa.int64()), pa.array([3.0]), pa.array([Decimal("3.0")]), pa.array(["3"])],
    ids=lambda column: str(column.type),
)
def test_parquet_ratings_become_float32(tmp_path: Path, column: pa.Array) -> None:
    path = write_parquet(tmp_path / "e.parquet", user_id=["1"], item_id=["2"], rating=column)

    dataset = load_interactions(path, name="shop", names=NO_TIME)

    assert dataset.interactions["rating"].to_pylist() == [3.0]
    assert str(dataset.interactions.schema.field("rating").type) == "float"


MALFORMED_EVENTS = [
    ("1,a,4", "expected 4 fields (user_id, item_id, rating, time), got 3 in '1,a,4'"),
    ("1,a,4,5,6", "expected 4 fields (user_id, item_id, rating, time), got 5"),
    (",a,4,5", 'column "user_id": expected an id of 1 to 256 bytes, got nothing'),
    ('1,"",4,5', 'column "item_id": expected an id of 1 to 256 bytes, got nothing'),
    ("1," + "ä" * 129 + ",4,5", 'column "item_id": expected an id of 1 to 256 bytes'),
    ("1,a,good,5", "column \"rating\": expected a finite number, got 'good'"),
    ("1,a,1_0,5", "column \"rating\": expected a finite number, got '1_0'"),
    ("1,a,nan,5", 'column "rating": expected a finite number, got nan'),
    ("1,a,1e99,5", 'column "rating": expected a finite number, got 1e99'),
    ("1,a,4,soon", "column \"time\": expected whole seconds or an ISO 8601 time, got 'soon'"),
    ("1,a,4,1.5", "column \"time\": expected whole seconds or an ISO 8601 time, got '1.5'"),
    ("1,a,4,-1", 'column "time": expected seconds since 1970-01-01 UTC, from 0 to'),
    ("1,a,4,1577934245000", "got 1577934245000 (milliseconds?)"),
    ('1,"a,4,5', "got a row that cannot be split"),
]


@pytest.mark.parametrize(("row", "problem"), MALFORMED_EVENTS)
def test_malformed_row_is_reported_with_file_and_line(
    tmp_path: Path, row: str, problem: str
) -> None:
    # A quoted line break and an empty line before it: lines are counted as an editor does.
    content = f'user_id,item_id,rating,time\n1,"two\nlines",4,5\n\n{row}\n1,a,4,5\n1,a,4,5\n'
    path = write(tmp_path / "events.csv", content)

    with pytest.raises(DataError, match=re.escape(problem)) as caught:
        load_interactions(path, name="shop")

    assert (caught.value.file, caught.value.line) == (path, 5)
    assert str(caught.value).startswith(f"{path}, line 5: ")


def test_first_of_several_malformed_rows_is_reported(tmp_path: Path) -> None:
    content = "user_id,item_id,rating,time\n1,a,4,5\n1,a,good,5\n,a,4,5\n1,a,4,soon\n"
    path = write(tmp_path / "events.csv", content)

    with pytest.raises(DataError, match="'good'") as caught:
        load_interactions(path, name="shop")

    assert caught.value.line == 3


def test_text_that_is_not_utf_8_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes("id,title\n1,Amelie\n2,Amélie\n".encode("latin-1"))

    with pytest.raises(DataError, match="expected UTF-8 text, got the byte 0xe9") as caught:
        read_table_file(path, string_columns=["title"])

    assert caught.value.line == 3


def test_malformed_parquet_value_is_reported_with_file_and_row(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "e.parquet", user_id=["1", "2"], item_id=["a", "b"], rating=[1.0, float("inf")]
    )

    with pytest.raises(
        DataError, match='row 2: column "rating": expected a finite number'
    ) as caught:
        load_interactions(path, name="shop", names=NO_TIME)

    assert (caught.value.file, caught.value.row, caught.value.line) == (path, 2, None)


@pytest.mark.parametrize(
    "column",
    [pa.array([1.0]), pa.array([b"1"]), pa.array([True])],
    ids=lambda column: str(column.type),
)
def test_ids_are_text_or_whole_numbers(tmp_path: Path, column: pa.Array) -> None:
    path = write_parquet(tmp_path / "e.parquet", user_id=column, item_id=["a"])

    with pytest.raises(DataError, match='column "user_id": expected text or whole numbers, got'):
        load_interactions(path, name="shop", names=ONLY_IDS)


def test_null_id_is_reported_with_its_row(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "e.parquet", user_id=["1", None], item_id=["a", "b"])

    with pytest.raises(DataError, match='row 2: column "user_id": expected an id'):
        load_interactions(path, name="shop", names=ONLY_IDS)


def test_repeated_item_is_reported_with_both_lines(tmp_path: Path) -> None:
    events = write(tmp_path / "events.csv", EVENTS)
    items = write(tmp_path / "items.csv", "id\na\nb\n\na\n")

    with pytest.raises(DataError, match='got "a" a second time after line 2;') as caught:
        load_interactions(events, name="shop", items=items)

    assert (caught.value.file, caught.value.line) == (items, 5)


def test_repeated_user_is_reported_with_both_rows(tmp_path: Path) -> None:
    events = write(tmp_path / "events.csv", EVENTS)
    users = write_parquet(tmp_path / "users.parquet", id=[8, 7, 8])

    with pytest.raises(DataError, match='got "8" a second time after row 1;') as caught:
        load_interactions(events, name="shop", users=users)

    assert (caught.value.file, caught.value.row) == (users, 3)


def test_interaction_with_unknown_item_is_reported_with_file_line_and_id(tmp_path: Path) -> None:
    events = write(tmp_path / "events.csv", EVENTS)
    items = write(tmp_path / "items.csv", "id\na\n")

    with pytest.raises(DataError, match=r'expected an item of items\.csv, got id "b"') as caught:
        load_interactions(events, name="shop", items=items)

    assert (caught.value.file, caught.value.line) == (events, 3)


def test_items_keep_their_file_order_and_unused_ones(tmp_path: Path) -> None:
    events = write(tmp_path / "events.csv", EVENTS)
    items = write(tmp_path / "items.csv", "title,id\nC,c\nB,b\nA,a\n")

    dataset = load_interactions(events, name="shop", items=items)

    assert dataset.items.to_pydict() == {"id": ["c", "b", "a"], "title": ["C", "B", "A"]}


def test_attribute_called_id_beside_the_id_column_is_refused(tmp_path: Path) -> None:
    events = write(tmp_path / "events.csv", EVENTS)
    items = write(tmp_path / "items.csv", "id,sku\n1,a\n2,b\n")

    with pytest.raises(DataError, match='expected no column "id" beside "sku"'):
        load_interactions(events, name="shop", items=items, names=ColumnNames(item_id="sku"))


@pytest.mark.parametrize(
    ("content", "names", "problem"),
    [
        ("user,item_id\n1,a\n", ONLY_IDS, 'expected a column "user_id", got user, item_id'),
        ("user_id,item_id\n1,a\n", NO_TIME, 'expected a column "rating", got user_id, item_id'),
        ("user_id,user_id\n1,a\n", ONLY_IDS, 'got "user_id" twice'),
        ("user_id,item_id\n", ONLY_IDS, "expected interactions, got none"),
        ("", ONLY_IDS, "got an empty file"),
    ],
)
def test_file_without_its_columns_or_rows_is_an_error(
    tmp_path: Path, content: str, names: ColumnNames, problem: str
) -> None:
    path = write(tmp_path / "events.csv", content)

    with pytest.raises(DataError, match=re.escape(problem)):
        load_interactions(path, name="shop", names=names)


def test_listed_column_must_exist(tmp_path: Path) -> None:
    path = write(tmp_path / "items.csv", "id,genres\n1,a|b\n")

    with pytest.raises(DataError, match='expected a column "genre", got id, genres'):
        read_table_file(path, list_columns={"genre": "|"})


def test_list_column_of_parquet_stays_a_list(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "items.parquet", id=["1"], genres=[["a|b", "c"]])

    table = read_table_file(path, list_columns={"genres": "|"})

    assert table["genres"].to_pylist() == [["a|b", "c"]]


def test_numbers_cannot_be_split_into_lists(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "items.parquet", id=["1"], genres=[1])

    with pytest.raises(DataError, match=r"column \"genres\": expected text to split at '\|'"):
        read_table_file(path, list_columns={"genres": "|"})


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("events.csv", None, "expected a file, got nothing under this name"),
        ("events.json", "{}", "expected a .csv or .parquet file, got .json"),
        ("events", "{}", "expected a .csv or .parquet file, got no suffix"),
        ("events.parquet", "user_id,item_id\n", "expected a Parquet file, got one that cannot be"),
    ],
)
def test_file_of_another_kind_is_refused(
    tmp_path: Path, name: str, content: str | None, problem: str
) -> None:
    path = tmp_path / name
    if content is not None:
        write(path, content)

    with pytest.raises(DataError, match=re.escape(problem)):
        load_interactions(path, name="shop", names=ONLY_IDS)


def test_folder_names_do_not_become_columns(tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    path = write_parquet(tmp_path / "day=1" / "items.parquet", id=["1"])

    assert read_table_file(path).column_names == ["id"]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            cells,
            cells,
            st.none() | st.floats(-1e6, 1e6, width=32),
            st.none() | st.integers(0, 253_402_300_799),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_csv_and_parquet_hold_the_same(
    tmp_path: Path, rows: list[tuple[str, str, float | None, int | None]]
) -> None:
    with (tmp_path / "e.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_MINIMAL)
        writer.writerow(["user_id", "item_id", "rating", "time"])
        writer.writerows(rows)
    columns = dict(
        zip(["user_id", "item_id", "rating", "time"], zip(*rows, strict=True), strict=True)
    )
    write_parquet(tmp_path / "e.parquet", **columns)

    from_csv = load_interactions(tmp_path / "e.csv", name="shop")
    from_parquet = load_interactions(tmp_path / "e.parquet", name="shop")

    assert from_csv.interactions.to_pydict() == from_parquet.interactions.to_pydict()
    assert from_csv.interactions.to_pydict() == {
        name: list(column) for name, column in columns.items()
    }
    assert from_csv.items["id"].to_pylist() == list(dict.fromkeys(columns["item_id"]))
