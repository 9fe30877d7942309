"""Neural collaborative filtering: train in PyTorch, serve fast and exactly from Rust.

`Scorer` works with dense indices, `Recommender` with your own ids; these two and `save` need NumPy alone. `GMF`, `MLP`,
`NeuMF` and the package `training` need torch and are imported on first use; `export` takes a torch module.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neuralcf._core import Scorer, StopToken, __version__
from neuralcf.errors import (
    ArgumentError,
    DivergedError,
    InternalError,
    ModelFormatError,
    NeuralCFError,
    OutOfRangeError,
    PublishedError,
    StoppedError,
    UnknownItemError,
    UnknownUserError,
)
from neuralcf.format.save import export, save
from neuralcf.results import ItemVectors, TopK, UserVectors
from neuralcf.serving.recommender import Recommendations, Recommender

if TYPE_CHECKING:
    from neuralcf import training as training
    from neuralcf.models import GMF as GMF
    from neuralcf.models import MLP as MLP
    from neuralcf.models import NeuMF as NeuMF

__all__ = [
    "GMF",
    "MLP",
    "ArgumentError",
    "DivergedError",
    "InternalError",
    "ItemVectors",
    "ModelFormatError",
    "NeuMF",
    "NeuralCFError",
    "OutOfRangeError",
    "PublishedError",
    "Recommendations",
    "Recommender",
    "Scorer",
    "StopToken",
    "StoppedError",
    "TopK",
    "UnknownItemError",
    "UnknownUserError",
    "UserVectors",
    "__version__",
    "export",
    "save",
    "training",
]

_NEEDS_TORCH = {
    "GMF": "neuralcf.models",
    "MLP": "neuralcf.models",
    "NeuMF": "neuralcf.models",
    "training": "neuralcf.training",
}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module 'neuralcf' has no attribute {name!r}")
    try:
        module = import_module(_NEEDS_TORCH[name])
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "tqdm"):
            raise
        raise ImportError(f"neuralcf.{name} needs {error.name}: pip install 'neuralcf[train]'") from error
    return module if name == "training" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
