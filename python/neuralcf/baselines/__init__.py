"""Baselines: simple rankers that a neural model has to beat to be worth its training. NumPy only."""

from neuralcf.baselines.base import Baseline
from neuralcf.baselines.ials import IALS
from neuralcf.baselines.item_to_item import EASE, ItemKNN
from neuralcf.baselines.popularity import Popularity

__all__ = ["BASELINES", "EASE", "IALS", "Baseline", "ItemKNN", "Popularity"]

BASELINES: dict[str, type[Baseline]] = {kind.name: kind for kind in (Popularity, ItemKNN, EASE, IALS)}
"""The baselines by the names that the command line knows."""
