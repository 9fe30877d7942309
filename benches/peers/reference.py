"""Scores of a model in float64, and the checks that every answer must pass."""

import numpy as np
from numpy.typing import NDArray

from benches.peers.engines import Floats, Indices, Model

PROBABILITY = 1e-5
"""Tolerance of probabilities against float64."""
LOGIT = 4e-5
"""Tolerance of an item's float64 logit below the k-th best, relative to max(1, |logit|); equivalent to PROBABILITY."""
CHUNK = 50_000

Doubles = NDArray[np.float64]


class WrongAnswerError(Exception):
    """An answer that differs from float64 by more than the tolerance."""


class Reference:
    """A model's logits in float64; full catalogues are cached by user."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.layers = [(layer.weight.astype(np.float64), layer.bias.astype(np.float64)) for layer in model.layers]
        self.output = model.output.weight[0].astype(np.float64), float(model.output.bias[0])
        self.catalogues: dict[int, Doubles] = {}

    def logits(self, users: Indices, items: Indices) -> Doubles:
        """Compute the logits [B] of pairs [B] by the definition of the model: embeddings, layers, output."""
        t, width = self.model.tensors, self.model.gmf_width
        (head, bias), parts = self.output, []
        for start in range(0, len(users), CHUNK):
            user, item = users[start : start + CHUNK], items[start : start + CHUNK]
            x = np.concatenate(
                [t["mlp.user_embedding.weight"][user], t["mlp.item_embedding.weight"][item]], axis=1, dtype=np.float64
            )
            for weight, layer_bias in self.layers:
                x = np.maximum(x @ weight.T + layer_bias, 0)
            gmf = t["gmf.user_embedding.weight"][user].astype(np.float64) * t["gmf.item_embedding.weight"][item]
            parts.append(gmf @ head[:width] + x @ head[width:] + bias)
        return np.concatenate(parts)

    def catalogue(self, user: int) -> Doubles:
        """Compute the logits [I] of one user for every item."""
        if user not in self.catalogues:
            items = np.arange(self.model.num_items)
            self.catalogues[user] = self.logits(np.full_like(items, user), items)
        return self.catalogues[user]

    def check_scores(self, users: Indices, items: Indices, scores: Floats) -> None:
        """Raise WrongAnswerError if a pair's probability is off by more than `PROBABILITY`."""
        worst = float(np.abs(sigmoid(self.logits(users, items)) - scores).max())
        expect(worst <= PROBABILITY, f"a probability is off by {worst:.1e}")

    def check_top_k(self, users: Indices, ids: Indices, scores: Floats) -> None:
        """Raise WrongAnswerError if the lists [B, k] of the first or the last user are not the best, up to ties."""
        expect(ids.shape == scores.shape and len(ids) == len(users), f"got {ids.shape} ids for {len(users)} users")
        for row in {0, len(users) - 1}:
            logits, own = self.catalogue(int(users[row])), ids[row]
            best = float(np.partition(logits, -len(own))[-len(own)])
            tolerance = LOGIT * max(1, abs(best))
            below, rise = best - float(logits[own].min()), float(np.diff(logits[own]).max(initial=-np.inf))
            off = float(np.abs(sigmoid(logits[own]) - scores[row]).max())
            expect(len(set(own.tolist())) == len(own), f"duplicate items: {own.tolist()}")
            expect(below <= tolerance, f"an item's logit is {below:.1e} below the k-th best")
            expect(rise <= tolerance, f"the list is not sorted: a logit rises by {rise:.1e}")
            expect(off <= PROBABILITY, f"a probability is off by {off:.1e}")


def expect(right: bool, problem: str) -> None:
    if not right:
        raise WrongAnswerError(problem)


def sigmoid(logits: Doubles) -> Doubles:
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float64)
