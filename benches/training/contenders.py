"""The models of `benches.quality`: how each is fitted, and among which settings it is tuned.

Every model is tuned in the same way: each of its settings is fitted on what `neuralcf.training.search.keep_back` leaves
of the training set, and the one with the best NDCG@20 on what is kept back wins. No model sees the test set.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.training.lightgcn import train_lightgcn
from neuralcf import Scorer
from neuralcf.baselines import EASE, IALS, Baseline, ItemKNN, Popularity
from neuralcf.data import Dataset, Split
from neuralcf.evaluation import Ranker, evaluate_full
from neuralcf.training import configure, train
from neuralcf.training.presets import DISTILL
from neuralcf.training.search import keep_back, search_ials

__all__ = ["CONTENDERS", "Contender", "Settings", "tune"]

Settings = Mapping[str, Any]

FACTORS = 256
"""Width of iALS's vectors, ours and implicit's, as in the presets `fast` and `best`."""
DENSE_ITEMS = 12_000
"""The largest catalogue for which matrices of items x items fit into memory."""
L2, UNOBSERVED = (0.001, 0.003, 0.007, 0.015, 0.03, 0.05), (1.0, 2.0, 4.0, 7.0, 15.0, 30.0)
"""The grids of `neuralcf.training.search`."""


@dataclass(frozen=True)
class Contender:
    """A model to fit, and the settings to choose among."""

    fit: Callable[[Dataset, Settings, int], Ranker]
    """Fits it on a training set by its settings and a seed."""
    grid: Sequence[Settings] = ({},)
    then: Callable[[Settings], Sequence[Settings]] = lambda _: ()
    """More settings to try, given the best of `grid`."""
    search: Callable[[Dataset], tuple[Settings, int]] | None = None
    """Searches settings in its own way, in place of `grid`; also tells how many it tried."""
    dense: bool = False
    """Whether it needs a matrix of items x items."""
    seeds: bool = True
    """Whether its result depends on the seed."""

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to choose."""
        return self.search is None and len(self.grid) == 1


def tune(contender: Contender, train_set: Dataset) -> tuple[Settings, float | None, int]:
    """Choose settings on interactions kept back; return them, their NDCG@20, and how many were tried."""
    if contender.search is not None:
        settings, tried = contender.search(train_set)
        return settings, None, tried
    left, users, (indptr, items) = keep_back(train_set, 0)
    split = Split(left, np.repeat(users, np.diff(indptr)), items.astype(np.int64), "kept back to choose settings")
    tried: list[tuple[float, Settings]] = []

    def best_of(grid: Sequence[Settings]) -> Settings:
        for settings in grid:
            if all(settings != before for _, before in tried):
                ranker = contender.fit(left, settings, 0)
                tried.append((evaluate_full(ranker, split, 20).means["NDCG@20"], settings))
        return max(tried, key=lambda trial: trial[0])[1]

    best_of(contender.then(best_of(contender.grid)))
    value, settings = max(tried, key=lambda trial: trial[0])
    return settings, value, len(tried)


class DotProduct(Baseline):
    """Ranks by the dot product of given vectors."""

    name = "dot product"

    def __init__(
        self, train_set: Dataset, user_vectors: NDArray[np.float32], item_vectors: NDArray[np.float32]
    ) -> None:
        super().__init__(train_set)
        self.user_vectors, self.item_vectors = user_vectors, item_vectors

    def scores(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        return (self.user_vectors[users] @ self.item_vectors.T).astype(np.float64)


def _popularity(train_set: Dataset, _settings: Settings, _seed: int) -> Ranker:
    return Popularity(train_set)


def _itemknn(train_set: Dataset, settings: Settings, _seed: int) -> Ranker:
    return ItemKNN(train_set, **settings)


def _ease(train_set: Dataset, settings: Settings, _seed: int) -> Ranker:
    return EASE(train_set, dtype=np.float32, **settings)


def _ials(train_set: Dataset, settings: Settings, seed: int) -> Ranker:
    return IALS(train_set, factors=FACTORS, seed=seed, **settings)


def _search_ials(train_set: Dataset) -> tuple[Settings, int]:
    found = search_ials(train_set, 0)
    assert found is not None
    return {"unobserved": found.chosen.unobserved, "l2": found.chosen.l2}, len(found.trials)


def _implicit_als(train_set: Dataset, settings: Settings, seed: int) -> Ranker:
    """Fit the ALS of the library implicit, by the settings of our iALS.

    Its loss is alpha (1 - s)^2 over interactions + s^2 over all other cells + regularization (|P|^2 + |Q|^2): ours
    divided by a0, with the mean of the frequency-scaled regularisation of ours.
    """
    import scipy.sparse
    from implicit.als import AlternatingLeastSquares

    indptr, indices = train_set.user_items()
    shape = train_set.num_users, train_set.num_items
    a0 = settings["unobserved"] * indices.size / (shape[0] * shape[1])
    per_row = 2 * (indices.size + a0 * shape[0] * shape[1]) / (shape[0] + shape[1])
    model = AlternatingLeastSquares(
        factors=FACTORS,
        alpha=(1 + a0) / a0,
        regularization=settings["l2"] * per_row / a0,
        iterations=15,
        num_threads=int(os.environ.get("OMP_NUM_THREADS", "0")),
        random_state=seed,
    )
    matrix = scipy.sparse.csr_matrix((np.ones(indices.size, np.float32), indices, indptr), shape=shape)
    model.fit(matrix, show_progress=False)
    return DotProduct(train_set, model.user_factors, model.item_factors)


def _lightgcn(train_set: Dataset, settings: Settings, seed: int) -> Ranker:
    return DotProduct(train_set, *train_lightgcn(train_set, seed=seed, **settings))


def _by_preset(preset: str) -> Callable[[Dataset, Settings, int], Ranker]:
    def fit(train_set: Dataset, settings: Settings, seed: int) -> Ranker:
        config = configure(preset=preset, options={**settings, "seed": seed})
        state = train(train_set, config, progress=False).model.state_dict()
        return Scorer.from_tensors({name: weight.numpy() for name, weight in state.items()})

    return fit


def _grid(**values: Sequence[Any]) -> list[Settings]:
    """All combinations."""
    return [dict(zip(values, each, strict=True)) for each in product(*values.values())]


def _ncf(model: str, **values: Sequence[Any]) -> Contender:
    return Contender(_by_preset("neumf"), _grid(model=(model,), **values))


_TOWERS = (64, 32, 16, 8), (128, 64, 32, 16)

CONTENDERS: dict[str, Contender] = {
    "popularity": Contender(_popularity, seeds=False),
    "ItemKNN": Contender(_itemknn, _grid(neighbours=(20, 100, 500), shrinkage=(10.0, 100.0)), dense=True, seeds=False),
    "EASE": Contender(
        _ease, _grid(l2=(50.0, 100.0, 200.0, 400.0, 800.0, 1600.0), row_exponent=(0.0, 0.25)), dense=True, seeds=False
    ),
    "iALS": Contender(_ials, search=_search_ials),
    "implicit ALS": Contender(
        _implicit_als,
        _grid(unobserved=(7.0,), l2=L2),
        then=lambda best: _grid(unobserved=UNOBSERVED, l2=(best["l2"],)),
    ),
    "LightGCN": Contender(_lightgcn, _grid(layers=(2, 3), l2=(1e-4, 1e-3))),
    "GMF": _ncf("gmf", factors=(8, 32), l2_embeddings=(0.0, 1e-6)),
    "MLP": _ncf("mlp", layers=_TOWERS, dropout=(0.0, 0.2)),
    "NeuMF": _ncf("neumf", factors=(8, 32), layers=_TOWERS[:1], dropout=(0.0, 0.2)),
    **{preset: Contender(_by_preset(preset), [{**DISTILL[preset], "threads": 1}]) for preset in ("fast", "best")},
}
"""By the names of the table's rows."""
