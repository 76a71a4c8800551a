from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from shortlist_exporters.data import Dataset, load_sample
from shortlist_exporters.data.sample import TASTES

# The vocabulary of the MovieLens CSV releases.
MOVIELENS_GENRES = {
    "Action",
    "Adventure",
    "Animation",
    "Children",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
}


@pytest.fixture(scope="module")
def sample() -> Dataset:
    return load_sample()


def test_sample_says_that_it_is_simulated(sample: Dataset) -> None:
    assert sample.name == "sample-films"
    assert sample.simulated is True


def test_films_are_distinct_and_span_decades_and_genres(sample: Dataset) -> None:
    films = sample.items.to_pylist()

    assert 300 <= len(films) <= 400
    assert [film["id"] for film in films] == [str(number) for number in range(1, len(films) + 1)]
    assert len({(film["title"], film["year"]) for film in films}) == len(films)
    assert all(film["title"] == film["title"].strip() != "" for film in films)
    assert all(1895 <= film["year"] <= 2023 for film in films)
    assert len({film["year"] // 10 for film in films}) >= 10
    counts = Counter(genre for film in films for genre in film["genres"])
    assert set(counts) == MOVIELENS_GENRES
    assert min(counts.values()) >= 10
    assert all(film["genres"] == sorted(set(film["genres"])) for film in films)


@pytest.mark.parametrize(
    ("title", "year", "genre"),
    [
        ("Metropolis", 1927, "Sci-Fi"),
        ("Casablanca", 1942, "Romance"),
        ("Singin' in the Rain", 1952, "Musical"),
        ("The Godfather", 1972, "Crime"),
        ("The Matrix", 1999, "Sci-Fi"),
        ("Parasite", 2019, "Thriller"),
    ],
)
def test_known_films_have_their_year_and_genre(
    sample: Dataset, title: str, year: int, genre: str
) -> None:
    (film,) = [film for film in sample.items.to_pylist() if film["title"] == title]

    assert film["year"] == year
    assert genre in film["genres"]


def test_ratings_have_the_promised_shape(sample: Dataset) -> None:
    counts = Counter(sample.interactions["user_id"].to_pylist())
    ratings = Counter(sample.interactions["rating"].to_pylist())

    assert 33_000 <= len(sample.interactions) <= 37_000
    assert len(counts) == 600
    assert min(counts.values()) >= 20
    assert max(counts.values()) <= 120
    assert set(ratings) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert [str(field.type) for field in sample.interactions.schema] == [
        "string",
        "string",
        "float",
        "int64",
    ]


def test_nobody_rates_a_film_twice(sample: Dataset) -> None:
    table = sample.interactions
    pairs = list(zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True))

    assert len(set(pairs)) == len(pairs)


def test_popularity_is_skewed(sample: Dataset) -> None:
    counts = sorted(Counter(sample.interactions["item_id"].to_pylist()).values(), reverse=True)

    tenth = counts[: len(sample.items) // 10]
    assert sum(tenth) > 2 * len(sample.interactions) / 10


def test_times_of_a_user_ascend_after_the_last_release(sample: Dataset) -> None:
    times = defaultdict(list)
    for row in sample.interactions.to_pylist():
        times[row["user_id"]].append(row["time"])

    assert all(own == sorted(set(own)) for own in times.values())
    assert min(own[0] for own in times.values()) >= 1_704_067_200
    assert max(own[-1] for own in times.values()) < 1_830_000_000


def test_every_id_of_the_ratings_is_in_items_and_users(sample: Dataset) -> None:
    assert sample.users is not None
    assert set(sample.interactions["item_id"].to_pylist()) <= set(sample.items["id"].to_pylist())
    assert set(sample.interactions["user_id"].to_pylist()) == set(sample.users["id"].to_pylist())


def test_users_have_features_of_the_promised_types(sample: Dataset) -> None:
    assert sample.users is not None
    assert {field.name: str(field.type) for field in sample.users.schema} == {
        "id": "string",
        "age": "int64",
        "gender": "string",
        "occupation": "string",
    }
    assert set(sample.users["gender"].to_pylist()) == {"F", "M"}
    assert all(15 <= age <= 80 for age in sample.users["age"].to_pylist())


def test_tastes_show_in_the_ratings(sample: Dataset) -> None:
    # Who has seen many horror films likes them better than others do: models can learn that.
    genres = dict(
        zip(sample.items["id"].to_pylist(), sample.items["genres"].to_pylist(), strict=True)
    )
    horror = defaultdict(list)
    seen = Counter(sample.interactions["user_id"].to_pylist())
    for row in sample.interactions.to_pylist():
        if "Horror" in genres[row["item_id"]]:
            horror[row["user_id"]].append(row["rating"])

    fans = [np.mean(own) for user, own in horror.items() if len(own) / seen[user] > 0.25]
    others = [np.mean(own) for user, own in horror.items() if len(own) / seen[user] < 0.10]
    assert len(fans) > 20
    assert np.mean(fans) > np.mean(others) + 1.0


def test_age_hints_at_taste(sample: Dataset) -> None:
    assert sample.users is not None
    years = dict(zip(sample.items["id"].to_pylist(), sample.items["year"].to_pylist(), strict=True))
    ages = dict(zip(sample.users["id"].to_pylist(), sample.users["age"].to_pylist(), strict=True))
    seen = defaultdict(list)
    for row in sample.interactions.to_pylist():
        seen[row["user_id"]].append(years[row["item_id"]])

    pairs = np.array([(ages[user], np.mean(own)) for user, own in seen.items()])
    correlation = np.corrcoef(pairs.T)[0, 1]
    assert -0.8 < correlation < -0.2


def test_tastes_name_only_genres_that_exist() -> None:
    assert {genre for taste in TASTES for genre in taste.genres} <= MOVIELENS_GENRES


def test_same_seed_gives_equal_tables(sample: Dataset) -> None:
    again = load_sample()

    assert again.interactions.equals(sample.interactions)
    assert again.items.equals(sample.items)
    assert again.users is not None
    assert again.users.equals(sample.users)


def test_another_seed_gives_other_people_and_the_same_films(sample: Dataset) -> None:
    other = load_sample(seed=7)

    assert not other.interactions.equals(sample.interactions)
    assert other.items.equals(sample.items)
