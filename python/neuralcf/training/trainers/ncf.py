"""The paper's trainer: binary cross-entropy with negative sampling, by gradient descent.

Model       yhat(u, i) = sigmoid(f(u, i)), f the logit of GMF, MLP or NeuMF (`neuralcf.models`).
Loss        L = -mean over (u, i) of y log yhat + (1 - y) log(1 - yhat) + R: binary cross-entropy; y = 1 for the known
            interactions, y = 0 for sampled negatives (He et al., WWW 2017, eq. 7); R is L2 regularisation, 0 by default
            (`neuralcf.training.losses`).
Weights     With weights of interactions, the term of a positive is multiplied by its weight; negatives keep weight 1.
Sampling    For each known interaction (u, i), `negatives` items, sampled uniformly and independently from the items
            without an interaction of u, anew in each epoch (section 3.1.1 of the paper; 4 in its experiments).
            Users who have every item are left out (`neuralcf.training.sampling`).
Optimiser   Adam (Kingma and Ba, ICLR 2015) over shuffled batches of positives and negatives together, or plain SGD.
Averaging   After step n, the average moves 1 / min(n, averaging * steps per epoch) of the way to the weights: first a
            plain mean, then an exponential moving average. The average is what is evaluated and kept, because it
            smooths out the noise of single steps (Polyak and Juditsky, SIAM J. Control Optim. 30, 1992).
Stages      One; with pre-training three: GMF, MLP, then NeuMF initialised from both, with output layer [alpha h_GMF ;
            (1 - alpha) h_MLP] (section 3.4.1), fine-tuned by a fresh optimiser. All three use the same validation set.
Features    With features of users or items in the data set, each embedding is its own plus those of its attributes
            (`neuralcf.training.feature_embeddings`), and folded into a plain table at the end.
Validation  One interaction of each user (the latest, or a random one without timestamps) is held out and ranked after
            each epoch among 99 sampled items without an interaction of the user. The epoch with the best HR@10 is kept;
            the earlier one wins a tie. Early stopping ends a stage after `patience` epochs without improvement. The
            caller holds out the test set; this module never sees it. Validation items may be sampled as negatives, as
            test items may: the sampler knows neither. With `refit`, all stages then run again on all interactions,
            without validation, each for its best number of epochs.
Resuming    After the last complete epoch. All randomness derives from (seed, purpose, stage, epoch), so a checkpoint
            holds weights, optimiser state and history, but no generator state.

Adam is dense, also for the embeddings. A step costs a pass over all tables, so large catalogues train faster with large
batches. Sparse Adam updates only the rows of the batch, but freezes the moments of all others, which makes it another
optimiser. On a CPU, sorting its indices costs more than the pass over tables of some ten thousand rows.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from neuralcf.data.dataset import Dataset
from neuralcf.errors import DivergedError, ModelFormatError
from neuralcf.models import GMF, MLP, Model, NeuMF, fuse
from neuralcf.seeds import Stream, derive
from neuralcf.training.config import TrainConfig
from neuralcf.training.device import isolated_torch, resolve
from neuralcf.training.feature_embeddings import add_features, feature_maps, fold
from neuralcf.training.losses import bce_with_logits, l2_penalty
from neuralcf.training.pair_weights import PairWeights
from neuralcf.training.presets import PAPER
from neuralcf.training.run_directory import RunDirectory
from neuralcf.training.sampling import EpochSampler
from neuralcf.training.trainer import EpochRecord, Trainer, TrainResult
from neuralcf.training.trainers.ncf_config import NCFConfig
from neuralcf.training.validation import Validation

__all__ = ["TRAINER", "build", "fit"]

Weights: TypeAlias = dict[str, Tensor]


def fit(
    dataset: Dataset, config: TrainConfig[NCFConfig], run: RunDirectory | None, *, progress: bool | None
) -> TrainResult:
    """Train as the module's docstring describes; `neuralcf.training.trainer.Fit` documents the arguments."""
    ncf, seed, device = config.trainer, config.seed, resolve(config.device)
    validation = Validation.of(dataset, seed) if config.validation else None
    state = _State.of(run.checkpoint() if run else None)
    with isolated_torch(config.threads, device):
        for stage in _stages(ncf, refit=config.refit)[len(state.finished) :]:
            held_out = validation if stage.refit_of is None else None
            train_set = held_out.split.train if held_out else dataset
            sampler = EpochSampler(train_set, ncf.negatives, seed, batch_size=ncf.batch_size, threads=config.threads)
            pair_weights = PairWeights.of(train_set)
            _StageTraining(dataset, stage, seed, sampler, pair_weights, held_out, device, run, state).train(progress)
        model = build(ncf, dataset.num_users, dataset.num_items)  # its random weights are replaced
    weights = state.finished[-1]
    model.load_state_dict(fold(weights, dataset))
    return TrainResult(model.eval(), state.history, state.best_epoch, features=feature_maps(weights, dataset))


TRAINER: Final = Trainer(NCFConfig, fit, PAPER)


def build(config: NCFConfig, num_users: int, num_items: int) -> Model:
    """Build the untrained model that `config` describes, with weights from torch's global random generator."""
    if config.model == "gmf":
        return GMF(num_users, num_items, config.factors)
    if config.model == "mlp":
        return MLP(num_users, num_items, config.layers, dropout=config.dropout)
    return NeuMF(num_users, num_items, config.factors, config.layers, dropout=config.dropout)


@dataclass(frozen=True)
class _Stage:
    """One model to train."""

    number: int
    """Number of the stage, from 0; selects its random streams."""

    config: NCFConfig
    """The settings with this stage's model, epochs and optimiser."""

    fused: bool = False
    """Whether it is initialised from the two stages before it."""

    refit_of: int | None = None
    """The stage that this one repeats on all interactions, for that stage's best number of epochs."""


def _stages(config: NCFConfig, *, refit: bool) -> list[_Stage]:
    if config.pretrain:
        alone = replace(config, pretrain=False, epochs=config.pretrain_epochs)
        fine = replace(config, optimizer=config.fine_tune_optimizer, learning_rate=config.fine_tune_learning_rate)
        stages = [
            _Stage(0, replace(alone, model="gmf")),
            _Stage(1, replace(alone, model="mlp")),
            _Stage(2, fine, fused=True),
        ]
    else:
        stages = [_Stage(0, config)]
    if refit:
        stages += [replace(stage, number=stage.number + len(stages), refit_of=stage.number) for stage in stages]
    return stages


@dataclass
class _State:
    """The state of training, as stored in a checkpoint."""

    finished: list[Weights] = field(default_factory=list)
    """The best weights of each finished stage."""

    history: list[EpochRecord] = field(default_factory=list)

    epoch: int = 0
    """Number of complete epochs in the current stage."""

    best_epoch: int = 0
    """Best epoch of the current stage; of the last stage when training is finished."""

    best_epochs: list[int] = field(default_factory=list)
    """Best epoch of each finished stage."""

    best_hr: float = -1.0
    best: Weights | None = None
    model: Weights | None = None
    average: Weights | None = None
    optimiser: dict[str, Any] | None = None

    @classmethod
    def of(cls, checkpoint: dict[str, Any] | None) -> _State:
        if checkpoint is None:
            return cls()
        values = {name: value for name, value in checkpoint.items() if name != "metrics_bytes"}
        return cls(**{**values, "history": [EpochRecord(**record) for record in values["history"]]})

    def saved(self) -> dict[str, Any]:
        """Return the state as tensors and plain values, for a checkpoint."""
        return {**vars(self), "history": [asdict(record) for record in self.history]}

    def finish_stage(self) -> None:
        """Keep the best weights and reset the rest for the next stage."""
        assert self.best is not None
        self.finished.append(self.best)
        self.best_epochs.append(self.best_epoch)
        self.epoch, self.best_hr, self.best = 0, -1.0, None
        self.model, self.average, self.optimiser = None, None, None


class _StageTraining:
    """The training of one stage."""

    def __init__(
        self,
        dataset: Dataset,
        stage: _Stage,
        seed: int,
        sampler: EpochSampler,
        pair_weights: PairWeights | None,
        validation: Validation | None,
        device: torch.device,
        run: RunDirectory | None,
        state: _State,
    ) -> None:
        self.dataset, self.stage, self.config, self.seed = dataset, stage, stage.config, seed
        self.name = self.config.model if stage.refit_of is None else f"{self.config.model} refit"
        self.epochs = self.config.epochs if stage.refit_of is None else state.best_epochs[stage.refit_of]
        self.pair_weights = pair_weights
        self.sampler, self.validation, self.device, self.run, self.state = sampler, validation, device, run, state
        self.steps = sampler.steps  # per epoch
        torch.manual_seed(derive(seed, Stream.INITIALISATION, stage.number))
        self.model: Model = build(self.config, dataset.num_users, dataset.num_items)
        add_features(self.model, dataset)
        if stage.fused:
            gmf, mlp = state.finished[-2:]
            self.model.load_state_dict(fuse(gmf, mlp, self.config.alpha))
        if state.model is not None:
            self.model.load_state_dict(state.model)
        self.model.to(device)
        self.average = (
            _Average(self.model, self.config.averaging * self.steps, state) if self.config.averaging else None
        )
        self.optimiser = _optimiser(self.config, self.model)
        if state.optimiser is not None:
            self.optimiser.load_state_dict(state.optimiser)

    def train(self, progress: bool | None) -> None:
        """Train the remaining epochs and store the stage's best weights in the state."""
        state, epochs = self.state, self.epochs
        if self.stage.fused and state.best is None:
            self._measure_start()
        bar = tqdm(
            total=epochs * self.steps,
            initial=state.epoch * self.steps,
            desc=self.name,
            unit="batch",
            disable=None if progress is None else not progress,
        )
        with bar:
            while state.epoch < epochs and not self._stops_early():
                self._train_epoch(state.epoch + 1, bar)
        state.finish_stage()
        if self.run:
            self.run.save(state.saved())

    def _stops_early(self) -> bool:
        without_improvement = self.state.epoch - self.state.best_epoch
        return self.validation is not None and 0 < self.config.patience <= without_improvement

    def _measure_start(self) -> None:
        """Evaluate the joined models as epoch 0, which fine-tuning has to beat."""
        weights = _copied(self.model.state_dict())
        hr, ndcg = self._validate(weights, 0)
        self.state.best_epoch, self.state.best = 0, weights
        if hr is not None:
            self.state.best_hr = hr
        self._log(stage=self.name, epoch=0, validation_hr=hr, validation_ndcg=ndcg)

    def _train_epoch(self, epoch: int, bar: tqdm) -> None:
        """Train an epoch, validate, keep the weights if they are the best so far, save a checkpoint."""
        started = time.perf_counter()
        loss = self._descend(epoch, bar)
        seconds = time.perf_counter() - started
        model = _copied(self.model.state_dict())
        weights = model if self.average is None else _copied(self.average.weights)
        hr, ndcg = self._validate(weights, epoch)
        record = EpochRecord(self.name, epoch, loss, seconds, hr, ndcg)
        self._log(**asdict(record))
        bar.set_postfix(epoch=epoch, loss=f"{loss:.4f}", hr="-" if hr is None else f"{hr:.4f}")

        state = self.state
        state.history.append(record)
        if hr is None or hr > state.best_hr:
            state.best_epoch, state.best = epoch, weights
            state.best_hr = -1.0 if hr is None else hr
        state.epoch, state.model, state.optimiser = epoch, model, self.optimiser.state_dict()
        state.average = None if self.average is None else weights
        if self.run:
            self.run.save(state.saved())

    def _descend(self, epoch: int, bar: tqdm) -> float:
        """Take one optimiser step for each batch of the epoch; return the mean cross-entropy over its pairs."""
        self.model.train()
        torch.manual_seed(derive(self.seed, Stream.DROPOUT, self.stage.number, epoch))
        embeddings, layers = self.config.l2_embeddings, self.config.l2_layers
        total = 0.0
        for step, batch in enumerate(self.sampler.batches(self.stage.number, epoch), start=1):
            users, items, labels = (part.to(self.device) for part in batch)
            weights = None if self.pair_weights is None else self.pair_weights.find(*batch).to(self.device)
            self.optimiser.zero_grad()
            loss = bce_with_logits(self.model(users, items), labels, weights)
            value = loss.item()
            if not math.isfinite(value):
                raise DivergedError(
                    f"stage {self.name}, epoch {epoch}, batch {step}: expected a finite loss, got {value}; "
                    "a smaller learning_rate may help"
                )
            objective = loss + l2_penalty(self.model, embeddings=embeddings, layers=layers)
            objective.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            if self.average is not None:
                self.average.update((epoch - 1) * self.steps + step)
            self._log(stage=self.name, epoch=epoch, step=step, loss=value)
            total += value * len(labels)
            bar.update()
        return total / self.sampler.samples

    def _validate(self, weights: Weights, epoch: int) -> tuple[float | None, float | None]:
        for name, weight in weights.items():
            if not weight.isfinite().all():
                raise DivergedError(
                    f"stage {self.name}, after epoch {epoch}: expected finite weights, {name} is not; "
                    "a smaller learning_rate may help"
                )
        if self.validation is None:
            return None, None
        try:
            return self.validation.measure(fold(weights, self.dataset))
        except ModelFormatError as error:
            raise DivergedError(
                f"stage {self.name}, after epoch {epoch}: {error}; a smaller learning_rate may help"
            ) from error

    def _log(self, **values: Any) -> None:
        if self.run:
            self.run.log(**values)


class _Average:
    """A moving average of a model's weights."""

    def __init__(self, model: Model, steps: float, state: _State) -> None:
        self._model = model.state_dict()  # the live tensors, which the optimiser updates in place
        self._steps = steps
        self.weights = {name: weight.clone() for name, weight in self._model.items()}
        if state.average is not None:
            for name, weight in state.average.items():
                self.weights[name].copy_(weight)

    def update(self, step: int) -> None:
        """Update the average with the weights after step `step`, from 1."""
        share = 1 / max(1, min(step, self._steps))
        for name, weight in self.weights.items():
            weight.lerp_(self._model[name], share)


def _copied(weights: Weights) -> Weights:
    """Copy weights to the CPU."""
    return {name: weight.detach().cpu().clone() for name, weight in weights.items()}


def _optimiser(config: NCFConfig, model: Model) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=config.learning_rate)
    return torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
