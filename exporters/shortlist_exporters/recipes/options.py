"""How the two-tower recipe trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shortlist_server.errors import ConfigError

from shortlist_exporters.data.split import Split

ITEM_ID_DROPOUT_WITH_TEXTS = 0.5
TUTORIAL_BATCH_SIZE = 8192
BATCH_SIZE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoTowerOptions:
    """Options of `train_two_tower`. All of them change results.

    Raises:
        ConfigError: a value is out of its range.
    """

    features: Literal["all", "ids"] = "all"
    """`ids`: user and item ids alone, the models of the TFRS tutorials "Retrieval" and "Ranking".
    `all`: also every usable column of users and items, with three corrections to the tutorials:
    popular items are not held against themselves (sampling correction), some ids are forgotten in
    training so that unknown users and items are served well, and the ranker learns with Adam."""

    time: bool = False
    """Whether the query tower and the ranker see the time of the request, `context.time`; only with
    `all`. Off: on MovieLens 100K it costs hits (top-100 0.53 instead of 0.62), since a request
    comes after every training example."""

    dimension: int = 32
    """Components of an embedding. 1..4096."""

    epochs: int = 3
    """Passes over the training data. 1 or more."""

    batch_size: int | None = None
    """Interactions in a step; those of a batch are each other's negatives. 1 or more. None: 8192
    with `ids`, as in the tutorials, else 1024, which is also three times faster."""

    learning_rate: float = 0.1
    """Of Adagrad, which trains the towers; with `ids` also the ranker. Above 0."""

    ranker_learning_rate: float = 0.001
    """Of Adam, which trains the ranker unless `features` is `ids`. Above 0."""

    ranker_hidden: tuple[int, ...] = (256, 64)
    """Width of each hidden layer of the ranker, at least one."""

    id_dropout: float = 0.1
    """Share of ids that count as unknown in training. 0 to below 1; not used with `ids`."""

    item_id_dropout: float | None = None
    """The same for items alone. None: `id_dropout`, and 0.5 where the models read texts: else what
    an item is known for by its id leaves nothing for its text to explain."""

    text_dropout: float = 0.1
    """Share of texts that count as missing in training, so that items without one are served well.
    0 to below 1; not used without texts."""

    test_fraction: float = 0.0
    """Share of the interactions that goes to `test.parquet` instead, at random. 0 to below 1."""

    split: Split | None = None
    """What goes to `test.parquet` instead; not beside `test_fraction`."""

    seed: int = 42
    """Of the split, the first weights and the order. 0 or more."""

    def __post_init__(self) -> None:
        hidden = min(self.ranker_hidden, default=0)
        for name, value, expected, valid in (
            ("dimension", self.dimension, "1 to 4096", 1 <= self.dimension <= 4096),
            ("epochs", self.epochs, "1 or more", self.epochs >= 1),
            ("batch_size", self.batch_size, "1 or more", self.interactions_per_step >= 1),
            ("learning_rate", self.learning_rate, "above 0", self.learning_rate > 0),
            (
                "ranker_learning_rate",
                self.ranker_learning_rate,
                "above 0",
                self.ranker_learning_rate > 0,
            ),
            ("ranker_hidden", self.ranker_hidden, "one width or more, each 1 or more", hidden >= 1),
            ("id_dropout", self.id_dropout, "0 to below 1", 0 <= self.id_dropout < 1),
            (
                "item_id_dropout",
                self.item_id_dropout,
                "0 to below 1",
                0 <= (self.item_id_dropout or 0) < 1,
            ),
            ("text_dropout", self.text_dropout, "0 to below 1", 0 <= self.text_dropout < 1),
            ("test_fraction", self.test_fraction, "0 to below 1", 0 <= self.test_fraction < 1),
            ("seed", self.seed, "0 to 2**32 - 1", 0 <= self.seed < 2**32),
        ):
            if not valid:
                raise ConfigError(f"{name}: expected {expected}, got {value}")
        if self.split is not None and self.test_fraction:
            raise ConfigError(
                f"split: expected no test_fraction beside it, got {self.test_fraction:g}"
            )

    def item_dropout(self, *, with_texts: bool) -> float:
        """Return the share of item ids that count as unknown in training."""
        if self.features == "ids":
            return 0.0
        if self.item_id_dropout is not None:
            return self.item_id_dropout
        return ITEM_ID_DROPOUT_WITH_TEXTS if with_texts else self.id_dropout

    @property
    def interactions_per_step(self) -> int:
        """Interactions in a step, once `features` has decided what None means."""
        if self.batch_size is not None:
            return self.batch_size
        return TUTORIAL_BATCH_SIZE if self.features == "ids" else BATCH_SIZE
