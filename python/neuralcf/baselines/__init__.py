"""Baselines: simple rankers that a trained model should beat. They need NumPy alone."""

from neuralcf.baselines.base import Baseline
from neuralcf.baselines.graph_filter import GraphFilter
from neuralcf.baselines.ials import IALS
from neuralcf.baselines.item_to_item import EASE, ItemKNN
from neuralcf.baselines.popularity import Popularity

__all__ = ["BASELINES", "EASE", "IALS", "Baseline", "GraphFilter", "ItemKNN", "Popularity"]

BASELINES: dict[str, type[Baseline]] = {kind.name: kind for kind in (Popularity, ItemKNN, EASE, IALS, GraphFilter)}
"""The baselines by their names on the command line."""
