"""Interactions: read, held, split, drawn against and made up; NumPy only."""

from neuralcf.data.delimited import ReadReport, read_delimited
from neuralcf.data.interactions import Dataset
from neuralcf.data.negatives import draw_candidates, draw_negatives
from neuralcf.data.split import Split, leave_last_out, leave_one_out
from neuralcf.data.synthetic import PlantedTaste, planted_taste

__all__ = [
    "Dataset",
    "PlantedTaste",
    "ReadReport",
    "Split",
    "draw_candidates",
    "draw_negatives",
    "leave_last_out",
    "leave_one_out",
    "planted_taste",
    "read_delimited",
]
