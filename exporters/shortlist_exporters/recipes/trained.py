"""What a training leaves behind: tables, vocabularies, and the spec of a bundle."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from shortlist_server.bundle.manifest import Data, Feature, Input
from shortlist_server.bundle.sections import EMBEDDER_FILES

from shortlist_exporters.data.dataset import Dataset
from shortlist_exporters.recipes.features import FeatureSet
from shortlist_exporters.recipes.options import TwoTowerOptions
from shortlist_exporters.recipes.output_folder import SPEC_FILE
from shortlist_exporters.spec import (
    InteractionsSpec,
    ItemsSpec,
    RankerSpec,
    Spec,
    TableSpec,
    TextsSpec,
    TowerSpec,
    VocabularySpec,
    read_spec,
)
from shortlist_exporters.text.items import EmbeddedTexts

PACKAGES = ("tensorflow", "tensorflow-recommenders", "tf-keras")

QUERY_TOWER, ITEM_TOWER, RANKER = "query_tower", "item_tower", "ranker"
"""Folders of the SavedModels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """What came of a training; also in `training.json`."""

    user_count: int
    item_count: int
    train_count: int
    test_count: int
    retrieval_loss: float
    """Mean over the last epoch of -log(share of the score that the true item of a batch gets)."""
    ranking_rmse: float | None
    """Of predicted ratings, in the last epoch, on the training data; None without ratings."""
    seconds: float
    skipped: Mapping[str, str]
    """Columns that the models do not see, with the reason."""


def write_tables(
    folder: Path, dataset: Dataset, users: pa.Table, train: pa.Table, test: pa.Table
) -> None:
    """Write the tables as Parquet: items, users, and the two parts of the interactions.

    `interactions.parquet` is the training part alone: seen items and popularity come from it, and
    a held-out interaction must be in neither.
    """
    pq.write_table(dataset.items, folder / "items.parquet")
    pq.write_table(users, folder / "users.parquet")
    columns = ["user_id", "item_id", "rating", "time"]
    pq.write_table(train.select(columns), folder / "interactions.parquet")
    if len(test):
        pq.write_table(test.select(columns), folder / "test.parquet")


def all_users(dataset: Dataset) -> pa.Table:
    """Return every user of a data set: those of its table, then those who only did something."""
    active = pc.unique(dataset.interactions["user_id"])
    if dataset.users is None:
        return pa.table({"id": active})
    missing = active.filter(pc.invert(pc.is_in(active, dataset.users["id"].combine_chunks())))
    if not len(missing):
        return dataset.users
    return pa.concat_tables([dataset.users, pa.table({"id": missing})], promote_options="default")


def write_spec(
    folder: Path,
    dataset: Dataset,
    *,
    sets: Sequence[FeatureSet],
    models: Mapping[str, list[Input]],
    embedding: str,
    weights: dict[str, float],
    texts: TextsSpec | None = None,
) -> Spec:
    """Write vocabularies and the export spec.

    Args:
        folder: Where the models are already.
        dataset: What was trained on.
        sets: Features of users, items and context.
        models: Inputs of each model, by its folder.
        embedding: Name of the towers' output.
        weights: Weight of each of the ranker's outputs in the ranking score.
        texts: What `write_texts` gave; None where the models read none.
    """
    (folder / "vocabularies").mkdir()
    vocabularies = {}
    for position, (name, tokens) in enumerate(
        (name, tokens) for found in sets for name, tokens in found.vocabularies.items()
    ):
        # Numbered, not named: a column's name may hold anything.
        file = f"vocabularies/{position:03}.json"
        (folder / file).write_text(json.dumps(tokens, ensure_ascii=False), encoding="utf-8")
        vocabularies[name] = VocabularySpec(file=file)
    features: list[Feature] = [feature for found in sets for feature in found.features]
    ranker = models.get(RANKER)
    spec = Spec(
        name=dataset.name,
        metric="inner_product",
        data=Data(name=dataset.name, simulated=dataset.simulated),
        framework_versions=framework_versions(),
        vocabularies=vocabularies,
        features=features,
        texts=texts,
        items=ItemsSpec(file="items.parquet"),
        users=TableSpec(file="users.parquet"),
        interactions=InteractionsSpec(file="interactions.parquet", time="time"),
        query_tower=_tower(QUERY_TOWER, models, embedding),
        item_tower=_tower(ITEM_TOWER, models, embedding),
        ranker=None if ranker is None else RankerSpec(model=RANKER, inputs=ranker, weights=weights),
    )
    path = folder / SPEC_FILE
    # Not without defaults: a transform's kind is one.
    path.write_text(spec.model_dump_json(indent=1, exclude_none=True) + "\n", encoding="utf-8")
    return read_spec(path)


def write_texts(folder: Path, texts: EmbeddedTexts) -> TextsSpec:
    """Write the points of the items' texts, and what embedded them; returns the spec's part."""
    (folder / "texts").mkdir()
    np.save(folder / "texts/embeddings.npy", texts.points, allow_pickle=False)
    if texts.embedder is not None:
        (folder / "texts/embedder").mkdir()
        for name in EMBEDDER_FILES:
            shutil.copyfile(texts.embedder / name, folder / "texts/embedder" / name)
    return TextsSpec(
        attributes=list(texts.attributes),
        embeddings="texts/embeddings.npy",
        embedder=None if texts.embedder is None else "texts/embedder",
        identity=texts.identity if texts.embedder is None else None,
    )


def write_training(folder: Path, options: TwoTowerOptions, summary: TrainingSummary) -> None:
    """Write `training.json`: how the models came about."""
    split: dict[str, Any] = {
        "kind": "random",
        "test_fraction": options.test_fraction,
        "seed": options.seed,
    }
    if options.split is not None:
        split = {"kind": options.split.kind, "text": options.split.text}
    document: dict[str, Any] = {
        "recipe": "two-tower",
        "options": dataclasses.asdict(options),
        "split": split,
        "result": dataclasses.asdict(summary),
        "framework_versions": framework_versions(),
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / "training.json").write_text(text + "\n", encoding="utf-8")


def framework_versions() -> dict[str, str]:
    """Return the versions of what trained the models."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _tower(name: str, models: Mapping[str, list[Input]], embedding: str) -> TowerSpec:
    return TowerSpec(model=name, inputs=models[name], output=embedding)
