"""Trains two towers and a ranker on the interactions of a data set, with TensorFlow Recommenders.

Reads top to bottom: features -> towers -> ranker -> SavedModels, tables and the spec that makes a
bundle of them. TensorFlow is imported when training begins, so that `--help` does not wait for it.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from shortlist_server.errors import ConfigError

from shortlist_exporters.data.dataset import Dataset
from shortlist_exporters.data.split import random_split
from shortlist_exporters.recipes.features import (
    TEXT_INPUT,
    FeatureSet,
    column_features,
    id_features,
    text_features,
    time_features,
)
from shortlist_exporters.recipes.options import TwoTowerOptions
from shortlist_exporters.recipes.output_folder import output_folder
from shortlist_exporters.recipes.trained import (
    ITEM_TOWER,
    QUERY_TOWER,
    RANKER,
    TrainingSummary,
    all_users,
    write_spec,
    write_tables,
    write_texts,
    write_training,
)
from shortlist_exporters.text.items import EmbeddedTexts

if TYPE_CHECKING:
    from shortlist_exporters.recipes.examples import Examples
    from shortlist_exporters.recipes.ranking import RankingModel
    from shortlist_exporters.recipes.retrieval import RetrievalModel


def train_two_tower(
    dataset: Dataset,
    out: Path,
    options: TwoTowerOptions | None = None,
    *,
    texts: EmbeddedTexts | None = None,
    replace: bool = False,
) -> TrainingSummary:
    """Train, and write everything that `shortlist-export bundle` needs into one folder.

    The folder holds SavedModels (`query_tower`, `item_tower`, `ranker`), tables (`items.parquet`,
    `users.parquet`, `interactions.parquet`, and `test.parquet` if anything was held out),
    `vocabularies/`, `export.json` and `training.json`. Without ratings there is no ranker. On one
    machine, the same data, options and seed give the same models.

    Args:
        dataset: What to learn from.
        out: The folder to write; must not exist. It appears when everything is in it.
        options: How to train; the defaults where None.
        texts: Points of the items' texts, which item tower and ranker are to read, a row for each
            item of the data set; they go into `texts`, and their embedder with them. None: the
            models read none.
        replace: Whether a folder that an earlier training left at `out` gives way.

    Raises:
        ExportError: there is something at `out` already.
        ConfigError: the data set is too small for the options, or there are texts for models of
            ids alone.
        MissingExtra: TensorFlow or TensorFlow Recommenders is not installed.
    """
    options = options or TwoTowerOptions()
    if texts is not None and options.features == "ids":
        raise ConfigError("texts: expected features `all`, which read them, got `ids`")
    begin = time.perf_counter()
    with output_folder(out, replace=replace) as folder:
        train, test = _split(dataset.interactions, options)
        inputs = _inputs(dataset, train, options, texts)
        retrieval, retrieval_loss = _train_retrieval(train, inputs, options)
        ranking, rmse = _train_ranking(train, inputs, options)
        _write(folder, dataset, inputs, retrieval, ranking, options)
        write_tables(folder, dataset, inputs.users, train, test)
        summary = TrainingSummary(
            user_count=len(inputs.users),
            item_count=len(inputs.items),
            train_count=len(train),
            test_count=len(test),
            retrieval_loss=retrieval_loss,
            ranking_rmse=rmse,
            seconds=round(time.perf_counter() - begin, 1),
            skipped={**inputs.user.skipped, **inputs.item.skipped},
        )
        write_training(folder, options, summary)
    return summary


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """Tables, and what the models see of them."""

    users: pa.Table
    items: pa.Table
    user: FeatureSet
    item: FeatureSet
    context: FeatureSet
    texts: EmbeddedTexts | None

    @property
    def query(self) -> FeatureSet:
        return self.user + self.context


def _split(interactions: pa.Table, options: TwoTowerOptions) -> tuple[pa.Table, pa.Table]:
    if len(interactions) < 2:
        raise ConfigError(f"interactions: expected 2 or more to train on, got {len(interactions)}")
    if options.split is not None:
        return options.split.apply(interactions)
    if not options.test_fraction:
        return interactions, interactions.slice(0, 0)
    try:
        return random_split(interactions, test_fraction=options.test_fraction, seed=options.seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _inputs(
    dataset: Dataset, train: pa.Table, options: TwoTowerOptions, texts: EmbeddedTexts | None
) -> _Inputs:
    # Users and items of the whole data set are known, as in the tutorials; what they did in the
    # test part is not.
    users, items = all_users(dataset), dataset.items
    user, item = id_features("user", users["id"]), id_features("item", items["id"])
    context = FeatureSet(side="context")
    if options.features == "all":
        user += column_features("user", users)
        item += column_features("item", items)
        if options.time:
            context = time_features(train["time"])
    if texts is not None:
        item += text_features(texts.dimension)
    for column, reason in {**user.skipped, **item.skipped}.items():
        _say(f"{column} is not used: {reason}")
    return _Inputs(users=users, items=items, user=user, item=item, context=context, texts=texts)


def _train_retrieval(
    train: pa.Table, inputs: _Inputs, options: TwoTowerOptions
) -> tuple[RetrievalModel, float]:
    from shortlist_exporters.recipes.keras import tf
    from shortlist_exporters.recipes.retrieval import RetrievalModel, Tower

    tf.keras.utils.set_random_seed(options.seed)
    examples = _examples(train, inputs)
    if options.features == "all":
        examples.extra["sampling_probability"] = examples.sampling_probabilities()
    dropout = options.id_dropout if options.features == "all" else 0.0
    model = RetrievalModel(
        Tower(inputs.query.inputs, dimension=options.dimension, id_dropout=dropout),
        Tower(
            inputs.item.inputs,
            dimension=options.dimension,
            id_dropout=options.item_dropout(with_texts=inputs.texts is not None),
            text_dropout=options.text_dropout,
        ),
    )
    model.compile(optimizer=tf.keras.optimizers.Adagrad(options.learning_rate))
    return model, _fit(model, "towers", examples, options)["softmax_loss"]


def _train_ranking(
    train: pa.Table, inputs: _Inputs, options: TwoTowerOptions
) -> tuple[RankingModel | None, float | None]:
    from shortlist_exporters.recipes.keras import tf
    from shortlist_exporters.recipes.ranking import RankingModel

    rated = train.filter(pc.is_valid(train["rating"]))
    if not len(rated):
        _say("no ranker: the interactions have no ratings")
        return None, None
    tf.keras.utils.set_random_seed(options.seed)
    tutorial = options.features == "ids"
    model = RankingModel(
        inputs.query.inputs,
        inputs.item.inputs,
        dimension=options.dimension,
        hidden=options.ranker_hidden,
        id_dropout=0.0 if tutorial else options.id_dropout,
        item_id_dropout=options.item_dropout(with_texts=inputs.texts is not None),
        text_dropout=options.text_dropout,
        rating_mean=0.0 if tutorial else pc.mean(rated["rating"]).as_py(),
    )
    optimizers = tf.keras.optimizers
    model.compile(
        optimizer=optimizers.Adagrad(options.learning_rate)
        if tutorial
        else optimizers.Adam(options.ranker_learning_rate)
    )
    return model, _fit(model, "ranker", _examples(rated, inputs), options)["rmse"]


def _examples(interactions: pa.Table, inputs: _Inputs) -> Examples:
    from shortlist_exporters.recipes.examples import make_examples

    examples = make_examples(
        interactions,
        users=inputs.users,
        items=inputs.items,
        user=inputs.user,
        item=inputs.item,
        context=inputs.context,
    )
    if inputs.texts is not None:
        examples.item_tensors[TEXT_INPUT] = inputs.texts.points
    return examples


def _fit(model: Any, name: str, examples: Examples, options: TwoTowerOptions) -> dict[str, float]:
    """Train a model and return the figures of the last epoch."""
    from shortlist_exporters.recipes.progress import EpochProgress

    size = options.interactions_per_step
    steps = -(-len(examples) // size)
    progress = EpochProgress(name, epochs=options.epochs, steps=steps)
    try:
        history = model.fit(
            examples.batches(size, epochs=options.epochs, seed=options.seed),
            epochs=options.epochs,
            steps_per_epoch=steps,
            callbacks=[progress],
            verbose=0,
        )
    finally:
        progress.close()
    return {figure: float(values[-1]) for figure, values in history.history.items()}


def _write(
    folder: Path,
    dataset: Dataset,
    inputs: _Inputs,
    retrieval: RetrievalModel,
    ranking: RankingModel | None,
    options: TwoTowerOptions,
) -> None:
    from shortlist_exporters.recipes.serving import (
        AFFINITY,
        EMBEDDING,
        RATING,
        save_ranker,
        save_tower,
    )

    query, item = inputs.query.inputs, inputs.item.inputs
    models = {
        QUERY_TOWER: save_tower(retrieval.query_tower, query, folder / QUERY_TOWER),
        ITEM_TOWER: save_tower(retrieval.item_tower, item, folder / ITEM_TOWER),
    }
    weights: dict[str, float] = {}
    if ranking is not None:
        affinity = options.features == "all"
        models[RANKER] = save_ranker(ranking, query, item, folder / RANKER, affinity=affinity)
        weights = {RATING: 1.0, AFFINITY: 1.0} if affinity else {RATING: 1.0}
    write_spec(
        folder,
        dataset,
        sets=[inputs.user, inputs.item, inputs.context],
        models=models,
        embedding=EMBEDDING,
        weights=weights,
        texts=None if inputs.texts is None else write_texts(folder, inputs.texts),
    )


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
