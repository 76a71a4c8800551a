"""Finds out what kind of data set a folder holds, and loads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shortlist_exporters.data.dataset import Dataset
from shortlist_exporters.data.generic import STANDARD_NAMES, load_interactions
from shortlist_exporters.data.interaction_file import load_interaction_file
from shortlist_exporters.data.movielens import find_release, listing, load_movielens, release_files
from shortlist_exporters.data.sample import load_sample
from shortlist_exporters.data.tabular import CSV_SUFFIX, PARQUET_SUFFIX, TabularFile
from shortlist_exporters.errors import DataError

STANDARD_LISTS = {"genres": "|"}
"""Columns of a standard items file that are lists, as MovieLens writes them."""


def load_dataset(path: Path | None) -> Dataset:
    """Load the data set in a folder, or in one file of interactions.

    A folder is MovieLens if it has the files of a release. Otherwise it must hold
    `interactions.csv` with the columns `user_id`, `item_id` and, if there are such, `rating` and
    `time`; it may hold `items.csv` and `users.csv`, with `id` and any attributes. Each may be
    Parquet instead. A text column `genres` of the items is a list, separated by "|". A file is read
    as `load_interaction_file` says.

    Args:
        path: The folder or file; None for the built-in sample.

    Raises:
        DataError: there is nothing there, nothing in it is recognised, or a file is malformed.
    """
    if path is None:
        return load_sample()
    if not path.exists():
        raise DataError(
            path, "expected a folder with a data set, or a file, got nothing; check the path"
        )
    if not path.is_dir():
        return load_interaction_file(path)
    if find_release(path) is not None:
        return load_movielens(path)
    interactions = _find_file(path, "interactions")
    if interactions is None:
        raise DataError(
            path,
            f"expected MovieLens ({release_files()}), or interactions{CSV_SUFFIX} or "
            f"interactions{PARQUET_SUFFIX} with items and users beside it; got {listing(path)}",
        )
    return _load_standard(path, interactions)


def _load_standard(directory: Path, interactions: Path) -> Dataset:
    found = TabularFile(path=interactions).column_names()
    names = replace(
        STANDARD_NAMES,
        rating="rating" if "rating" in found else None,
        time="time" if "time" in found else None,
    )
    items = _find_file(directory, "items")
    if items is not None:
        columns = TabularFile(path=items).column_names()
        lists = {name: mark for name, mark in STANDARD_LISTS.items() if name in columns}
        names = replace(names, item_lists=lists)
    return load_interactions(
        interactions,
        name=directory.resolve().name,
        items=items,
        users=_find_file(directory, "users"),
        names=names,
    )


def _find_file(directory: Path, stem: str) -> Path | None:
    paths = [directory / f"{stem}{suffix}" for suffix in (CSV_SUFFIX, PARQUET_SUFFIX)]
    found = [path for path in paths if path.is_file()]
    if len(found) > 1:
        raise DataError(
            directory, f"expected one of {paths[0].name} and {paths[1].name}, got both; remove one"
        )
    return found[0] if found else None
