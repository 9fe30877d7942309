"""What a checkpoint holds of teachers and students: their arrays by name, without the interactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuralcf.training.fold_in import FoldIn
from neuralcf.training.student import Student, Tower
from neuralcf.training.teachers import Factors, ItemNeighbours, ItemWeights

__all__ = ["arrays_of", "factors_of", "student_of", "tensors_of"]

_FOLD_IN, _TOWER, _LAYER = "fold_in.", "tower.", "layer."


def tensors_of(model: Factors | ItemWeights | ItemNeighbours | Student) -> dict[str, torch.Tensor]:
    """Give what a checkpoint holds of a teacher or of a student."""
    if isinstance(model, Student):
        tower = {} if model.tower is None else _tensors_of_tower(model.tower)
        return tensors_of(model.factors) | {_TOWER + name: tensor for name, tensor in tower.items()}
    return _tensors(model, model.fold_in if isinstance(model, Factors) else None)


def _tensors_of_tower(tower: Tower) -> dict[str, torch.Tensor]:
    """Give what a checkpoint holds of a tower."""
    layers = {
        f"{_LAYER}{n}.{name}": torch.from_numpy(array)
        for n, layer in enumerate(tower.layers)
        for name, array in zip(("weight", "bias"), layer, strict=True)
    }
    return _tensors(tower, tower.fold_in) | layers


def factors_of(tensors: Mapping[str, torch.Tensor]) -> Factors:
    """Undo `tensors_of` a matrix factorisation."""
    arrays = arrays_of(tensors)
    fold_in = _take(arrays, _FOLD_IN)
    return Factors(**arrays, fold_in=FoldIn.from_tensors(fold_in) if fold_in else None)


def student_of(tensors: Mapping[str, torch.Tensor]) -> Student:
    """Undo `tensors_of` a student."""
    parts = dict(tensors)
    arrays = arrays_of(_take(parts, _TOWER))
    fold_in, layers = _take(arrays, _FOLD_IN), _take(arrays, _LAYER)
    if not arrays:
        return Student(factors_of(parts))
    tower = Tower(
        **arrays,
        layers=tuple((layers[f"{n}.weight"], layers[f"{n}.bias"]) for n in range(len(layers) // 2)),
        fold_in=FoldIn.from_tensors(fold_in) if fold_in else None,
    )
    return Student(factors_of(parts), tower)


def arrays_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    """Give tensors as arrays that share their memory."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _tensors(part: object, fold_in: FoldIn | None) -> dict[str, torch.Tensor]:
    arrays = {name: array for name, array in vars(part).items() if isinstance(array, np.ndarray)}
    if fold_in is not None:
        of_fold_in = fold_in.tensors(empty=np.zeros(0, np.float32))
        arrays |= {_FOLD_IN + name: array for name, array in of_fold_in.items()}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _take(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Take the values whose names begin with a prefix out, and the prefix off."""
    names = [name for name in values if name.startswith(prefix)]
    return {name.removeprefix(prefix): values.pop(name) for name in names}
