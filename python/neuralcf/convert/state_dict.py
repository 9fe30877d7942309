"""Weights by name: a state_dict of torch, or arrays of a .safetensors or .npz file.

The common layouts of NCF are known by their names, which LAYOUTS lists. For any other, the caller maps names. A plain
dot product is never guessed: user_embedding.weight and item_embedding.weight alone may as well be those of a graph
network, whose score is something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuralcf.convert.converted import Converted, Ids, dot_product
from neuralcf.convert.networks import network
from neuralcf.convert.opening import is_path, read_arrays, read_torch
from neuralcf.errors import ArgumentError, argument
from neuralcf.format.checks import Interactions

__all__ = ["DOT_PRODUCT_NAMES", "LAYOUTS", "Layout", "from_state_dict"]

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Layout:
    """Names of the weights of one program's NCF model."""

    program: str
    model: str
    gmf: tuple[str, str] | None
    """Embeddings of users and items whose product goes to the output."""
    mlp: tuple[str, str] | None
    """Embeddings of users and items that the first layer takes, users first."""
    layers: str | None
    """What comes before `.{n}.weight` and `.{n}.bias`; n ascends and may leave numbers out. ReLU after each layer."""
    output: str
    """What comes before `.weight` and, if there is one, `.bias`."""
    mlp_first: bool = False
    """Whether the output takes the MLP's block before the product."""
    ignored: str = r"(?!)"
    """Names that the score does not use."""

    def takes(self, names: set[str]) -> bool:
        """Whether the names are those of this layout, no fewer and no more."""
        required = {*(self.gmf or ()), *(self.mlp or ()), f"{self.output}.weight"}
        rest = {name for name in names - required - {f"{self.output}.bias"} if not re.fullmatch(self.ignored, name)}
        layers = {name for name in rest if self.layer_of(name) is not None}
        return required <= names and rest == layers and bool(layers) == (self.mlp is not None)

    def layer_of(self, name: str) -> int | None:
        """Return the number of the layer that a weight or bias belongs to."""
        found = self.layers and re.fullmatch(re.escape(self.layers) + r"\.(\d+)\.(weight|bias)", name)
        return int(found[1]) if found else None


def _pair(pattern: str) -> tuple[str, str]:
    return pattern.format("user"), pattern.format("item")


_GMF, _MLP = _pair("gmf.{}_embedding.weight"), _pair("mlp.{}_embedding.weight")

LAYOUTS: Final = (
    Layout("NeuralCF", "GMF", _GMF, None, None, "output"),
    Layout("NeuralCF", "MLP", None, _MLP, "mlp.layers", "output"),
    Layout("NeuralCF", "NeuMF", _GMF, _MLP, "mlp.layers", "output"),
    Layout(
        "RecBole",
        "NeuMF",
        _pair("{}_mf_embedding.weight"),
        _pair("{}_mlp_embedding.weight"),
        "mlp_layers.mlp_layers",
        "predict_layer",
    ),
    Layout("Cornac", "GMF", _pair("{}_embedding.weight"), None, None, "logit"),
    Layout("Cornac", "MLP", None, _pair("{}_embedding.weight"), "mlp_model", "logit"),
    Layout("Cornac", "NeuMF", _GMF, _MLP, "mlp.mlp_model", "logit", ignored=r"(gmf|mlp)\.logit\.(weight|bias)"),
    Layout(
        "guoyang9/NCF",
        "NeuMF",
        _pair("embed_{}_GMF.weight"),
        _pair("embed_{}_MLP.weight"),
        "MLP_layers",
        "predict_layer",
    ),
    Layout("LaceyChen17", "GMF", _pair("embedding_{}.weight"), None, None, "affine_output"),
    Layout("LaceyChen17", "MLP", None, _pair("embedding_{}.weight"), "fc_layers", "affine_output"),
    Layout(
        "LaceyChen17",
        "NeuMF",
        _pair("embedding_{}_mf.weight"),
        _pair("embedding_{}_mlp.weight"),
        "fc_layers",
        "affine_output",
        mlp_first=True,
    ),
    Layout("NVIDIA", "NeuMF", _pair("mf_{}_embed.weight"), _pair("mlp_{}_embed.weight"), "mlp", "final"),
)
"""The layouts that are recognised. A program is the package or the repository that gave the names."""

DOT_PRODUCT_NAMES: Final = ("users", "items", "user_biases", "item_biases", "bias")
"""What the weights of a dot product are mapped from: factors `[U, d]`, `[I, d]`, biases `[U]`, `[I]`, `[1]`."""

_NESTED = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "model.", "_orig_mod.")


def from_state_dict(
    source: str | PathLike[str] | Mapping[str, Any],
    *,
    names: Mapping[str, str] | None = None,
    ids: Ids | None = None,
    seen: Interactions | None = None,
) -> Converted:
    """Convert weights by their names.

    Args:
        source: a state_dict or arrays by name; or a .pth, .pt, .ckpt or .bin file of torch, read with `weights_only`,
            a .safetensors or a .npz file.
        names: for each tensor of the model format, or for `users`, `items`, `user_biases`, `item_biases` and `bias` of
            a dot product, the source's name; if None, the layout is recognised.
        ids: the external ids; the numbers of the rows if None.
        seen: the interactions known at training time.

    Raises:
        ArgumentError: a layout that is not recognised, names that the source does not have, or ids that do not fit.
        ModelFormatError: shapes that disagree, or a damaged file.
        ImportError: a file of torch, and torch is not installed.
        OSError: the file cannot be read.
    """
    where = fspath(source) if is_path(source) else "source"
    arrays = _read(source, where)
    if names is not None:
        return _mapped(arrays, names, where, ids, seen)
    arrays = _without_prefix(arrays)
    for layout in LAYOUTS:
        if layout.takes(set(arrays)):
            return _by_layout(arrays, layout, ids, seen)
    raise ArgumentError(
        f"{where}: expected the names of a known layout, or {argument('names')} that map users and items, or the "
        f"tensors of the model format, to them; got {_listed(arrays)}"
    )


def _read(source: Any, where: str) -> Arrays:
    if is_path(source):
        source = read_arrays(source) if Path(source).suffix in (".npz", ".npy", ".safetensors") else read_torch(source)
    for _ in range(2):  # checkpoints hold the weights one level down
        inner = [source[key] for key in _NESTED if isinstance(source, Mapping) and isinstance(source.get(key), Mapping)]
        source = inner[0] if inner else source
    if not isinstance(source, Mapping):
        raise ArgumentError(f"{where}: expected weights by name, got {type(source).__name__}")
    arrays = {str(name): numpy_of(value) for name, value in source.items() if hasattr(value, "shape")}
    if not arrays:
        raise ArgumentError(
            f"{where}: expected weights by name, got {', '.join(map(str, list(source)[:10])) or 'none'}"
        )
    return arrays


def numpy_of(value: Any) -> NDArray[Any]:
    """Return a tensor of torch, on any device and of any dtype, or an array, as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    return np.asarray(value)


def _without_prefix(arrays: Arrays) -> Arrays:
    for _ in _PREFIXES:
        for prefix in _PREFIXES:
            if all(name.startswith(prefix) for name in arrays):
                arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


def _by_layout(arrays: Arrays, layout: Layout, ids: Ids | None, seen: Interactions | None) -> Converted:
    numbers = sorted({number for name in arrays if (number := layout.layer_of(name)) is not None})
    gmf, mlp = ((arrays[names[0]], arrays[names[1]]) if names else None for names in (layout.gmf, layout.mlp))
    layers = []
    for number in numbers:
        weight, bias = (arrays.get(f"{layout.layers}.{number}.{part}") for part in ("weight", "bias"))
        if weight is None or weight.ndim != 2:
            shape = "none" if weight is None else f"shape {weight.shape}"
            raise ArgumentError(
                f"{layout.layers}.{number}.weight: expected a linear layer [out, in], got {shape}; other layers, such "
                "as batch normalisation, are not converted"
            )
        layers.append((weight, np.zeros(len(weight), np.float32) if bias is None else bias))
    return network(
        layout.program,
        layout.model,
        gmf=gmf,
        mlp=mlp,
        layers=layers,
        output=(arrays[f"{layout.output}.weight"], arrays.get(f"{layout.output}.bias")),
        mlp_first=layout.mlp_first,
        ids=ids,
        seen=seen,
    )


def _mapped(
    arrays: Arrays, names: Mapping[str, str], where: str, ids: Ids | None, seen: Interactions | None
) -> Converted:
    if missing := [theirs for theirs in names.values() if theirs not in arrays]:
        raise ArgumentError(f"{where}: {argument('names')}: {missing[0]} is not among {_listed(arrays)}")
    ours = {name: arrays[theirs] for name, theirs in names.items()}
    if {"users", "items"} <= ours.keys():
        if unknown := [name for name in ours if name not in DOT_PRODUCT_NAMES]:
            expected = ", ".join(DOT_PRODUCT_NAMES)
            raise ArgumentError(f"{argument('names')}: expected {expected} for a dot product, got {unknown[0]}")
        bias = ours.get("bias", np.zeros(1))
        if bias.size != 1:
            raise ArgumentError(f"{names['bias']}: expected one number, got shape {bias.shape}")
        return dot_product(
            "weights by name",
            "dot product",
            (names["users"], ours["users"]),
            (names["items"], ours["items"]),
            user_biases=(names["user_biases"], ours["user_biases"]) if "user_biases" in ours else None,
            item_biases=(names["item_biases"], ours["item_biases"]) if "item_biases" in ours else None,
            bias=float(bias.reshape(-1)[0]),
            ids=ids,
            seen=seen,
        )
    for layout in LAYOUTS[:3]:
        if layout.takes({*ours, "output.weight"}):
            width = sum(ours[pair[0]].shape[-1] for pair in (layout.gmf,) if pair)
            if "output.weight" not in ours and layout.mlp is None:
                ours["output.weight"] = np.ones((1, width), np.float32)
            if layout.takes(set(ours)):
                return _by_layout(ours, layout, ids, seen)
    raise ArgumentError(
        f"{argument('names')}: expected users and items, or all tensors of a gmf, mlp or neumf of the format, got "
        f"{', '.join(ours)}"
    )


def _listed(arrays: Arrays) -> str:
    shown = [f"{name} {list(array.shape)}" for name, array in list(arrays.items())[:12]]
    return ", ".join(shown) + (f" and {len(arrays) - 12} more" if len(arrays) > 12 else "")
