"""The built-in sample: real films, and invented people who rate them.

For trying Shortlist on a machine that has no data set. Titles, years and genres are facts; every
rating is drawn from the tastes below, so a model that learns anything finds these tastes again.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shortlist_exporters.data.dataset import Dataset

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

USER_COUNT = 600
RATINGS_PER_USER_MIN = 20
RATINGS_PER_USER_MAX = 120
FIRST_TIME = 1_704_067_200
"""2024-01-01 00:00 UTC: all films are out by then."""
SECONDS_PER_DAY = 86_400

OCCUPATIONS = (
    "administrator",
    "artist",
    "doctor",
    "educator",
    "engineer",
    "homemaker",
    "lawyer",
    "librarian",
    "marketing",
    "programmer",
    "retired",
    "scientist",
    "student",
    "technician",
    "writer",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taste:
    """What a kind of person likes, and who such people tend to be."""

    name: str
    genres: dict[str, float]
    """From -2, avoids and dislikes, to 2, seeks and loves; a genre not named counts 0."""
    years: tuple[int, int] | None = None
    """Liked more if released within these years."""
    share: float
    """Part of all people, relative to the other tastes."""
    age: int
    """Mean age in years."""
    female: float
    """Part of them that is female."""
    occupations: tuple[str, ...]
    """What half of them do; the others do anything."""


# fmt: off
TASTES = (
    Taste(name="science fiction and action, no romance",
          genres={"Sci-Fi": 2.0, "Action": 1.2, "Adventure": 0.6,
                  "Romance": -1.6, "Musical": -1.4, "Drama": -0.3},
          share=1.5, age=29, female=0.30,
          occupations=("programmer", "engineer", "student", "technician")),
    Taste(name="romance and comedy, no horror",
          genres={"Romance": 1.8, "Comedy": 1.2, "Musical": 0.5,
                  "Horror": -2.0, "War": -1.0, "Sci-Fi": -0.8},
          share=1.4, age=34, female=0.70,
          occupations=("marketing", "administrator", "student", "educator")),
    Taste(name="family evenings: animation and children's films",
          genres={"Animation": 1.8, "Children": 1.6, "Fantasy": 0.8,
                  "Horror": -2.0, "Crime": -1.2, "War": -1.0},
          share=1.2, age=38, female=0.60,
          occupations=("homemaker", "educator", "administrator", "librarian")),
    Taste(name="horror and thrillers, no children's films",
          genres={"Horror": 2.0, "Thriller": 1.3, "Mystery": 0.7,
                  "Children": -1.8, "Musical": -1.4, "Romance": -0.8},
          share=1.0, age=26, female=0.40,
          occupations=("student", "technician", "artist", "programmer")),
    Taste(name="old Hollywood",
          genres={"Film-Noir": 1.5, "Romance": 0.7, "Drama": 0.7, "Western": 0.4,
                  "Action": -0.9, "Sci-Fi": -0.8},
          years=(1920, 1965), share=0.9, age=56, female=0.50,
          occupations=("retired", "librarian", "lawyer", "writer")),
    Taste(name="crime and mystery",
          genres={"Crime": 1.7, "Mystery": 1.4, "Film-Noir": 1.1, "Thriller": 1.0,
                  "Children": -1.4, "Fantasy": -0.8},
          share=1.1, age=41, female=0.45,
          occupations=("lawyer", "writer", "engineer", "administrator")),
    Taste(name="war and history, westerns",
          genres={"War": 1.9, "Western": 1.6, "Drama": 0.5,
                  "Musical": -1.4, "Animation": -1.2, "Romance": -0.6},
          share=0.8, age=52, female=0.30,
          occupations=("retired", "engineer", "educator", "doctor")),
    Taste(name="musicals",
          genres={"Musical": 2.0, "Romance": 0.8, "Animation": 0.6, "Comedy": 0.4,
                  "Horror": -1.6, "Action": -1.0},
          share=0.7, age=43, female=0.65,
          occupations=("artist", "educator", "homemaker", "librarian")),
    Taste(name="documentaries and serious drama",
          genres={"Documentary": 2.0, "Drama": 1.2, "War": 0.6,
                  "Action": -1.2, "Fantasy": -1.0, "Horror": -0.9},
          share=0.9, age=45, female=0.50,
          occupations=("scientist", "doctor", "writer", "educator")),
    Taste(name="fantasy and adventure",
          genres={"Fantasy": 1.8, "Adventure": 1.5, "Animation": 0.6,
                  "Film-Noir": -1.0, "Crime": -0.9, "War": -0.6},
          share=1.1, age=25, female=0.50,
          occupations=("student", "artist", "librarian", "programmer")),
    Taste(name="comedy above all",
          genres={"Comedy": 2.0,
                  "War": -1.0, "Horror": -0.8, "Thriller": -0.6, "Drama": -0.6},
          share=1.1, age=31, female=0.45,
          occupations=("marketing", "student", "technician", "administrator")),
    Taste(name="action and thrillers of the last decades",
          genres={"Action": 1.7, "Thriller": 1.2, "Crime": 0.5,
                  "Musical": -1.6, "Romance": -0.9, "Documentary": -0.8},
          years=(1985, 2023), share=1.3, age=33, female=0.35,
          occupations=("technician", "engineer", "marketing", "student")),
)
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """The invented people."""

    weights: Floats
    """[users, tastes]: how much of each taste a person has; rows sum to 1."""
    main_tastes: Integers
    """[users]: the taste that a person has most of."""


def load_sample(seed: int = 20260) -> Dataset:
    """Make the built-in sample: 384 films, 600 users, about 35,000 ratings from 1 to 5.

    Items have `title`, `year` and `genres` (in the words of MovieLens), users `age`, `gender` and
    `occupation`, which hint at their tastes. Each user's ratings stand in the order of time.

    Args:
        seed: 0 or more. The same seed makes equal tables, with the same release of numpy.
    """
    rng = np.random.default_rng(seed)
    items = _items_table()
    crowd = _draw_crowd(rng)
    return Dataset(
        name="sample-films",
        simulated=True,
        interactions=_draw_interactions(rng, items, crowd),
        items=items,
        users=_draw_users(rng, crowd),
    )


def _items_table() -> pa.Table:
    file = resources.files("shortlist_exporters.data").joinpath("sample_films.tsv")
    with file.open(encoding="utf-8") as lines:
        films = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return pa.table(
        {
            "id": pa.array([str(number) for number in range(1, len(films) + 1)], pa.string()),
            "title": pa.array([film["title"] for film in films], pa.string()),
            "year": pa.array([int(film["year"]) for film in films], pa.int64()),
            "genres": pa.array(
                [film["genres"].split("|") for film in films], pa.list_(pa.string())
            ),
        }
    )


def _draw_crowd(rng: np.random.Generator) -> Crowd:
    share = np.array([taste.share for taste in TASTES])
    share /= share.sum()
    weights = np.zeros((USER_COUNT, len(TASTES)))
    for user in range(USER_COUNT):
        first, second = rng.choice(len(TASTES), size=2, replace=False, p=share)
        # Two in five have a second taste: without mixtures every user would be a copy of a profile.
        part = rng.uniform(0.55, 0.8) if rng.random() < 0.4 else 1.0
        weights[user, first] = part
        weights[user, second] = 1.0 - part
    return Crowd(weights=weights, main_tastes=weights.argmax(axis=1))


def _draw_users(rng: np.random.Generator, crowd: Crowd) -> pa.Table:
    ages, genders, occupations = [], [], []
    for main_taste in crowd.main_tastes:
        taste = TASTES[main_taste]
        ages.append(int(np.clip(rng.normal(taste.age, 10.0), 15, 80)))
        genders.append("F" if rng.random() < taste.female else "M")
        choices = taste.occupations if rng.random() < 0.5 else OCCUPATIONS
        occupations.append(choices[rng.integers(len(choices))])
    return pa.table(
        {
            "id": pa.array(_user_ids(), pa.string()),
            "age": pa.array(ages, pa.int64()),
            "gender": pa.array(genders, pa.string()),
            "occupation": pa.array(occupations, pa.string()),
        }
    )


def _draw_interactions(rng: np.random.Generator, items: pa.Table, crowd: Crowd) -> pa.Table:
    liking = crowd.weights @ _liking_of_tastes(items)
    film_count = len(items)
    fame = rng.normal(0.0, 0.8, film_count)
    quality = 0.25 * fame + rng.normal(0.0, 0.3, film_count)  # good films are seen more
    kindness = rng.normal(0.0, 0.3, USER_COUNT)
    counts = _draw_counts(rng)
    users, films, stars, times = [], [], [], []
    for user in range(USER_COUNT):
        # The largest of score + Gumbel noise: a draw without replacement, each next film in
        # proportion to exp(score) of those left. What attracts a person most tends to come first.
        pull = fame + 1.3 * liking[user] + rng.gumbel(size=film_count)
        seen = np.argsort(-pull, kind="stable")[: counts[user]]
        opinion = 2.75 + kindness[user] + quality[seen] + 0.9 * liking[user, seen]
        opinion += rng.normal(0.0, 0.55, len(seen))
        users.append(np.full(len(seen), user))
        films.append(seen)
        stars.append(np.clip(np.rint(opinion), 1, 5))
        times.append(_draw_times(rng, len(seen)))
    user_ids = pa.array(_user_ids(), pa.string())
    return pa.table(
        {
            "user_id": user_ids.take(pa.array(np.concatenate(users))),
            "item_id": items["id"].combine_chunks().take(pa.array(np.concatenate(films))),
            "rating": pa.array(np.concatenate(stars).astype(np.float32)),
            "time": pa.array(np.concatenate(times)),
        }
    )


def _liking_of_tastes(items: pa.Table) -> Floats:
    """Return how much each taste likes each film, [tastes, films], about -2 to 3."""
    liking = np.zeros((len(TASTES), len(items)))
    for film, (year, genres) in enumerate(
        zip(items["year"].to_pylist(), items["genres"].to_pylist(), strict=True)
    ):
        for row, taste in enumerate(TASTES):
            # Not the mean: a film of two liked genres is liked more than one of either.
            total = sum(taste.genres.get(genre, 0.0) for genre in genres)
            liking[row, film] = total / len(genres) ** 0.5
            if taste.years is not None and taste.years[0] <= year <= taste.years[1]:
                liking[row, film] += 0.8
    return liking


def _draw_counts(rng: np.random.Generator) -> Integers:
    spread = RATINGS_PER_USER_MAX - RATINGS_PER_USER_MIN
    skewed = rng.beta(1.4, 2.25, USER_COUNT)  # most people rate few films; the mean is 58 ratings
    return RATINGS_PER_USER_MIN + np.rint(spread * skewed).astype(np.int64)


def _draw_times(rng: np.random.Generator, count: int) -> Integers:
    """Return ascending seconds: evenings with ratings minutes apart, and days between them."""
    start = FIRST_TIME + rng.integers(0, 365 * SECONDS_PER_DAY)
    within = rng.exponential(300.0, count) + 20
    between = rng.exponential(6.0 * SECONDS_PER_DAY, count)
    gaps = np.where(rng.random(count) < 0.2, between, within)
    times: Integers = start + np.cumsum(np.ceil(gaps)).astype(np.int64)
    return times


def _user_ids() -> list[str]:
    return [str(number) for number in range(1, USER_COUNT + 1)]
