"""What of the command `shortlist-export train` is about texts."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shortlist_exporters.data import Dataset
    from shortlist_exporters.text.items import EmbeddedTexts


def add_text_options(command: Any) -> None:
    """Add the options of `train` by which models read texts."""
    command.add_argument(
        "--text",
        nargs="+",
        metavar="NAME",
        help="with all: item tower and ranker also read what these texts of an item mean, in "
        "order: columns of the items, or of --texts; needs --embedder",
    )
    command.add_argument(
        "--texts", type=Path, metavar="FILE.csv", help="texts by item: a column `id`, and others"
    )
    command.add_argument(
        "--embedder",
        type=Path,
        metavar="DIR",
        help="what `build-embedder` wrote; it goes into --out",
    )
    command.add_argument(
        "--item-id-dropout",
        type=float,
        metavar="SHARE",
        help="share of item ids that count as unknown in training (default 0.1; with --text 0.5)",
    )


@contextmanager
def embedded_items(parsed: argparse.Namespace, dataset: Dataset) -> Iterator[EmbeddedTexts | None]:
    """Give the texts of the items that are to be trained on, embedded; None without `--text`. What
    was embedded is kept beside `--out` until the training is done.
    """
    from shortlist_server.errors import ConfigError

    if parsed.text is None:
        for option, value in (("--texts", parsed.texts), ("--embedder", parsed.embedder)):
            if value is not None:
                raise ConfigError(f"{option}: expected --text beside it, which names the texts")
        yield None
        return
    if parsed.embedder is None:
        raise ConfigError("--text: expected --embedder, which embeds the texts, got none")
    if parsed.features == "ids":
        raise ConfigError("--text: expected --features all, whose models read texts, got ids")
    from shortlist_exporters.recipes.output_folder import check_output
    from shortlist_exporters.text.items import embed_items, kept_beside

    # Before minutes of embedding.
    check_output(parsed.out, replace=parsed.replace)
    kept = kept_beside(parsed.out.absolute())
    yield embed_items(
        dataset.items["id"].to_pylist(),
        dataset.item_texts(),
        attributes=parsed.text,
        embedder=parsed.embedder,
        texts=parsed.texts,
        kept=kept,
        field="--text",
        types={field.name: str(field.type) for field in dataset.items.schema},
    )
    shutil.rmtree(kept, ignore_errors=True)
