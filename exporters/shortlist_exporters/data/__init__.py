"""Loaders: from data sets as they are published to the three tables that the recipes read."""

from shortlist_exporters.data.dataset import Dataset
from shortlist_exporters.data.generic import ColumnNames, load_interactions, read_table_file
from shortlist_exporters.data.load import load_dataset
from shortlist_exporters.data.movielens import load_movielens
from shortlist_exporters.data.sample import load_sample
from shortlist_exporters.data.split import random_split

__all__ = [
    "ColumnNames",
    "Dataset",
    "load_dataset",
    "load_interactions",
    "load_movielens",
    "load_sample",
    "random_split",
    "read_table_file",
]
