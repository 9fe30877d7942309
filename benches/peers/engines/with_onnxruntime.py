"""ONNX Runtime on the CPU, with the naive graph of an export and with the first layer split by hand."""

from functools import cache
from typing import Any, ClassVar

import onnxruntime
from onnx import ModelProto

from . import Floats, Indices, Model, in_blocks
from .onnx_graphs import pairs_graph, top_k_graph


def session(graph: ModelProto, tables: dict[str, Floats], threads: int) -> Any:
    """Create a session of `graph` that uses the memory of `tables`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(table) for table in tables.values()]
    options.add_external_initializers(list(tables), values)
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])


class _Onnx:
    """Base of both engines; a graph is compiled on first use."""

    name: ClassVar[str]
    naive: ClassVar[bool]

    def __init__(self, model: Model, threads: int) -> None:
        split = not self.naive
        self.num_items = model.num_items
        self.for_pairs = cache(lambda: session(*pairs_graph(model, split=split), threads))
        self.for_top_k = cache(lambda k: session(*top_k_graph(model, k, split=split), threads))

    def top_k(self, users: Indices, k: int) -> tuple[Indices, Floats]:
        compiled = self.for_top_k(k)
        return in_blocks(users, self.num_items, lambda block: compiled.run(["ids", "scores"], {"users": block}))

    def score(self, users: Indices, items: Indices) -> Floats:
        scores: Floats = self.for_pairs().run(["scores"], {"users": users, "items": items})[0]
        return scores


class OnnxNaive(_Onnx):
    name, naive = "ONNX Runtime", True


class OnnxSplit(_Onnx):
    name, naive = "ONNX Runtime, split", False
