"""Gives the films of films.py an item tower that reads their plots, so that a film which nobody has
rated gets an embedding, too.

    .venv/bin/shortlist-export build-embedder MODEL build/embedder --name all-MiniLM-L6-v2
    .venv/bin/python docs/examples/text_tower.py build/embedder build/films
    .venv/bin/shortlist-server serve --bundle build/films/bundle --catalog-store catalog.sqlite

The tower is one matrix, from what a text means to the four numbers of a film, fitted to the films
that have both: ridge regression, a closed form. The films keep the embeddings that they have; the
tower is for those to come.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

import films
import numpy as np
from onnx import helper
from shortlist_exporters.export import export_bundle
from shortlist_server.bundle.item_text import item_text
from shortlist_server.llm.local_embedder import LocalEmbedder

PLOTS = Path(__file__).with_name("plots.csv")
RIDGE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundle of films with an item tower.")
    parser.add_argument("embedder", type=Path, help="what `build-embedder` wrote")
    parser.add_argument("out", type=Path, help="where to write spec and bundle")
    options = parser.parse_args()
    spec = write_spec(options.out / "spec", options.embedder)
    export_bundle(spec, options.out / "bundle", version="1", replace=True)
    print(f"written: {options.out / 'bundle'}")


def write_spec(folder: Path, embedder: Path) -> Path:
    """Write models, tables and an export spec; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    with PLOTS.open(encoding="utf-8", newline="") as file:
        plots = {row["id"]: row["plot"] for row in csv.DictReader(file)}
    known = [film for film in films._table(films.FILMS) if film[0] in plots]
    texts = [item_text([title, plots[film]]) for film, title, *_ in known]
    points = LocalEmbedder(embedder).embed_now(texts, kind="item", deadline_s=600)
    vectors = np.array([films._numbers(film[6]) for film in known])
    alike = points @ points.T + RIDGE * np.eye(len(known))
    of_text = (points.T @ np.linalg.solve(alike, vectors)).astype(np.float32)
    films._save_model(
        folder / "item_tower.onnx",
        [helper.make_node("MatMul", ["text", "of_text"], ["embedding"])],
        {"text": (films.FLOAT, ["item", len(of_text)])},
        {"embedding": ["item", 4]},
        {"of_text": of_text},
    )
    return films.write_spec(
        folder,
        texts={
            "attributes": ["title", "plot"],
            "file": os.path.relpath(PLOTS, folder),
            "embedder": os.path.relpath(embedder, folder),
        },
        item_tower={
            "model": "item_tower.onnx",
            "inputs": [
                {
                    "name": "text",
                    "dtype": "float32",
                    "shape": ["item", len(of_text)],
                    "source": "text.embedding",
                }
            ],
            "output": "embedding",
        },
    )


if __name__ == "__main__":
    main()
