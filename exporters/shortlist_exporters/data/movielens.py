"""MovieLens as GroupLens publishes it: 100K, 1M, 10M, and as CSV 20M, 25M, 32M and latest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from shortlist_exporters.data.dataset import Dataset
from shortlist_exporters.data.delimited import TextLayout, excerpt, line_of_row, read_rows
from shortlist_exporters.data.identity import first_duplicate, first_unknown
from shortlist_exporters.data.movielens_ratings import read_ratings
from shortlist_exporters.errors import DataError

YEAR = re.compile(r"\((\d{4})\)\s*$", re.ASCII)
NO_GENRES = "(no genres listed)"

# The README of 1M; ages are codes too (the lowest age of a range), and stay as they are.
OCCUPATIONS_1M = {
    "0": "other or not specified",
    "1": "academic/educator",
    "2": "artist",
    "3": "clerical/admin",
    "4": "college/grad student",
    "5": "customer service",
    "6": "doctor/health care",
    "7": "executive/managerial",
    "8": "farmer",
    "9": "homemaker",
    "10": "K-12 student",
    "11": "lawyer",
    "12": "programmer",
    "13": "retired",
    "14": "sales/marketing",
    "15": "scientist",
    "16": "self-employed",
    "17": "technician/engineer",
    "18": "tradesman/craftsman",
    "19": "unemployed",
    "20": "writer",
}

TABS = TextLayout(separator="\t")
PIPES = TextLayout(separator="|", encoding="latin-1")
COLONS = TextLayout(separator="::")
# Only the films of 1M are not UTF-8: 10M has the same files, in UTF-8.
COLONS_LATIN = TextLayout(separator="::", encoding="latin-1")
COMMAS = TextLayout(separator=",", quoted=True, header=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One row of an item file."""

    line: int
    id: str
    full_title: str
    """With the year, as in the file."""
    genres: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One row of a user file."""

    line: int
    id: str
    age: str
    gender: str
    occupation: str
    zip_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The files of one MovieLens release and how to read them."""

    name: str | None
    """None: the folder's name says which release it is."""
    ratings: str
    ratings_layout: TextLayout
    items: str
    read_films: Callable[[Path], Iterator[Film]]
    users: str | None = None
    read_users: Callable[[Path], Iterator[User]] | None = None
    others: tuple[str, ...] = ()

    @property
    def files(self) -> list[str]:
        """What the folder must hold."""
        return [self.ratings, self.items, *([self.users] if self.users else []), *self.others]


def load_movielens(directory: Path) -> Dataset:
    """Load a MovieLens release, recognised by its files.

    Items have `title` (as in the file, without the year), `year` and `genres`; users, where the
    release describes them (100K, 1M), `age`, `gender`, `occupation` and `zip_code`.

    Args:
        directory: The unpacked release.

    Raises:
        DataError: files are missing, a row is malformed, an id occurs twice, or a rated item is
            not in the item file. The message names file and line.
    """
    release = find_release(directory)
    if release is None:
        raise DataError(
            directory,
            f"expected the files of a MovieLens release ({release_files()}), got "
            f"{listing(directory)}",
        )
    interactions = read_ratings(directory / release.ratings, release.ratings_layout)
    items_path = directory / release.items
    items = _items_table(items_path, release.read_films(items_path))
    row = first_unknown(interactions["item_id"], items["id"])
    if row is not None:
        path = directory / release.ratings
        raise DataError(
            path,
            f"expected an item of {release.items}, got id "
            f'"{interactions["item_id"][row].as_py()}", which is not there; '
            "use the files of one release",
            line=line_of_row(path, release.ratings_layout, row),
        )
    users = None
    if release.users is not None and release.read_users is not None:
        path = directory / release.users
        users = _users_table(path, release.read_users(path))
    return Dataset(
        name=release.name or _name_of_folder(directory),
        simulated=False,
        interactions=interactions,
        items=items,
        users=users,
    )


def find_release(directory: Path) -> Release | None:
    """Return the release that has all of its files in the directory; None if there is none."""
    for release in RELEASES:
        if all((directory / name).is_file() for name in release.files):
            return release
    return None


def release_files() -> str:
    """Return the files of all releases, for messages."""
    return "; or ".join(", ".join(release.files) for release in RELEASES)


def listing(directory: Path) -> str:
    """Return what is in a directory, for messages."""
    names = sorted(entry.name for entry in directory.iterdir())
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return shown or "an empty folder"


def _name_of_folder(directory: Path) -> str:
    folder = directory.resolve().name
    return f"movielens-{folder.removeprefix('ml-')}" if folder.startswith("ml-") else "movielens"


def _items_table(path: Path, films: Iterable[Film]) -> pa.Table:
    rows = list(films)
    titles = [split_title(film.full_title) for film in rows]
    table = pa.table(
        {
            "id": pa.array([film.id for film in rows], pa.string()),
            "title": pa.array([title for title, _ in titles], pa.string()),
            "year": pa.array([year for _, year in titles], pa.int64()),
            "genres": pa.array([film.genres for film in rows], pa.list_(pa.string())),
        }
    )
    _check_ids(path, table["id"], [film.line for film in rows])
    return table


def split_title(full_title: str) -> tuple[str, int | None]:
    """Return the title without the year at its end, and the year: "Heat (1995)" -> "Heat", 1995."""
    found = YEAR.search(full_title)
    title = full_title[: found.start()].strip() if found else ""
    if found is None or not title:
        return full_title.strip(), None
    return title, int(found[1])


def _users_table(path: Path, users: Iterable[User]) -> pa.Table:
    rows = list(users)
    for user in rows:
        if not re.fullmatch("[0-9]{1,3}", user.age):
            raise DataError(
                path, f"expected an age in years, got {excerpt(user.age)}", line=user.line
            )
    table = pa.table(
        {
            "id": pa.array([user.id for user in rows], pa.string()),
            "age": pa.array([int(user.age) for user in rows], pa.int64()),
            "gender": pa.array([user.gender for user in rows], pa.string()),
            "occupation": pa.array([user.occupation for user in rows], pa.string()),
            "zip_code": pa.array([user.zip_code for user in rows], pa.string()),
        }
    )
    _check_ids(path, table["id"], [user.line for user in rows])
    return table


def _check_ids(path: Path, ids: pa.ChunkedArray, lines: list[int]) -> None:
    for row, value in enumerate(ids.to_pylist()):
        if not value:
            raise DataError(path, "expected an id, got nothing", line=lines[row])
    if (rows := first_duplicate(ids)) is not None:
        earlier, later = rows
        raise DataError(
            path,
            f'expected ids that differ, got "{ids[later].as_py()}" a second time after line '
            f"{lines[earlier]}; remove one of the two",
            line=lines[later],
        )


def _films_100k(path: Path) -> Iterator[Film]:
    genres = _genres_100k(path.with_name("u.genre"))
    fields = "id, title, release date, video release date, URL, then a 0 or 1 for each genre"
    for line, values in _rows(path, PIPES, 5 + len(genres), fields):
        flags = values[5:]
        if not set(flags) <= {"0", "1"}:
            raise DataError(
                path, f"expected genres as 0 or 1, got {excerpt('|'.join(flags))}", line=line
            )
        own = [genre for genre, flag in zip(genres, flags, strict=True) if flag == "1"]
        yield Film(line=line, id=values[0], full_title=values[1], genres=own)


def _genres_100k(path: Path) -> list[str]:
    genres: list[str] = []
    for line, (name, number) in _rows(path, PIPES, 2, "genre, number"):
        if number != str(len(genres)):
            raise DataError(
                path, f"expected genre number {len(genres)}, got {excerpt(number)}", line=line
            )
        genres.append(name)
    return genres


def _users_100k(path: Path) -> Iterator[User]:
    for line, values in _rows(path, PIPES, 5, "id, age, gender, occupation, ZIP code"):
        user_id, age, gender, occupation, zip_code = values
        yield User(
            line=line,
            id=user_id,
            age=age,
            gender=gender,
            occupation=occupation,
            zip_code=zip_code,
        )


def _users_1m(path: Path) -> Iterator[User]:
    for line, values in _rows(path, COLONS_LATIN, 5, "id, gender, age, occupation, ZIP code"):
        user_id, gender, age, code, zip_code = values
        if code not in OCCUPATIONS_1M:
            raise DataError(
                path, f"expected an occupation from 0 to 20, got {excerpt(code)}", line=line
            )
        yield User(
            line=line,
            id=user_id,
            age=age,
            gender=gender,
            occupation=OCCUPATIONS_1M[code],
            zip_code=zip_code,
        )


def _films_1m(path: Path) -> Iterator[Film]:
    return _films(path, COLONS_LATIN)


def _films_10m(path: Path) -> Iterator[Film]:
    return _films(path, COLONS)


def _films_csv(path: Path) -> Iterator[Film]:
    return _films(path, COMMAS)


def _films(path: Path, layout: TextLayout) -> Iterator[Film]:
    rows = _rows(path, layout, 3, "id, title, genres")
    if layout.header:
        line, header = next(rows, (1, []))
        if header != ["movieId", "title", "genres"]:
            raise DataError(
                path, f"expected the columns movieId, title, genres, got {header}", line=line
            )
    for line, (item_id, title, genres) in rows:
        own = [] if genres in ("", NO_GENRES) else genres.split("|")
        yield Film(line=line, id=item_id, full_title=title, genres=own)


def _rows(
    path: Path, layout: TextLayout, count: int, fields: str
) -> Iterator[tuple[int, list[str]]]:
    for row in read_rows(path, layout):
        if len(row.fields) != count:
            raise DataError(
                path,
                f"expected {count} fields ({fields}) separated by {layout.separator_name}, got "
                f"{len(row.fields)} in {excerpt(layout.separator.join(row.fields))}",
                line=row.line,
            )
        yield row.line, row.fields


# 1M before 10M: it has the files of 10M and one more.
RELEASES = (
    Release(
        name="movielens-100k",
        ratings="u.data",
        ratings_layout=TABS,
        items="u.item",
        read_films=_films_100k,
        users="u.user",
        read_users=_users_100k,
        others=("u.genre",),
    ),
    Release(
        name="movielens-1m",
        ratings="ratings.dat",
        ratings_layout=COLONS,
        items="movies.dat",
        read_films=_films_1m,
        users="users.dat",
        read_users=_users_1m,
    ),
    Release(
        name="movielens-10m",
        ratings="ratings.dat",
        ratings_layout=COLONS,
        items="movies.dat",
        read_films=_films_10m,
    ),
    Release(
        name=None,
        ratings="ratings.csv",
        ratings_layout=COMMAS,
        items="movies.csv",
        read_films=_films_csv,
    ),
)
