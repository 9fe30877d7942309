"""OpenVINO on the CPU in float32, with the first layer split by hand.

Its default may be bfloat16, which is faster and wrong in the third digit; all engines are compared at equal accuracy.
"""

from functools import cache
from typing import Any, ClassVar

import numpy as np
import openvino
from openvino import opset13 as ops

from . import Floats, Indices, Layer, Model, in_blocks


def table(values: Floats) -> Any:
    """Create a constant that shares the memory of an array."""
    return ops.constant(values, shared_memory=True)


def gather(values: Floats, indices: Any) -> Any:
    return ops.gather(table(values), indices, ops.constant(np.int64(0)))


def linear(x: Any, layer: Layer) -> Any:
    return ops.add(ops.matmul(x, ops.constant(layer.weight), False, True), ops.constant(layer.bias))


def after_first(x: Any, model: Model) -> Any:
    """Compute the MLP's part of the logits [n, 1] from the first layer's sums [n, H0]."""
    for layer in [*model.layers[1:], model.hidden_output]:
        x = linear(ops.relu(x), layer)
    return x


def reshape(x: Any, *dims: int) -> Any:
    return ops.reshape(x, ops.constant(np.array(dims, dtype=np.int64)), False)


def pairs_model(model: Model, pairs: int) -> openvino.Model:
    """`users`, `items` int64 [pairs] -> probabilities float32 [pairs]."""
    users, items = (ops.parameter([pairs], np.int64, name=name) for name in ("users", "items"))
    mlp = after_first(ops.add(gather(model.user_first, users), gather(model.item_first, items)), model)
    products = ops.multiply(gather(model.user_gmf, users), gather(model.item_gmf, items))
    gmf = ops.reduce_sum(products, ops.constant(np.int64(1)))
    return openvino.Model([ops.sigmoid(ops.add(reshape(mlp, -1), gmf))], [users, items], "pairs")


def top_k_model(model: Model, users: int, k: int) -> openvino.Model:
    """`users` int64 [users] -> probabilities float32 [users, k], ids int64 [users, k]."""
    which = ops.parameter([users], np.int64, name="users")
    first = ops.unsqueeze(gather(model.user_first, which), ops.constant(np.int64(1)))
    sums = reshape(ops.add(first, table(model.item_first)), -1, model.item_first.shape[1])
    mlp = reshape(after_first(sums, model), -1, model.num_items)
    gmf = ops.matmul(gather(model.user_gmf, which), table(model.item_gmf_columns), False, False)
    best = ops.topk(ops.add(mlp, gmf), ops.constant(np.int64(k)), 1, "max", "value", index_element_type="i64")
    return openvino.Model([ops.sigmoid(best.output(0)).output(0), best.output(1)], [which], "top_k")


class OpenVinoSplit:
    """Compiles a model for each size of a call, on first use."""

    name: ClassVar[str] = "OpenVINO, split"
    naive: ClassVar[bool] = False

    def __init__(self, model: Model, threads: int) -> None:
        core = openvino.Core()
        options = {
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }

        def request(graph: openvino.Model) -> Any:
            return core.compile_model(graph, "CPU", options).create_infer_request()

        self.num_items = model.num_items
        self.for_pairs = cache(lambda pairs: request(pairs_model(model, pairs)))
        self.for_top_k = cache(lambda users, k: request(top_k_model(model, users, k)))

    def top_k(self, users: Indices, k: int) -> tuple[Indices, Floats]:
        return in_blocks(users, self.num_items, lambda block: self._top_k(block, k))

    def _top_k(self, users: Indices, k: int) -> tuple[Indices, Floats]:
        found = self.for_top_k(len(users), k).infer([users])
        return found[1].copy(), found[0].copy()

    def score(self, users: Indices, items: Indices) -> Floats:
        scores: Floats = self.for_pairs(len(users)).infer([users, items])[0]
        return scores.copy()
