"""The TFRS tutorials' models, trained, bundled, served, and measured over gRPC.

    SHORTLIST_DATA=path/to/ml-100k python benchmarks/tutorial.py       (make evaluate)

Trains the models of the basic_retrieval and basic_ranking tutorials on MovieLens 100K with their
settings and split, makes a bundle, and measures it on all test ratings through the server, with
exact search and with the index. Then compares ONNX with TensorFlow: how many users get the same top
20. Writes benchmarks/results/tutorial.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from serving import serving
from shortlist_exporters.onnx.tensorflow import SavedModel
from shortlist_server.funnel.budget import Budget
from shortlist_server.funnel.options import Options
from shortlist_server.funnel.types import Query, User
from shortlist_server.generation import Generation, GenerationOptions, load_generation
from shortlist_server.runtime.models import item_feeds, load_models

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build/tutorial"
RESULT = ROOT / "benchmarks/results/tutorial.json"
USER_COUNT = 1_000
TOP = 20
CANDIDATES = 200
EF = 200


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=42)
    seed = parser.parse_args().seed
    data = os.environ.get("SHORTLIST_DATA")
    if not data:
        sys.exit("set SHORTLIST_DATA to a folder with MovieLens 100K")
    for features in ("ids", "all"):
        folder = OUT / features
        settings = ["--features", features, "--test-fraction", "0.2", "--seed", str(seed)]
        export("train", "--data", data, *settings, "--out", str(folder / "trained"), "--replace")
        export("bundle", str(folder / "trained"), "--out", str(folder / "bundle"), "--replace")
    bundle = OUT / "ids/bundle"
    command = [sys.executable, "-m", "shortlist_server.cli", "serve", "--bundle", str(bundle)]
    command += ["--listen", "127.0.0.1:0", "--drain-notice-ms", "0", "--log-level", "warning"]
    with serving(command) as target:
        split = ("--data", data, "--split", f"random:0.8:{seed}", "--target", target)
        evaluations = [
            evaluate(bundle, *split, "--exact"),
            evaluate(bundle, *split, "--ef", str(EF)),
        ]
    report = {
        "data": load_generation(bundle).bundle.manifest.data.name,
        "seed": seed,
        "pair_count": evaluations[0]["pair_count"],
        "evaluations": evaluations,
        "agreement": agreement(OUT / "all/bundle", OUT / "all/trained"),
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def export(*arguments: str) -> None:
    subprocess.run([Path(sys.executable).parent / "shortlist-export", *arguments], check=True)


def evaluate(bundle: Path, *arguments: str) -> dict[str, Any]:
    """Return the figures of `shortlist-export evaluate` with seen films in the lists, and as many
    candidates as items wanted, so that retrieval's first k are the candidates.
    """
    program = str(Path(sys.executable).parent / "shortlist-export")
    command = [program, "evaluate", str(bundle), *arguments]
    command += ["--include-seen", "--candidates", "100", "--draws", "0", "--json"]
    figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    def hits(stage: str) -> dict[str, float]:
        return {
            str(k): figures["stages"][stage][f"hit_at_{k}"]["value"] for k in figures["cutoffs"]
        }

    return {
        "bundle": f"{figures['bundle']['name']} {figures['bundle']['version']}",
        "search": figures["search"],
        "seen_excluded": figures["seen_excluded"],
        "pair_count": figures["counts"]["test_pairs"],
        "unknown_count": figures["counts"]["unknown_pairs"],
        "retrieve_hits": hits("candidates"),
        "recommend_hits": hits("served"),
        "rating_rmse": figures["metrics"]["rmse"]["value"],
    }


def agreement(folder: Path, trained: Path) -> dict[str, Any]:
    """Compare the served top 20 with what the SavedModels give, for 1,000 users.

    TensorFlow's list is made by numpy from TensorFlow's numbers alone: item tower, query tower, the
    nearest candidates, ranker, sort. Both leave out what the user has seen and search exactly. The
    users are all that the bundle knows, and unknown ones with the features of known ones.
    """
    generation = load_generation(folder, GenerationOptions(exact_items_max=0, exact_ms_max=0))
    bundle = generation.bundle
    models = load_models(bundle)
    towers = {name: SavedModel(trained / name) for name in models}
    feeds = {
        name: item_feeds(bundle.item_ids, bundle.item_columns, model)
        for name, model in models.items()
    }
    items = towers["item_tower"].run(feeds["item_tower"])["embedding"]
    assert bundle.manifest.ranker is not None
    weights = bundle.manifest.ranker.weights
    same_items = same_order = 0
    for user in users_of(generation):
        values = {f"user.{name}": value for name, value in user.features.items()}
        values["user.id"] = user.id
        request = {
            name: model.inputs.request_feeds(values)
            for name, model in models.items()
            if name != "item_tower"
        }
        query = towers["query_tower"].run(request["query_tower"])["embedding"][0]
        scores = items @ query
        scores[generation.catalog.seen(user.id)] = -np.inf
        found = np.lexsort((np.arange(len(scores)), -scores))[:CANDIDATES]
        ranked = models["ranker"].inputs.candidate_feeds(
            request["ranker"],
            {name: values[found] for name, values in feeds["ranker"].items()},
            len(found),
            scores[found].astype(np.float32),
        )
        outputs = towers["ranker"].run(ranked)
        final = sum(weight * outputs[name].astype(np.float64) for name, weight in weights.items())
        expected = found[np.lexsort((found, -np.asarray(final)))[:TOP]].tolist()
        options = Options(limit=TOP, candidate_count=CANDIDATES, exact=True)
        answer = generation.funnel.recommend(Query(subject=user), options, Budget(10))
        served = answer.items.rows.tolist()
        same_order += served == expected
        same_items += set(served) == set(expected)
    return {
        "top": TOP,
        "user_count": USER_COUNT,
        "same_items_share": same_items / USER_COUNT,
        "same_order_share": same_order / USER_COUNT,
        "golden_difference_max": max(parity.difference_max for parity in generation.parity),
    }


def users_of(generation: Generation) -> list[User]:
    """Return 1,000 users with their features: the known ones, then unknown ones like them."""
    assert generation.bundle.users is not None
    known = generation.bundle.users.ids[:USER_COUNT]
    users = []
    for number in range(USER_COUNT):
        name = known[number % len(known)]
        features = generation.catalog.user_features(name) or {}
        users.append(
            User(
                id=name if number < len(known) else f"unknown-{number}",
                features={full.removeprefix("user."): value for full, value in features.items()},
            )
        )
    return users


if __name__ == "__main__":
    main()
