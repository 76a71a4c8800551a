"""Small data sets written to disk, and the real ones where the machine has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

GENRES_100K = "unknown|0\nAction|1\nComedy|2\n\n"
FILMS_100K = (
    "1|Toy Story (1995)|01-Jan-1995||http://x|0|0|1\n"
    "2|Matrix, The (1999)|01-Jan-1999||http://x|0|1|0\n"
    "3|Misérables, Les (1995) |01-Jan-1995||http://x|1|0|0\n"
    "4|unknown||||1|0|0\n"
)
USERS_100K = "1|24|M|technician|85711\n2|53|F|other|V3N4P\n"
RATINGS_100K = "2\t1\t3\t881250949\n1\t3\t5\t891717742\n1\t1\t1\t878887116\n"

FILMS_1M = (
    "1::Toy Story (1995)::Animation|Comedy\n"
    "2::Star Wars: Episode IV (1977)::Sci-Fi\n"
    "3::Misérables, Les (1995)::Drama\n"
)
USERS_1M = "1::F::1::10::48067\n2::M::56::16::70072\n"
RATINGS_1M = "1::1::5::978300760\n2::3::3::978302109\n"

FILMS_CSV = (
    "movieId,title,genres\n"
    "1,Toy Story (1995),Animation|Comedy\n"
    '2,"American President, The (1995)",Drama\n'
    '3,"""Great Performances"" Cats (1998)",Musical\n'
    "4,Babylon 5,(no genres listed)\n"
    "5,Amélie (2001),Comedy|Romance\n"
)
RATINGS_CSV = "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,5,0.5,964981247\n7,3,5,0\n"

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def write_100k(tmp_path: Path) -> Write:
    """Write MovieLens 100K in small, with the given files in place of its own."""
    own = {
        "u.data": RATINGS_100K,
        "u.item": FILMS_100K,
        "u.user": USERS_100K,
        "u.genre": GENRES_100K,
        "u.occupation": "other\ntechnician\n",
    }
    return _writer(tmp_path / "ml-100k", own, "latin-1")


@pytest.fixture
def write_1m(tmp_path: Path) -> Write:
    """Write MovieLens 1M in small, with the given files in place of its own."""
    own = {"ratings.dat": RATINGS_1M, "movies.dat": FILMS_1M, "users.dat": USERS_1M}
    return _writer(tmp_path / "ml-1m", own, "latin-1")


@pytest.fixture
def write_10m(tmp_path: Path) -> Write:
    """Write MovieLens 10M in small, with the given files in place of its own."""
    return _writer(
        tmp_path / "ml-10M100K", {"ratings.dat": RATINGS_1M, "movies.dat": FILMS_1M}, "utf-8"
    )


@pytest.fixture
def write_csv(tmp_path: Path) -> Write:
    """Write a MovieLens CSV release in small, with the given files in place of its own."""
    own = {"ratings.csv": RATINGS_CSV, "movies.csv": FILMS_CSV}
    return _writer(tmp_path / "ml-latest-small", own, "utf-8")


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Find a real data set, or skip the test."""

    def find(name: str) -> Path:
        directory = REAL_DATA / name
        if not directory.is_dir():
            pytest.skip(f"the real data set is not on this machine: {directory}")
        return directory

    return find


def _writer(directory: Path, own: dict[str, str], encoding: str) -> Write:
    def write(changes: dict[str, str]) -> Path:
        directory.mkdir()
        for name, content in (own | changes).items():
            (directory / name).write_bytes(content.encode(encoding))
        return directory

    return write
