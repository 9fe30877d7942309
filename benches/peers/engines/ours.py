"""NeuralCF."""

from typing import ClassVar

from neuralcf import Scorer

from . import Floats, Indices, Model


class NeuralCF:
    """`neuralcf.Scorer`."""

    name: ClassVar[str] = "NeuralCF"
    naive: ClassVar[bool] = False

    def __init__(self, model: Model, threads: int) -> None:
        self.scorer = Scorer.from_tensors(model.tensors, threads=threads)

    def top_k(self, users: Indices, k: int) -> tuple[Indices, Floats]:
        found = self.scorer.top_k(users, k)
        return found.ids, found.scores

    def score(self, users: Indices, items: Indices) -> Floats:
        return self.scorer.score_batch(users, items)
