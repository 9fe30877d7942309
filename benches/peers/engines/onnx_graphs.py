"""NeuMF as ONNX graphs, for pairs and for the catalogue, naive and split.

Embedding tables are declared, not stored. Whoever runs a graph passes their memory by name, so a large catalogue is
neither copied nor limited to the two gigabytes of a protobuf.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from . import Floats, Layer, Model

OPSET = 18


@dataclass
class Graph:
    """An ONNX graph under construction; its methods add a node and return the name of its output."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    tables: dict[str, Floats] = field(default_factory=dict)

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        output = f"{operation}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [output], **attributes))
        return output

    def constant(self, values: NDArray[np.generic]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def table(self, name: str, values: Floats) -> str:
        if name not in self.tables:
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape)
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=name)
            self.constants.append(tensor)
            self.tables[name] = values
        return name

    def linear(self, x: str, layer: Layer) -> str:
        return self.add("Gemm", x, self.constant(layer.weight), self.constant(layer.bias), transB=1)

    def model(self, inputs: tuple[str, ...], outputs: Mapping[str, tuple[str, int]]) -> ModelProto:
        """Build the model: one-dimensional int64 `inputs`; `outputs` map names to a node's output and element type."""
        for name, (output, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [output], [name]))
        given = [helper.make_tensor_value_info(name, TensorProto.INT64, [None]) for name in inputs]
        wanted = [helper.make_tensor_value_info(name, kind, None) for name, (_, kind) in outputs.items()]
        graph = helper.make_graph(self.nodes, "neumf", given, wanted, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def naive_logits(graph: Graph, model: Model, users: str, items: str) -> str:
    """Add logits [B] of pairs [B], one row of embeddings per pair."""
    t = model.tensors
    rows = {}
    for part in ("gmf", "mlp"):
        for side, index in (("user", users), ("item", items)):
            name = f"{part}.{side}_embedding.weight"
            rows[part, side] = graph.add("Gather", graph.table(name, t[name]), index)
    gmf = graph.add("Mul", rows["gmf", "user"], rows["gmf", "item"])
    x = graph.add("Concat", rows["mlp", "user"], rows["mlp", "item"], axis=1)
    for layer in model.layers:
        x = graph.add("Relu", graph.linear(x, layer))
    logits = graph.linear(graph.add("Concat", gmf, x, axis=1), model.output)
    return graph.add("Squeeze", logits, graph.integers(1))


def after_first(graph: Graph, model: Model, x: str) -> str:
    """Add the MLP's part of the logits [B, 1], from the first layer's sums [B, H0]."""
    for layer in [*model.layers[1:], model.hidden_output]:
        x = graph.linear(graph.add("Relu", x), layer)
    return x


def split_logits(graph: Graph, model: Model, users: str, items: str) -> str:
    """Add logits [B] of pairs [B] from projected tables."""
    user = graph.add("Gather", graph.table("user_first", model.user_first), users)
    item = graph.add("Gather", graph.table("item_first", model.item_first), items)
    mlp = after_first(graph, model, graph.add("Add", user, item))
    user_gmf = graph.add("Gather", graph.table("user_gmf", model.user_gmf), users)
    item_gmf = graph.add("Gather", graph.table("item_gmf", model.item_gmf), items)
    gmf = graph.add("ReduceSum", graph.add("Mul", user_gmf, item_gmf), graph.integers(1), keepdims=0)
    return graph.add("Add", graph.add("Squeeze", mlp, graph.integers(1)), gmf)


def naive_catalogue(graph: Graph, model: Model, users: str) -> str:
    """Add logits [B, I] by the graph for pairs, each user with each item."""
    size = graph.add("Concat", graph.add("Shape", users), graph.integers(model.num_items), axis=0)
    each = graph.add("Expand", graph.add("Unsqueeze", users, graph.integers(1)), size)
    items = graph.add("Expand", graph.constant(np.arange(model.num_items)), size)
    flat = graph.integers(-1)
    pairs = naive_logits(graph, model, graph.add("Reshape", each, flat), graph.add("Reshape", items, flat))
    return graph.add("Reshape", pairs, graph.integers(-1, model.num_items))


def split_catalogue(graph: Graph, model: Model, users: str) -> str:
    """Add logits [B, I] from projected tables."""
    user = graph.add("Gather", graph.table("user_first", model.user_first), users)
    sums = graph.add(
        "Add",
        graph.add("Unsqueeze", user, graph.integers(1)),
        graph.table("item_first", model.item_first),
    )
    rows = graph.add("Reshape", sums, graph.integers(-1, model.item_first.shape[1]))
    mlp = graph.add("Reshape", after_first(graph, model, rows), graph.integers(-1, model.num_items))
    user_gmf = graph.add("Gather", graph.table("user_gmf", model.user_gmf), users)
    gmf = graph.add("MatMul", user_gmf, graph.table("item_gmf_columns", model.item_gmf_columns))
    return graph.add("Add", mlp, gmf)


def pairs_graph(model: Model, *, split: bool) -> tuple[ModelProto, dict[str, Floats]]:
    """`users`, `items` int64 [B] -> `scores` float32 [B]; and the tables to pass by name."""
    graph = Graph()
    logits = (split_logits if split else naive_logits)(graph, model, "users", "items")
    scores = graph.add("Sigmoid", logits)
    return graph.model(("users", "items"), {"scores": (scores, TensorProto.FLOAT)}), graph.tables


def top_k_graph(model: Model, k: int, *, split: bool) -> tuple[ModelProto, dict[str, Floats]]:
    """`users` int64 [B] -> `ids` int64 [B, k], `scores` float32 [B, k]; and the tables to pass by name."""
    graph = Graph()
    logits = (split_catalogue if split else naive_catalogue)(graph, model, "users")
    graph.nodes.append(helper.make_node("TopK", [logits, graph.integers(k)], ["best", "best_ids"], axis=1))
    scores = graph.add("Sigmoid", "best")
    outputs = {"ids": ("best_ids", TensorProto.INT64), "scores": (scores, TensorProto.FLOAT)}
    return graph.model(("users",), outputs), graph.tables
