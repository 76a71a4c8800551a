"""Recipes: models that Shortlist trains itself."""

from shortlist_exporters.recipes.options import TwoTowerOptions
from shortlist_exporters.recipes.trained import TrainingSummary
from shortlist_exporters.recipes.two_tower import train_two_tower

__all__ = ["TrainingSummary", "TwoTowerOptions", "train_two_tower"]
