"""Training.

Model       yhat(u, i) = sigmoid(f(u, i)), f the logit of GMF, MLP or NeuMF (`neuralcf.models`).
Loss        L = -sum over (u, i) of y log yhat + (1 - y) log(1 - yhat): binary cross-entropy; y = 1 for the known
            interactions, y = 0 for drawn negatives (He et al., WWW 2017, eq. 7). No regularisation.
Sampling    For each known interaction (u, i), `negatives` items, uniform and independent among those that u does not
            know, drawn anew in each epoch (section 3.4 of the paper; 4 negatives in its experiments).
Optimiser   Adam (Kingma and Ba, ICLR 2015) over shuffled batches of positives and negatives together.
Protocol    With validation, one interaction of each user (the latest, or a random one where there are no timestamps) is
            kept out and ranked after each epoch among 99 drawn items the user does not know; the epoch with the best
            HR@10 is kept, the earlier one of equals. A test split is the caller's: what this module gets is all it ever
            looks at. The validation item may be drawn as a negative, as a test item may: the model knows neither.

Dense Adam, also for the embeddings: one step costs a pass over all tables, so with large catalogues large batches pay.
Its sparse variant updates only the rows of the batch, but then the moments of the others stand still, which is another
optimiser, and on a CPU the sorting of indices costs more than the pass over tables of some ten thousand rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from neuralcf._core import Scorer
from neuralcf.config import TrainConfig
from neuralcf.data.interactions import Dataset
from neuralcf.data.negatives import UnknownItems, draw_candidates
from neuralcf.data.rows import Rows
from neuralcf.data.split import Split, leave_last_out, leave_one_out
from neuralcf.errors import ArgumentError, DivergedError
from neuralcf.evaluate import evaluate_candidates
from neuralcf.losses import bce_with_logits
from neuralcf.models import Model, build

__all__ = ["EpochRecord", "TrainConfig", "TrainResult", "train"]


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave."""

    epoch: int
    """From 1."""

    loss: float
    """Mean binary cross-entropy over the epoch's pairs, each measured before the step that it is part of."""

    seconds: float
    """Time for drawing and training, without validation."""

    validation_hr: float | None
    """HR@10 over the validation candidates; None without validation."""


@dataclass(frozen=True)
class TrainResult:
    """A trained model and how it came about."""

    model: Model
    """With the weights of the best epoch, in evaluation mode, on the CPU."""

    history: list[EpochRecord]
    """One record an epoch."""

    best_epoch: int
    """The epoch of the weights, from 1: the best by validation, or the last without."""


def train(dataset: Dataset, config: TrainConfig, *, progress: bool | None = None) -> TrainResult:
    """Train a model on the interactions of `dataset`.

    Equal data and configuration give equal weights on one machine. The global random state of torch and NumPy is not
    touched; the number of torch threads is that of the configuration meanwhile.

    Args:
        dataset: what may be learned from; a test split is already out of it.
        config: how.
        progress: whether to show a progress bar; None shows one on a terminal only.

    Raises:
        ArgumentError: no interactions; a user who knows every item, so that no negative can be drawn; nothing to
            validate on.
        DivergedError: the loss is NaN or infinite.
    """
    if len(dataset) == 0:
        raise ArgumentError("dataset: expected interactions, got none")
    validation = _Validation.of(dataset, config.seed) if config.validation else None
    sampler = _EpochSampler(validation.split.train if validation else dataset, config)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build(config, dataset.num_users, dataset.num_items)
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)

    history: list[EpochRecord] = []
    best_epoch, best_hr, best_weights = config.epochs, -1.0, model.state_dict()
    steps = config.epochs * math.ceil(sampler.pairs / config.batch_size)
    show = tqdm(total=steps, unit="batch", disable=None if progress is None else not progress)
    with _torch_threads(config.threads), show as bar:
        for epoch in range(1, config.epochs + 1):
            started = time.perf_counter()
            loss = _train_epoch(model, optimiser, sampler.draw(), config.batch_size, epoch, bar)
            seconds = time.perf_counter() - started
            hr = validation.hit_ratio(model) if validation else None
            history.append(EpochRecord(epoch, loss, seconds, hr))
            bar.set_postfix(epoch=epoch, loss=f"{loss:.4f}", hr="-" if hr is None else f"{hr:.4f}")
            if hr is not None and hr > best_hr:
                best_epoch, best_hr = epoch, hr
                best_weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.load_state_dict(best_weights)
    return TrainResult(model.eval(), history, best_epoch)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


Batch: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""`(users int64 [B], items int64 [B], labels float32 [B])`."""


class _EpochSampler:
    """Draws the pairs of an epoch: every known interaction once, its negatives anew, in random order."""

    def __init__(self, dataset: Dataset, config: TrainConfig) -> None:
        known = dataset.known()
        self.unknown = UnknownItems(known, dataset.num_items)
        self.users = np.repeat(np.arange(dataset.num_users), np.diff(known[0]))  # [n], ascending
        self.items = known[1].astype(np.int64)  # [n]
        self.negatives = config.negatives
        self.rng = np.random.default_rng(config.seed)
        self.pairs = self.users.size * (1 + config.negatives)

    def draw(self) -> Batch:
        """Give all pairs of an epoch, shuffled."""
        negative_users = np.repeat(self.users, self.negatives)  # ascending, which makes drawing fast
        users = np.concatenate([self.users, negative_users])
        items = np.concatenate([self.items, self.unknown.draw(self.rng, negative_users)])
        order = self.rng.permutation(self.pairs)
        labels = (order < self.users.size).astype(np.float32)
        return torch.from_numpy(users[order]), torch.from_numpy(items[order]), torch.from_numpy(labels)


def _train_epoch(
    model: Model, optimiser: torch.optim.Optimizer, pairs: Batch, batch_size: int, epoch: int, bar: tqdm
) -> float:
    """Go through all pairs once, in order; give the mean loss."""
    model.train()
    total = 0.0
    batches = zip(*(torch.split(part, batch_size) for part in pairs), strict=True)
    for number, (users, items, labels) in enumerate(batches, start=1):
        optimiser.zero_grad()
        loss = bce_with_logits(model(users, items), labels)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(
                f"epoch {epoch}, batch {number}: expected a finite loss, got {value}; a smaller learning_rate may help"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        total += value * len(labels)
        bar.update()
    return total / len(pairs[0])


@dataclass(frozen=True, eq=False)
class _Validation:
    """A held-out interaction for each user and the items it is ranked against."""

    split: Split
    candidates: Rows

    @classmethod
    def of(cls, dataset: Dataset, seed: int) -> _Validation:
        split = leave_one_out(dataset, seed) if dataset.timestamps is None else leave_last_out(dataset)
        if split.users.size == 0:
            raise ArgumentError("validation: expected a user with two items or more, got none; pass validation=False")
        candidates = draw_candidates(split.train.known(), dataset.num_items, split.users, split.items, seed=seed)
        return cls(split, candidates)

    def hit_ratio(self, model: Model) -> float:
        """Compute HR@10 of the model as it is now."""
        scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in model.state_dict().items()})
        return evaluate_candidates(scorer, self.split.users, self.split.items, *self.candidates).hr
