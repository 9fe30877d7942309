"""An independent implementation of the model format and the arithmetic, in NumPy and in exact rational numbers.

Letters: `B` pairs or users, `I` items, `U` users, `G` GMF width.
"""

import json
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; `g` is 0 without a GMF part, `layers` is empty without an MLP part."""

    users: int
    items: int
    g: int = 0
    mlp: tuple[int, int] = (0, 0)
    layers: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        return "neumf" if self.g and self.layers else "gmf" if self.g else "mlp"

    def __str__(self) -> str:
        return f"{self.kind}-{self.users}x{self.items}-{self.g}-{'-'.join(map(str, self.mlp + self.layers))}"


def random_tensors(shape: Shape, seed: int = 0) -> Tensors:
    """Return random weights, scaled so that activations keep their magnitude from layer to layer."""
    random = np.random.default_rng(seed)

    def uniform(*dims: int, scale: float = 1.0) -> np.ndarray:
        return random.uniform(-scale, scale, dims).astype(np.float32)

    tensors = {}
    if shape.g:
        tensors["gmf.user_embedding.weight"] = uniform(shape.users, shape.g)
        tensors["gmf.item_embedding.weight"] = uniform(shape.items, shape.g)
    if shape.layers:
        tensors["mlp.user_embedding.weight"] = uniform(shape.users, shape.mlp[0])
        tensors["mlp.item_embedding.weight"] = uniform(shape.items, shape.mlp[1])
        inputs = sum(shape.mlp)
        for n, outputs in enumerate(shape.layers):
            tensors[f"mlp.layers.{n}.weight"] = uniform(outputs, inputs, scale=math.sqrt(6 / inputs))
            tensors[f"mlp.layers.{n}.bias"] = uniform(outputs, scale=0.1)
            inputs = outputs
    width = shape.g + (shape.layers[-1] if shape.layers else 0)
    tensors["output.weight"] = uniform(1, width, scale=math.sqrt(3 / width))
    tensors["output.bias"] = uniform(1, scale=0.1)
    return tensors


def random_history(items: int, width: int, d: int = 21, seed: int = 0) -> Tensors:
    """Return random tensors of history.safetensors: two linear encoders and a ridge regression."""
    random = np.random.default_rng(seed)
    shapes = {
        "empty": (width,),
        "bias": (width,),
        "linear.0.items": (items, width),
        "linear.1.items": (items, width),
        "ridge.0.items": (items, d),
        "ridge.0.output": (d, width),
    }
    tensors = {name: random.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    tensors["linear.0.exponent"], tensors["linear.1.exponent"] = np.float32([0.5]), np.float32([0.75])
    tensors["ridge.0.diagonal"] = random.uniform(0, 1, d).astype(np.float32)
    tensors["ridge.0.l2"] = np.float32([0.3, 0.05])
    return tensors


def fold_in(tensors: Tensors, history: np.ndarray) -> np.ndarray:
    """Return the vectors of a user with this history, float64 [W], by the formula of the specification."""
    if not history.size:
        return tensors["empty"]
    t = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    n, vectors = history.size, t["bias"].copy()
    for name in [name.removesuffix(".items") for name in t if name.endswith(".items")]:
        h = t[f"{name}.items"][history]
        if name.startswith("linear"):
            vectors += n ** -t[f"{name}.exponent"][0] * h.sum(axis=0)
        else:
            ridge = np.diag(t[f"{name}.diagonal"] + t[f"{name}.l2"][0] + n * t[f"{name}.l2"][1])
            vectors += np.linalg.solve(h.T @ h + ridge, h.sum(axis=0)) @ t[f"{name}.output"]
    return vectors


def ruler(logits: np.ndarray) -> Tensors:
    """Return a GMF whose logits are exactly `logits[U, I]`: user embeddings are one-hot."""
    logits = np.atleast_2d(np.asarray(logits, np.float32))
    return {
        "gmf.user_embedding.weight": np.eye(len(logits), dtype=np.float32),
        "gmf.item_embedding.weight": np.ascontiguousarray(logits.T),
        "output.weight": np.ones((1, len(logits)), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }


def logits64(tensors: Tensors, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Compute the logits of pairs `[B]` by the textbook formula in float64."""
    wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    blocks = []
    if "gmf.user_embedding.weight" in wide:
        blocks.append(wide["gmf.user_embedding.weight"][users] * wide["gmf.item_embedding.weight"][items])
    if "mlp.user_embedding.weight" in wide:
        x = np.hstack([wide["mlp.user_embedding.weight"][users], wide["mlp.item_embedding.weight"][items]])
        for n in range(sum(name.endswith(".bias") for name in wide) - 1):
            x = np.maximum(x @ wide[f"mlp.layers.{n}.weight"].T + wide[f"mlp.layers.{n}.bias"], 0)
        blocks.append(x)
    return np.hstack(blocks) @ wide["output.weight"][0] + wide["output.bias"][0]


def sigmoid64(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(logits))
    return np.where(logits < 0, small, 1.0) / (1.0 + small)


def round32(x: Fraction) -> Fraction:
    """Round to the nearest float32, ties to even, with subnormals; `x` must not overflow."""
    _, exponent = math.frexp(float(x))
    quantum = Fraction(2) ** max(exponent - 24, -149)
    return round(x / quantum) * quantum


def logit_to_the_bit(tensors: Tensors, user: int, item: int) -> np.float32:
    """Compute the logit of a pair as `rust/kernel/README.md` specifies it: each step exact, then rounded."""
    exact = {name: np.vectorize(Fraction, otypes=[object])(tensor) for name, tensor in tensors.items()}

    def chain(start: Fraction, *pairs: tuple[np.ndarray, np.ndarray]) -> Fraction:
        for a, b in pairs:
            for left, right in zip(a, b, strict=True):
                start = round32(left * right + start)
        return start

    output = exact["output.weight"][0]
    terms = []
    if "gmf.user_embedding.weight" in exact:
        p, q = exact["gmf.user_embedding.weight"][user], exact["gmf.item_embedding.weight"][item]
        g = np.array([round32(w * x) for w, x in zip(output, p, strict=False)])
        terms.append((g, q))
        output = output[len(p) :]
    if "mlp.user_embedding.weight" in exact:
        p, q = exact["mlp.user_embedding.weight"][user], exact["mlp.item_embedding.weight"][item]
        weight, bias = exact["mlp.layers.0.weight"], exact["mlp.layers.0.bias"]
        item_half = [chain(Fraction(0), (w[len(p) :], q)) for w in weight]
        user_half = [chain(b, (w[: len(p)], p)) for w, b in zip(weight, bias, strict=True)]
        x = np.array([max(round32(a + b), Fraction(0)) for a, b in zip(item_half, user_half, strict=True)])
        n = 1
        while f"mlp.layers.{n}.weight" in exact:
            weight, bias = exact[f"mlp.layers.{n}.weight"], exact[f"mlp.layers.{n}.bias"]
            x = np.array([max(chain(b, (w, x)), Fraction(0)) for w, b in zip(weight, bias, strict=True)])
            n += 1
        terms.append((output, x))
    return np.float32(float(chain(exact["output.bias"][0], *terms)))


def best(logits: np.ndarray, kept: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and logits `[B, k]` of the best items of `logits[B, I]` under the mask `kept[B, I]`, ties by index."""
    ids = np.full((len(logits), k), -1, np.int64)
    scores = np.full((len(logits), k), -np.inf, np.float32)
    for row, (line, keep) in enumerate(zip(logits, kept, strict=True)):
        order = np.lexsort((np.arange(len(line)), -line.astype(np.float64)))
        order = order[keep[order]][:k]
        ids[row, : len(order)], scores[row, : len(order)] = order, line[order]
    return ids, scores


def ranks(logits: np.ndarray, kept: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Count for each row the other kept items that score at least as high as its item. `logits`, `kept`: `[B, I]`."""
    rows = np.arange(len(logits))
    rivals = (logits >= logits[rows, items][:, None]) & kept
    rivals[rows, items] = False
    return rivals.sum(axis=1)


def safetensors_header(tensors: Tensors, metadata: dict[str, str]) -> bytes:
    """Return what precedes the data of a safetensors file: the length of the header, and the header."""
    header: dict[str, object] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        dtype = f"{tensor.dtype.kind.upper()}{8 * tensor.itemsize}"
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def safetensors(tensors: Tensors, metadata: dict[str, str]) -> bytes:
    """Return the bytes of a safetensors file."""
    return safetensors_header(tensors, metadata) + b"".join(tensor.tobytes() for tensor in tensors.values())


def kind_of(tensors: Tensors) -> str:
    has = {name.split(".")[0] for name in tensors}
    return "neumf" if {"gmf", "mlp"} <= has else "gmf" if "gmf" in has else "mlp"


def metadata_of(tensors: Tensors) -> dict[str, str]:
    return {"format": "neuralcf", "format_version": "1", "kind": kind_of(tensors), "activation": "relu"}


def write_file(path: Path, tensors: Tensors, **metadata: str) -> Path:
    """Write a single-file model."""
    path.write_bytes(safetensors(tensors, metadata_of(tensors) | metadata))
    return path
