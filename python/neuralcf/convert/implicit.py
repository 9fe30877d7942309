"""Models of implicit: AlternatingLeastSquares, BayesianPersonalizedRanking, LogisticMatrixFactorization.

`model.save` writes a .npz file, in which biases are factors already: the score of all three is
`user_factors[u] . item_factors[i]`.
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any

from neuralcf.convert.converted import Converted, Ids, dot_product
from neuralcf.convert.opening import is_path, read_arrays
from neuralcf.errors import ArgumentError
from neuralcf.format.checks import Interactions

__all__ = ["from_implicit"]


def from_implicit(
    source: str | PathLike[str] | Any, *, ids: Ids | None = None, seen: Interactions | None = None
) -> Converted:
    """Convert a matrix factorisation of implicit.

    Args:
        source: the .npz file that `model.save` wrote, or the model, on a CPU or GPU.
        ids: the external ids `(users, items)` of the rows and columns of `user_items`; their numbers if None.
        seen: the matrix `user_items` that the model was fitted on, which its file does not hold.

    Raises:
        ArgumentError: not a matrix factorisation of implicit, or ids that do not fit.
        OSError: the file cannot be read.
    """
    factors: list[Any]
    if is_path(source):
        arrays = read_arrays(source)
        name = _name_of(arrays)
        if missing := [key for key in ("user_factors", "item_factors") if key not in arrays]:
            raise ArgumentError(
                f"{fspath(source)}: expected user_factors and item_factors of implicit, got {', '.join(arrays)}"
                f" without {' and '.join(missing)}"
            )
        factors = [arrays["user_factors"], arrays["item_factors"]]
    else:
        name = type(source).__name__
        factors = [getattr(source, key, None) for key in ("user_factors", "item_factors")]
        if any(array is None for array in factors):
            raise ArgumentError(f"source: expected a fitted matrix factorisation of implicit, got {name}")
    users, items = (array.to_numpy() if hasattr(array, "to_numpy") else array for array in factors)
    return dot_product("implicit", name, ("user_factors", users), ("item_factors", items), ids=ids, seen=seen)


def _name_of(arrays: dict[str, Any]) -> str:
    """Tell the model by the settings that only its file has."""
    if "use_cg" in arrays or "alpha" in arrays:
        return "AlternatingLeastSquares"
    if "verify_negative_samples" in arrays:
        return "BayesianPersonalizedRanking"
    return "LogisticMatrixFactorization" if "neg_prop" in arrays else "MatrixFactorizationBase"
