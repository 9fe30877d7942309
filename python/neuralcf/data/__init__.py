"""Interactions: read them, hold them, split them, sample negatives, generate synthetic ones.

The readers need pyarrow (the extra `data`) and are imported on first use; everything else needs NumPy alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neuralcf.data.core import core
from neuralcf.data.dataset import Dataset
from neuralcf.data.features import Features
from neuralcf.data.negatives import draw_candidates, draw_negatives
from neuralcf.data.shards import Shards
from neuralcf.data.split import (
    GivenSplit,
    Split,
    given,
    hold_out,
    leave_last_out,
    leave_one_out,
    leave_share_out,
    renumbered,
    split_by_time,
)
from neuralcf.data.synthetic import PlantedTaste, planted_taste
from neuralcf.data.time_decay import decayed

if TYPE_CHECKING:
    from neuralcf.data.readers.interactions import ReadReport as ReadReport
    from neuralcf.data.readers.interactions import read_interactions as read_interactions
    from neuralcf.data.readers.ncf_files import read_ncf as read_ncf
    from neuralcf.data.readers.shards import write_shards as write_shards
    from neuralcf.data.readers.source import read_source as read_source

__all__ = [
    "Dataset",
    "Features",
    "GivenSplit",
    "PlantedTaste",
    "ReadReport",
    "Shards",
    "Split",
    "core",
    "decayed",
    "draw_candidates",
    "draw_negatives",
    "given",
    "hold_out",
    "leave_last_out",
    "leave_one_out",
    "leave_share_out",
    "planted_taste",
    "read_interactions",
    "read_ncf",
    "read_source",
    "renumbered",
    "split_by_time",
    "write_shards",
]

_NEEDS_PYARROW = {
    "ReadReport": "neuralcf.data.readers.interactions",
    "read_interactions": "neuralcf.data.readers.interactions",
    "read_ncf": "neuralcf.data.readers.ncf_files",
    "read_source": "neuralcf.data.readers.source",
    "write_shards": "neuralcf.data.readers.shards",
}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_PYARROW:
        raise AttributeError(f"module 'neuralcf.data' has no attribute {name!r}")
    try:
        return getattr(import_module(_NEEDS_PYARROW[name]), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "pyarrow":
            raise
        raise ImportError(f"neuralcf.data.{name} needs pyarrow: pip install 'neuralcf[data]'") from error
