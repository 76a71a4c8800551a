from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from shortlist_exporters.data import delimited
from shortlist_exporters.data.movielens import load_movielens, split_title
from shortlist_exporters.errors import DataError

Write = Callable[[dict[str, str]], Path]


def test_100k_is_read_in_the_order_of_its_files(write_100k: Write) -> None:
    dataset = load_movielens(write_100k({}))

    assert dataset.name == "movielens-100k"
    assert dataset.simulated is False
    assert dataset.interactions.to_pydict() == {
        "user_id": ["2", "1", "1"],
        "item_id": ["1", "3", "1"],
        "rating": [3.0, 5.0, 1.0],
        "time": [881250949, 891717742, 878887116],
    }
    assert dataset.items.to_pydict() == {
        "id": ["1", "2", "3", "4"],
        "title": ["Toy Story", "Matrix, The", "Misérables, Les", "unknown"],
        "year": [1995, 1999, 1995, None],
        "genres": [["Comedy"], ["Action"], ["unknown"], ["unknown"]],
    }
    assert dataset.users is not None
    assert dataset.users.to_pydict() == {
        "id": ["1", "2"],
        "age": [24, 53],
        "gender": ["M", "F"],
        "occupation": ["technician", "other"],
        "zip_code": ["85711", "V3N4P"],
    }


def test_types_are_those_of_the_contract(write_1m: Write) -> None:
    dataset = load_movielens(write_1m({}))

    assert [str(field.type) for field in dataset.interactions.schema] == [
        "string",
        "string",
        "float",
        "int64",
    ]
    assert [str(field.type) for field in dataset.items.schema][:3] == ["string", "string", "int64"]
    assert str(dataset.items.schema.field("genres").type.value_type) == "string"
    assert dataset.users is not None
    assert [str(field.type) for field in dataset.users.schema] == [
        "string",
        "int64",
        "string",
        "string",
        "string",
    ]


def test_1m_is_latin_1_and_its_occupations_have_names(write_1m: Write) -> None:
    dataset = load_movielens(write_1m({}))

    assert dataset.name == "movielens-1m"
    assert dataset.items["title"].to_pylist() == [
        "Toy Story",
        "Star Wars: Episode IV",
        "Misérables, Les",
    ]
    assert dataset.interactions["time"].to_pylist() == [978300760, 978302109]
    assert dataset.users is not None
    assert dataset.users["age"].to_pylist() == [1, 56]
    assert dataset.users["occupation"].to_pylist() == ["K-12 student", "self-employed"]


def test_10m_is_utf_8_and_has_no_users(write_10m: Write) -> None:
    dataset = load_movielens(write_10m({}))

    assert dataset.name == "movielens-10m"
    assert dataset.items["title"].to_pylist()[2] == "Misérables, Les"
    assert dataset.users is None


def test_csv_titles_keep_commas_and_quotes(write_csv: Write) -> None:
    dataset = load_movielens(write_csv({}))

    assert dataset.name == "movielens-latest-small"
    assert dataset.items.to_pydict() == {
        "id": ["1", "2", "3", "4", "5"],
        "title": [
            "Toy Story",
            "American President, The",
            '"Great Performances" Cats',
            "Babylon 5",
            "Amélie",
        ],
        "year": [1995, 1995, 1998, None, 2001],
        "genres": [["Animation", "Comedy"], ["Drama"], ["Musical"], [], ["Comedy", "Romance"]],
    }
    assert dataset.interactions["rating"].to_pylist() == [4.0, 0.5, 5.0]
    assert dataset.users is None


def test_csv_release_is_named_after_its_folder(write_csv: Write) -> None:
    directory = write_csv({})

    assert load_movielens(directory.rename(directory.with_name("ml-25m"))).name == "movielens-25m"
    other = directory.with_name("ml-25m").rename(directory.with_name("films"))
    assert load_movielens(other).name == "movielens"


@pytest.mark.parametrize(
    ("full_title", "title", "year"),
    [
        ("Heat (1995)", "Heat", 1995),
        ("Heat (1995)  ", "Heat", 1995),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        (
            "City of Lost Children, The (Cité, La) (1995)",
            "City of Lost Children, The (Cité, La)",
            1995,
        ),
        ("1984", "1984", None),
        ("Land Before Time III (1995) (V)", "Land Before Time III (1995) (V)", None),
        ("Death Note (2006–2007)", "Death Note (2006–2007)", None),
        ("(1995)", "(1995)", None),
    ],
)
def test_only_a_year_at_the_end_is_taken_from_the_title(
    full_title: str, title: str, year: int | None
) -> None:
    assert split_title(full_title) == (title, year)


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n"])
def test_how_the_last_line_ends_makes_no_difference(write_csv: Write, end: str) -> None:
    ratings = "userId,movieId,rating,timestamp\n1,1,4.0,964982703" + end

    assert len(load_movielens(write_csv({"ratings.csv": ratings})).interactions) == 1


def test_windows_line_ends_and_a_byte_order_mark_are_read(write_csv: Write) -> None:
    films = "\ufeffmovieId,title,genres\r\n1,Toy Story (1995),Comedy\r\n"
    ratings = "\ufeffuserId,movieId,rating,timestamp\r\n1,1,4.0,964982703\r\n"

    dataset = load_movielens(write_csv({"movies.csv": films, "ratings.csv": ratings}))

    assert dataset.items["title"].to_pylist() == ["Toy Story"]
    assert dataset.interactions["user_id"].to_pylist() == ["1"]


MALFORMED_RATINGS = [
    ("1{s}1{s}4", "expected 4 fields"),
    ("1{s}1{s}4{s}5{s}6", "expected 4 fields"),
    ("   ", "expected 4 fields"),
    ("{s}1{s}4{s}5", "expected a user id, got nothing"),
    ("1{s}{s}4{s}5", "expected an item id, got nothing"),
    ("1{s}1{s}good{s}5", "expected a rating from 0.5 to 5.0, got 'good'"),
    ("1{s}1{s}{s}5", "expected a rating from 0.5 to 5.0, got ''"),
    ("1{s}1{s}0{s}5", "expected a rating from 0.5 to 5.0, got '0'"),
    ("1{s}1{s}5.5{s}5", "expected a rating from 0.5 to 5.0, got '5.5'"),
    ("1{s}1{s}nan{s}5", "expected a rating from 0.5 to 5.0, got 'nan'"),
    ("1{s}1{s}inf{s}5", "expected a rating from 0.5 to 5.0, got 'inf'"),
    ("1{s}1{s}4{s}-1", "expected a time in whole seconds"),
    ("1{s}1{s}4{s}1.5", "expected a time in whole seconds"),
    ("1{s}1{s}4{s}", "expected a time in whole seconds"),
    ("1{s}1{s}4{s}964982703000", "expected a time in whole seconds"),
    ("1{s}1{s}4{s}99999999999999999999", "expected a time in whole seconds"),
]


@pytest.mark.parametrize(("row", "problem"), MALFORMED_RATINGS)
@pytest.mark.parametrize(
    ("fixture", "name", "separator", "first_line"),
    [
        ("write_100k", "u.data", "\t", 1),
        ("write_1m", "ratings.dat", "::", 1),
        ("write_csv", "ratings.csv", ",", 2),
    ],
)
def test_malformed_rating_is_reported_with_file_and_line(
    request: pytest.FixtureRequest,
    fixture: str,
    name: str,
    separator: str,
    first_line: int,
    row: str,
    problem: str,
) -> None:
    good = separator.join(["1", "1", "4", "964982703"])
    header = "userId,movieId,rating,timestamp\n" if first_line == 2 else ""
    bad = row.format(s=separator)
    content = f"{header}{good}\n{good}\n{bad}\n{good}\n"
    directory = request.getfixturevalue(fixture)({name: content})

    with pytest.raises(DataError, match=re.escape(problem)) as caught:
        load_movielens(directory)

    assert caught.value.file == directory / name
    assert caught.value.line == first_line + 2
    assert str(caught.value).startswith(f"{directory / name}, line {first_line + 2}: expected ")


def test_first_of_several_malformed_ratings_is_reported(write_100k: Write) -> None:
    # Arrow stops at line 3, which has too few fields; line 2 comes before it.
    directory = write_100k({"u.data": "1\t1\t4\t5\n1\t1\t9\t5\n1\n"})

    with pytest.raises(DataError, match="got '9'") as caught:
        load_movielens(directory)

    assert caught.value.line == 2


def test_empty_lines_are_counted_when_a_line_is_told(write_100k: Write) -> None:
    directory = write_100k({"u.data": "1\t1\t4\t5\n\n\n1\t1\t9\t5\n"})

    with pytest.raises(DataError, match="got '9'") as caught:
        load_movielens(directory)

    assert caught.value.line == 4


def test_text_between_two_colons_is_malformed(write_1m: Write) -> None:
    directory = write_1m({"ratings.dat": "1::1::4::5\n1:x:1::4::5\n"})

    with pytest.raises(DataError, match="expected 4 fields") as caught:
        load_movielens(directory)

    assert caught.value.line == 2


def test_id_that_is_not_utf_8_is_reported_with_its_line(write_csv: Write) -> None:
    directory = write_csv({})
    content = b"userId,movieId,rating,timestamp\n1,1,4.0,5\n\xff,1,4.0,5\n"
    (directory / "ratings.csv").write_bytes(content)

    with pytest.raises(DataError, match="expected UTF-8 text, got the byte 0xff") as caught:
        load_movielens(directory)

    assert caught.value.line == 3


@pytest.mark.parametrize("content", ["", "userId,movieId,rating,timestamp\n"])
def test_ratings_file_without_ratings_is_an_error(write_csv: Write, content: str) -> None:
    with pytest.raises(DataError, match=r"ratings\.csv: expected .* got (an empty file|none)"):
        load_movielens(write_csv({"ratings.csv": content}))


def test_tab_separated_file_without_ratings_is_an_error(write_100k: Write) -> None:
    with pytest.raises(DataError, match=r"u\.data: expected ratings, got none"):
        load_movielens(write_100k({"u.data": ""}))


def test_other_columns_of_ratings_are_an_error(write_csv: Write) -> None:
    with pytest.raises(
        DataError, match=r"line 1: expected the columns .*'movieId'.*, got .*'film'"
    ):
        load_movielens(write_csv({"ratings.csv": "userId,film,rating,timestamp\n1,1,4,5\n"}))


def test_other_columns_of_films_are_an_error(write_csv: Write) -> None:
    with pytest.raises(DataError, match="line 1: expected the columns movieId, title, genres"):
        load_movielens(write_csv({"movies.csv": "movieId,name,genres\n1,Heat,Crime\n"}))


@pytest.mark.parametrize(
    ("fixture", "name", "content", "line", "problem"),
    [
        ("write_100k", "u.item", "1|Toy Story (1995)|||x|0|1\n", 1, "expected 8 fields"),
        ("write_100k", "u.item", "1|Toy Story (1995)|||x|0|1|yes\n", 1, "genres as 0 or 1"),
        ("write_100k", "u.item", "|Toy Story (1995)|||x|0|1|0\n", 1, "expected an id"),
        ("write_100k", "u.genre", "unknown|0\nAction|2\n", 2, "expected genre number 1, got '2'"),
        ("write_100k", "u.genre", "unknown|0\nAction\n", 2, "expected 2 fields"),
        ("write_100k", "u.user", "1|24|M|other|1\n2|old|M|other|1\n", 2, "expected an age"),
        ("write_100k", "u.user", "1|24|M|other|1\n2|24|M|other\n", 2, "expected 5 fields"),
        (
            "write_1m",
            "users.dat",
            "1::F::1::21::48067\n",
            1,
            "an occupation from 0 to 20, got '21'",
        ),
        ("write_1m", "movies.dat", "1::Toy Story (1995)\n", 1, "expected 3 fields"),
        (
            "write_csv",
            "movies.csv",
            "movieId,title,genres\n1,American President, The,Drama\n",
            2,
            "3 fields",
        ),
        ("write_csv", "movies.csv", 'movieId,title,genres\n1,"Heat,Crime\n', 2, "cannot be split"),
    ],
)
def test_malformed_film_or_user_is_reported_with_file_and_line(
    request: pytest.FixtureRequest, fixture: str, name: str, content: str, line: int, problem: str
) -> None:
    directory = request.getfixturevalue(fixture)({name: content})

    with pytest.raises(DataError, match=re.escape(problem)) as caught:
        load_movielens(directory)

    assert (caught.value.file, caught.value.line) == (directory / name, line)


@pytest.mark.parametrize(
    ("fixture", "name", "content", "earlier", "later"),
    [
        ("write_100k", "u.item", "1|A|||x|0|0|1\n2|B|||x|0|0|1\n\n1|C|||x|0|0|1\n", 1, 4),
        ("write_100k", "u.user", "7|24|M|other|1\n7|24|M|other|1\n", 1, 2),
        ("write_csv", "movies.csv", "movieId,title,genres\n1,A,B\n2,A,B\n2,A,B\n", 3, 4),
    ],
)
def test_repeated_id_is_reported_with_both_lines(
    request: pytest.FixtureRequest, fixture: str, name: str, content: str, earlier: int, later: int
) -> None:
    directory = request.getfixturevalue(fixture)({name: content})

    with pytest.raises(DataError, match=rf"a second time after line {earlier};") as caught:
        load_movielens(directory)

    assert (caught.value.file, caught.value.line) == (directory / name, later)


def test_rated_item_without_a_film_is_reported_with_file_line_and_id(write_csv: Write) -> None:
    ratings = "userId,movieId,rating,timestamp\n1,1,4,5\n\n1,99,4,5\n1,98,4,5\n"
    directory = write_csv({"ratings.csv": ratings})

    with pytest.raises(
        DataError, match=r'ratings.csv, line 4: .*movies.csv, got id "99"'
    ) as caught:
        load_movielens(directory)

    assert caught.value.line == 4


def test_film_without_ratings_is_no_error(write_csv: Write) -> None:
    dataset = load_movielens(write_csv({}))

    assert "2" in dataset.items["id"].to_pylist()
    assert "2" not in dataset.interactions["item_id"].to_pylist()


def test_missing_file_is_an_error_that_lists_what_is_there(write_100k: Write) -> None:
    directory = write_100k({})
    (directory / "u.item").unlink()

    with pytest.raises(DataError, match=r"u.data, u.item, u.user, u.genre.* got u.data, u.genre"):
        load_movielens(directory)


def test_large_file_is_announced_and_read_the_same(
    write_csv: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_csv({})
    quiet = load_movielens(directory)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(delimited, "PROGRESS_FLOOR_BYTES", 10)

    shown = load_movielens(directory)

    assert "read ratings.csv" in capsys.readouterr().err
    assert shown.interactions.equals(quiet.interactions)


def test_real_100k_has_its_published_size(real_data: Callable[[str], Path]) -> None:
    dataset = load_movielens(real_data("ml-100k"))

    assert len(dataset.interactions) == 100_000
    assert len(dataset.items) == 1_682
    assert dataset.users is not None
    assert len(dataset.users) == 943
    assert dataset.items["year"].null_count == 2  # "unknown" and "... (1995) (V)"
    genres = {genre for own in dataset.items["genres"].to_pylist() for genre in own}
    assert len(genres) == 19
    assert "unknown" in genres
    assert dataset.interactions.slice(0, 1).to_pylist() == [
        {"user_id": "196", "item_id": "242", "rating": 3.0, "time": 881250949}
    ]


def test_real_latest_small_has_its_published_size(real_data: Callable[[str], Path]) -> None:
    dataset = load_movielens(real_data("ml-latest-small"))

    assert dataset.name == "movielens-latest-small"
    assert len(dataset.interactions) == 100_836
    assert len(dataset.items) == 9_742
    assert len(dataset.interactions["user_id"].unique()) == 610
    assert dataset.items["year"].null_count == 13
    assert dataset.items["genres"].to_pylist().count([]) == 34
