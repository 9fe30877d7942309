"""Scores of a model in float64, and the checks that answers have to pass."""

import numpy as np
from numpy.typing import NDArray

from benches.peers.engines import Floats, Indices, Model

PROBABILITY = 1e-5
"""How far a probability may be from the float64 one."""
LOGIT = 4e-5
"""How far, relative to max(1, |logit|), an item's float64 logit may be below the k-th best: the same in logits."""
CHUNK = 50_000

Doubles = NDArray[np.float64]


class WrongAnswerError(Exception):
    """What an answer has that float64 has not."""


class Reference:
    """A model's logits in float64; a user's logits of the whole catalogue are kept."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.layers = [(layer.weight.astype(np.float64), layer.bias.astype(np.float64)) for layer in model.layers]
        self.output = model.output.weight[0].astype(np.float64), float(model.output.bias[0])
        self.catalogues: dict[int, Doubles] = {}

    def logits(self, users: Indices, items: Indices) -> Doubles:
        """Compute the logits [B] of pairs [B] as the model is defined: embeddings, layers, output."""
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
        """Compute the logits [I] of one user and every item."""
        if user not in self.catalogues:
            items = np.arange(self.model.num_items)
            self.catalogues[user] = self.logits(np.full_like(items, user), items)
        return self.catalogues[user]

    def check_scores(self, users: Indices, items: Indices, scores: Floats) -> None:
        """Raise WrongAnswerError where a pair's probability is not within `PROBABILITY`."""
        worst = float(np.abs(sigmoid(self.logits(users, items)) - scores).max())
        expect(worst <= PROBABILITY, f"a probability is off by {worst:.1e}")

    def check_top_k(self, users: Indices, ids: Indices, scores: Floats) -> None:
        """Raise WrongAnswerError where the lists [B, k] of the first and the last user are not the best, up to ties."""
        expect(ids.shape == scores.shape and len(ids) == len(users), f"got {ids.shape} ids for {len(users)} users")
        for row in {0, len(users) - 1}:
            logits, own = self.catalogue(int(users[row])), ids[row]
            best = float(np.partition(logits, -len(own))[-len(own)])
            tolerance = LOGIT * max(1, abs(best))
            below, rise = best - float(logits[own].min()), float(np.diff(logits[own]).max(initial=-np.inf))
            off = float(np.abs(sigmoid(logits[own]) - scores[row]).max())
            expect(len(set(own.tolist())) == len(own), f"an item comes twice: {own.tolist()}")
            expect(below <= tolerance, f"an item is {below:.1e} below the last of the best")
            expect(rise <= tolerance, f"the list rises by {rise:.1e}")
            expect(off <= PROBABILITY, f"a probability is off by {off:.1e}")


def expect(right: bool, otherwise: str) -> None:
    if not right:
        raise WrongAnswerError(otherwise)


def sigmoid(logits: Doubles) -> Doubles:
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float64)
