"""Tuning: a search of a trainer's settings, inside a budget, by optuna (`neuralcf tune`).

Metric      NDCG@20 over the whole catalogue of interactions kept back from the training set: the protocol by which
            `neuralcf.training.search` chooses iALS's settings. Trials never see the test set.
Sampler     TPE, a tree-structured Parzen estimator (James Bergstra et al., "Algorithms for hyper-parameter
            optimization", NeurIPS 2011). The first trial has the settings as given, so that the best one cannot be
            worse on what is kept back.
Pruner      A trial is stopped if the best NDCG@10 on its own validation set is among the worst quarter after as many
            epochs (`ncf`) or stages (`distill`). The values are those that every trainer logs.
Resuming    From optuna's journal in the run directory. Trial n samples by a seed derived from (seed, n), so that a
            study that was stopped goes on as one that never was; an interrupted trial starts again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from neuralcf._core import Scorer
from neuralcf.data import Dataset, Split
from neuralcf.errors import ArgumentError, DivergedError
from neuralcf.evaluation import evaluate_full
from neuralcf.files import write_atomically
from neuralcf.seeds import Stream, derive
from neuralcf.training import TRAINERS, DistillConfig, TrainConfig, configure
from neuralcf.training.run_directory import RunDirectory
from neuralcf.training.search import keep_back, search_ials

if TYPE_CHECKING:
    from optuna import Study, Trial

__all__ = ["TunedTrial", "to_toml", "tune"]

Suggest: TypeAlias = "Callable[[Trial, str], object]"
"""Samples a value of the setting of that name."""
Space: TypeAlias = Mapping[str, Suggest]


def _log(low: float, high: float) -> Suggest:
    return lambda trial, name: float(f"{trial.suggest_float(name, low, high, log=True):.3g}")


def _one_of(*values: object) -> Suggest:
    return lambda trial, name: trial.suggest_categorical(name, values)  # type: ignore[arg-type]


def _distill_space(config: TrainConfig[DistillConfig], train: Dataset) -> Space:
    """The weights of all teachers but the first, and the teachers' settings; those of iALS near what a search finds."""
    large = train.num_items > config.trainer.dense_items
    first, *others = config.trainer.terms(large=large)
    width = config.trainer.ials_factors if large else None
    found = search_ials(train, config.seed, width=width)
    given = config.trainer.ials_unobserved, config.trainer.ials_l2
    unobserved, l2 = (found.chosen.unobserved, found.chosen.l2) if found else given

    def teachers(trial: Trial, _name: str) -> str:
        weights = [_log(term.weight / 4, 4 * term.weight)(trial, f"weight of {term.stage}") for term in others]
        rest = [f"{weight} {term.text}" for weight, term in zip(weights, others, strict=True)]
        return " + ".join([f"{first.weight} {first.text}", *rest])

    ials: Space = {
        "search": _one_of(False),
        "ials_unobserved": _log(unobserved / 3, unobserved * 3),
        "ials_l2": _log(l2 / 3, l2 * 3),
    }
    if large:
        return {
            "large_teachers": teachers,
            **ials,
            "graph_neighbours": _one_of(250, 500, 1000),
            "listed": _one_of(60, 100, 150),
        }
    return {
        "teachers": teachers,
        **ials,
        "ease_l2": _log(30, 3000),
        "ease_row_exponent": _one_of(0.0, 0.125, 0.25, 0.375, 0.5),
        "history_factors": _one_of(64, 128, 192, 256),
        "history_epochs": _one_of(16, 32, 50),
    }


def _ncf_space(_config: TrainConfig[Any], _train: Dataset) -> Space:
    """Step size, sizes and regularisation."""
    return {
        "learning_rate": _log(0.001, 0.02),
        "factors": _one_of(8, 16, 32, 64),
        "layers": _one_of("64,32,16,8", "128,64,32,16", "256,128,64,32"),
        "dropout": _one_of(0.0, 0.1, 0.2, 0.3, 0.5),
        "l2_embeddings": _log(1e-8, 1e-4),
        "l2_layers": _log(1e-8, 1e-4),
    }


_SPACES: Final[Mapping[str, Callable[[TrainConfig[Any], Dataset], Space]]] = MappingProxyType(
    {"distill": _distill_space, "ncf": _ncf_space}
)
"""The search space of each trainer that has one."""


@dataclass(frozen=True)
class TunedTrial:
    """A finished trial of a study."""

    number: int
    """From 0; interrupted trials do not count."""
    settings: Mapping[str, object]
    """What was sampled; nothing for the first trial."""
    ndcg: float | None
    """NDCG@20 of what is kept back; None for a trial that was pruned or diverged."""
    seconds: float


def tune(
    dataset: Dataset,
    config: TrainConfig[Any],
    *,
    run: Path,
    trials: int = 20,
    minutes: float | None = None,
    fixed: frozenset[str] = frozenset(),
    after_trial: Callable[[TunedTrial], None] | None = None,
) -> TrainConfig[Any]:
    """Search the settings of a trainer and return the best configuration.

    Args:
        dataset: the training set; the test set is already held out.
        config: the configuration to start from; its seed decides every trial.
        run: directory of the study, created if absent; a study of the same data and configuration there goes on.
        trials: number of finished trials that the study ends with.
        minutes: no trial but the first starts after this time.
        fixed: settings that keep their value.
        after_trial: called after each trial.

    Raises:
        ArgumentError: a trainer without a search space; a study of other data or another configuration; no user to
            keep interactions back of; no trial that was neither pruned nor diverged.
        ImportError: optuna is missing.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
        from optuna.trial import TrialState
    except ModuleNotFoundError as error:
        raise ImportError("tuning needs optuna: pip install 'neuralcf[tune]'") from error
    if config.trainer.name not in _SPACES:
        raise ArgumentError(f"trainer: expected one of {', '.join(_SPACES)}, got {config.trainer.name!r}")
    left, users, (indptr, items) = keep_back(dataset, config.seed)
    if not users.size:
        raise ArgumentError("dataset: expected a user with at least two items, to keep one of them back, got none")
    kept_back = Split(left, np.repeat(users, np.diff(indptr)), items.astype(np.int64), "kept back for tuning")
    _check_same_study(run, {"config": config.to_dict(), "data": dataset.fingerprint(), "fixed": sorted(fixed)})

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="neuralcf",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(run / "study.journal"))),
        pruner=optuna.pruners.PercentilePruner(75.0, n_startup_trials=5),
        direction="maximize",
        load_if_exists=True,
    )
    for left_over in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(left_over.number, state=TrialState.FAIL)
    space = {name: suggest for name, suggest in _SPACES[config.trainer.name](config, left).items() if name not in fixed}
    end = time.monotonic() + 60 * (np.inf if minutes is None else minutes)
    while (number := _finished(study)) < trials and (number == 0 or time.monotonic() < end):
        started = time.perf_counter()
        study.sampler = optuna.samplers.TPESampler(seed=derive(config.seed, Stream.TUNING, number) % 2**32)
        trial = study.ask()
        sampled = {name: suggest(trial, name) for name, suggest in space.items()} if number else {}
        trial.set_user_attr("settings", sampled)
        try:
            ndcg = _try(trial, _with(config, {**sampled, "refit": False}), kept_back)
            study.tell(trial, ndcg)
        except (optuna.TrialPruned, DivergedError):
            ndcg = None
            study.tell(trial, state=TrialState.PRUNED)
        if after_trial:
            after_trial(TunedTrial(number, sampled, ndcg, time.perf_counter() - started))
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        raise ArgumentError(f"{run}: expected a trial that was neither pruned nor diverged, got none")
    return _with(config, study.best_trial.user_attrs["settings"])


def to_toml(config: TrainConfig[Any]) -> str:
    """Write a configuration as TOML, as `neuralcf train --config` takes it."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in config.to_dict().items())


def _try(trial: Trial, config: TrainConfig[Any], kept_back: Split) -> float:
    """Train on what is left; return NDCG@20 of what is kept back."""
    train = kept_back.train
    with (
        TemporaryDirectory(prefix="neuralcf-tune-") as folder,
        _ReportingRun(folder, config, train.fingerprint(), trial) as run,
    ):
        model = TRAINERS[config.trainer.name].fit(train, config, run, progress=False).model
    scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in model.state_dict().items()})
    return evaluate_full(scorer, kept_back, 20).ndcg


class _ReportingRun(RunDirectory):
    """A run directory that reports validation metrics to optuna as they are logged."""

    def __init__(self, path: str, config: TrainConfig[Any], fingerprint: str, trial: Trial) -> None:
        super().__init__(path, config, fingerprint, resume=False)
        self._trial, self._reported = trial, 0

    def log(self, **values: Any) -> None:
        """Append a line to metrics.jsonl.

        Raises:
            TrialPruned: the trial is not worth going on with.
        """
        super().log(**values)
        if values.get("validation_ndcg") is None:
            return
        self._trial.report(values["validation_ndcg"], self._reported)
        self._reported += 1
        if self._trial.should_prune():
            from optuna import TrialPruned

            raise TrialPruned


def _with(config: TrainConfig[Any], settings: Mapping[str, object]) -> TrainConfig[Any]:
    return configure(start=config.to_dict(), settings=[f"{name}={value}" for name, value in settings.items()])


def _finished(study: Study) -> int:
    from optuna.trial import TrialState

    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def _check_same_study(run: Path, study: Mapping[str, Any]) -> None:
    """Write down what is studied, or check that a study found in `run` is of the same."""
    run.mkdir(parents=True, exist_ok=True)
    file = run / "study.json"
    if not file.exists():
        write_atomically(file, json.dumps(study, indent=2).encode())
        return
    try:
        stored = json.loads(file.read_bytes())
    except ValueError as error:
        raise ArgumentError(f"{file}: expected a study, got invalid JSON: {error}") from error
    if stored != json.loads(json.dumps(study)):
        different = [name for name in study if not isinstance(stored, dict) or stored.get(name) != study[name]]
        raise ArgumentError(f"{run}: a study of another {', '.join(different)} is already here; pass another directory")
