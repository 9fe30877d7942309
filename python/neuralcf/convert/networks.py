"""From the parts of a foreign network to a GMF, MLP or NeuMF in the tensors of the model format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuralcf._core import check_tensors
from neuralcf.convert.converted import Converted, Ids, float_array, ids_or, source_of
from neuralcf.errors import ArgumentError
from neuralcf.format.checks import Interactions, Kind

__all__ = ["network"]


def network(
    library: str,
    model: str,
    *,
    gmf: tuple[Any, Any] | None,
    mlp: tuple[Any, Any] | None,
    layers: Sequence[tuple[Any, Any]] = (),
    output: tuple[Any, Any],
    mlp_first: bool = False,
    ids: Ids | None = None,
    seen: Interactions | None = None,
) -> Converted:
    """Make a GMF, MLP or NeuMF of a network with ReLU after each layer.

    Args:
        library: where the model comes from, for config.json.
        model: the library's name of it.
        gmf: embeddings of users `[U, G]` and of items `[I, G]` whose product goes to the output; None for an MLP.
        mlp: embeddings of users `[U, Mu]` and of items `[I, Mi]` that layer 0 takes, users first; None for a GMF.
        layers: weights `[out, in]` and biases `[out]` of each layer.
        output: weights `[1, G + H]` and a bias `[1]`; zero if None.
        mlp_first: whether the output takes the MLP's block before the product.
        ids: the external ids; the numbers of the rows if None.
        seen: the interactions known at training time.

    Raises:
        ArgumentError: neither block, or what is not a finite number in float32.
        ModelFormatError: shapes that disagree.
    """
    tensors: dict[str, NDArray[np.float32]] = {}
    for block, pair in (("gmf", gmf), ("mlp", mlp)):
        for side, array in zip(("user", "item"), pair or (), strict=False):
            name = f"{block}.{side}_embedding.weight"
            tensors[name] = float_array(name, array, dimensions=2)
    for at, (weight, bias) in enumerate(layers if mlp else ()):
        tensors[f"mlp.layers.{at}.weight"] = float_array(f"mlp.layers.{at}.weight", weight, dimensions=2)
        tensors[f"mlp.layers.{at}.bias"] = float_array(f"mlp.layers.{at}.bias", bias)
    weight = float_array("output.weight", output[0], dimensions=2)
    if mlp_first and gmf and mlp:
        width = tensors["gmf.user_embedding.weight"].shape[1]
        weight = np.hstack([weight[:, -width:], weight[:, :-width]])
    tensors["output.weight"] = weight
    tensors["output.bias"] = np.zeros(1, np.float32) if output[1] is None else float_array("output.bias", output[1])
    if not gmf and not mlp:
        raise ArgumentError(f"{model}: expected embeddings of users and items, got none")
    kind: Kind = "neumf" if gmf and mlp else "gmf" if gmf else "mlp"
    _, sizes = check_tensors(tensors, kind=kind)
    return Converted(
        tensors, kind, ids_or(ids, sizes["num_users"], sizes["num_items"]), seen, source_of(library, model)
    )
