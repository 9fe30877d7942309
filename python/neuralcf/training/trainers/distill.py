"""Several teachers, one GMF: each teacher is trained by its own formula, their sum is cut to one dot product.

Teachers    iALS (`neuralcf.baselines.ials`), EASE_n (`neuralcf.baselines.item_to_item`), two history encoders
            (`neuralcf.training.trainers.history_encoder`, `logistic_encoder` beside it), matrix factorisation by
            softmax (`matrix_factorization`, there too) and, for large catalogues, the graph filter
            (`neuralcf.baselines.graph_filter`). They err differently, so that their sum ranks better than
            any of them, and better than more of one kind.
Search      iALS is sharp in two settings, and EASE in its regularisation; they are searched first
            (`neuralcf.training.search`).
Sum         Of standardised scores, streamed in blocks of users (`neuralcf.training.teachers`).
Cut         The best approximation of rank factors - 1 with item biases, which become the last factor
            (`neuralcf.training.cut`). Where it loses more than a tenth of the sum's lists, as on sparse data, a cut by
            least squares on the best items of the sum (`neuralcf.training.cut_by_least_squares`) is made too, and the
            one that keeps more of the lists is taken. The GMF costs no more to serve than any other.
Tower       With `student` neumf the cut is the truncated SVD, and an MLP beside it is fitted to what that leaves, by
            regression (`neuralcf.training.tower`): a NeuMF. Only where matrices of items x items fit.
Features    Where the data set has features, the vectors are regressed on them (`neuralcf.training.feature_regression`):
            users and items without interactions get their vectors from it, those of items as long as the validation
            set allows, and those with few move towards it, as far as the validation set likes it.
Logits      a s + b for the scores s of the cut, fitted so that probabilities mean something
            (`neuralcf.training.probability`): on what was held out, or, without validation, on training interactions,
            which is too confident.
Validation  One interaction of each of `validation_users` users is held out and ranked among 99 drawn items after each
            stage, which tells what each teacher, the sum and the cut are worth. It calibrates the logits, and chooses
            how far vectors move towards features, and how long those of new items are; nothing else is chosen by it:
            the search has a split of its own. With `refit` everything is then trained once more on all interactions,
            with the settings found and the logits fitted before.
Large       Above `dense_items` items, matrices of items x items do not fit. Then iALS and the pruned graph filter are
            summed, and cut by least squares.
Training on From a model (`Start`): the teacher `start`, in place of teachers that take long, is the model itself, with
            users' vectors from their whole histories. It knows no new items. iALS starts from the model's vectors.
torchrun    All processes train the teachers that have gradients; all else is done by the first one alone
            (`neuralcf.training.distributed`).
Resuming    By the stage: a checkpoint holds the settings found, the teachers that are trained, or the cut. Chance is
            a function of (seed, purpose, teacher), so that a run that was stopped gives the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm  # type: ignore[import-untyped]

from neuralcf.baselines import EASE, IALS, GraphFilter
from neuralcf.baselines.base import Histories
from neuralcf.data.csr import CSR
from neuralcf.data.dataset import Dataset
from neuralcf.data.negatives import draw_candidates
from neuralcf.errors import ArgumentError
from neuralcf.seeds import Stream, derive
from neuralcf.training.cold_scale import choose_cold_scale
from neuralcf.training.config import TrainConfig
from neuralcf.training.cut import cut_by_svd
from neuralcf.training.cut_by_least_squares import cut_by_least_squares, leading
from neuralcf.training.device import isolated_torch, resolve
from neuralcf.training.distributed import first_only, is_first, on_first
from neuralcf.training.feature_regression import FeatureRegression, choose_l2
from neuralcf.training.fold_in import half_step
from neuralcf.training.lists_kept import lists_kept
from neuralcf.training.presets import DISTILL
from neuralcf.training.probability import fit_logit
from neuralcf.training.run_directory import RunDirectory
from neuralcf.training.search import Search, search_ease, search_ials
from neuralcf.training.start import Start
from neuralcf.training.stored import arrays_of, factors_of, student_of, tensors_of
from neuralcf.training.student import Student
from neuralcf.training.teachers import Factors, ItemNeighbours, ItemWeights, Teacher, TeacherSum, with_estimated_users
from neuralcf.training.tower import TowerConfig, cut_to_neumf
from neuralcf.training.trainer import EpochRecord, Trainer, TrainResult
from neuralcf.training.trainers.distill_config import DistillConfig, Term
from neuralcf.training.trainers.history_encoder import HistoryEncoderConfig, train_history_encoder
from neuralcf.training.trainers.logistic_encoder import LogisticEncoderConfig, train_logistic_encoder
from neuralcf.training.trainers.matrix_factorization import train_matrix_factorization
from neuralcf.training.trainers.matrix_factorization_config import MatrixFactorizationConfig
from neuralcf.training.validation import Validation

__all__ = ["TRAINER", "fit"]

_CALIBRATION_PAIRS = 2000
_CONTINUED_SWEEPS = 2
_MOVES = (0.0, 1.0, 3.0, 10.0)
_BY_GRADIENT = ("history", "logistic", "mf")
"""Kinds of teachers that are trained by gradient descent, which all processes of `torchrun` do together."""
_ENOUGH_KEPT = 0.9
"""Of the sum's lists: a truncated SVD that keeps so much of them is not compared with least squares."""


def fit(
    dataset: Dataset,
    config: TrainConfig[DistillConfig],
    run: RunDirectory | None,
    *,
    progress: bool | None,
    start: Start | None = None,
) -> TrainResult:
    """Train as this module says; see `Trainer` for the arguments."""
    _check_start(config.trainer, start)
    most = min(config.trainer.validation_users, max(1, dataset.num_users // 10))
    validation = Validation.of(dataset, config.seed, most=most) if config.validation else None
    device = resolve(config.device)
    large = dataset.num_items > config.trainer.dense_items
    if large and config.trainer.student == "neumf":
        raise ArgumentError(
            f"student: expected 'gmf' for more than {config.trainer.dense_items} items (dense_items), got 'neumf' for "
            f"{dataset.num_items}"
        )
    steps = _Progress(config.trainer, progress, refit=config.refit, large=large)
    with isolated_torch(config.threads, device), steps as bar:
        distilling = _Distilling(config, device, run, bar, start)
        train = validation.split.train if validation else dataset
        cut = distilling.distill(train, validation, suffix="")
        student, regressions = on_first(lambda: distilling.regress(train, cut, validation, suffix=""))
        scale, bias = on_first(lambda: fit_logit(*_pairs(dataset, validation, student, config.seed)))
        if config.refit:
            cut = distilling.distill(dataset, None, suffix=" refit")
            student, regressions = on_first(lambda: distilling.regress(dataset, cut, None, suffix=" refit"))
    chosen = {**distilling.chosen, "logit_scale": scale, "logit_bias": bias}
    width = student.factors.item_vectors.shape[1] + 1
    maps = {side: regression.to_map(scale, width) for side, regression in regressions.items()}
    fold_in = student.history_tensors(scale=scale)
    return TrainResult(student.to_model(scale=scale, bias=bias), distilling.history, 1, chosen, maps, fold_in)


def fit_from(
    start: Start,
    dataset: Dataset,
    config: TrainConfig[DistillConfig],
    run: RunDirectory | None,
    *,
    progress: bool | None,
) -> TrainResult:
    """Train from the vectors of a model."""
    return fit(dataset, config, run, progress=progress, start=start)


def continued(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Give settings to train on with: the model itself in place of what takes long, and nothing is searched again.

    With iALS beside them, HR@10 on MovieLens-100K was .660 in place of .668, in twice the time.
    """
    names = ("ials_unobserved", "ials_l2", "ease_l2", "ease_row_exponent")
    found = {name: chosen[name] for name in names if name in chosen}
    quick = {"search": False, "ials_sweeps": _CONTINUED_SWEEPS, **found}
    return {**settings, **quick, "teachers": "ease + start", "large_teachers": "ials + start"}


def _check_start(settings: DistillConfig, start: Start | None) -> None:
    kinds = {term.kind for large in (False, True) for term in settings.terms(large=large)}
    if start is None and "start" in kinds:
        raise ArgumentError("teachers: expected a model to start from (--init) for the teacher 'start', got none")


TRAINER: Final = Trainer(DistillConfig, fit, DISTILL, fit_from, continued, lambda _: ("dislikes",))


class _Distilling:
    """The stages of a run; what a checkpoint holds."""

    def __init__(
        self,
        config: TrainConfig[DistillConfig],
        device: torch.device,
        run: RunDirectory | None,
        bar: _Progress,
        start: Start | None,
    ) -> None:
        self.start = start
        self.settings, self.seed, self.device, self.run, self.bar = config.trainer, config.seed, device, run, bar
        stored = on_first(lambda: run.checkpoint() if run else None) or {}
        self.chosen: dict[str, float] = stored.get("chosen", {})
        self.history = [EpochRecord(**record) for record in stored.get("history", [])]
        self._trained: dict[str, dict[str, torch.Tensor]] = stored.get("trained", {})

    def distill(self, train: Dataset, validation: Validation | None, *, suffix: str) -> Student:
        """Train the teachers on `train`, sum and cut them; `suffix` tells the stages of a second pass apart."""
        settings, rows, stage = self.settings, train.user_items(), f"{self.settings.student}{suffix}"
        if stage in self._trained:
            return student_of(self._trained[stage])
        large = train.num_items > settings.dense_items
        terms = settings.terms(large=large)
        if settings.search:
            first_only(lambda: self._search(train, {term.kind for term in terms}))
        mine = [term for term in terms if is_first() or term.kind in _BY_GRADIENT]
        teachers = [(self._teacher(term, train, rows, validation, suffix), term.weight) for term in mine]
        student = on_first(lambda: self._sum_and_cut(terms, teachers, train, validation, stage, suffix))
        self._trained = {stage: tensors_of(student)}  # the teachers have done their work
        self._save()
        return student

    def _sum_and_cut(
        self,
        terms: Sequence[Term],
        teachers: Sequence[tuple[Teacher, float]],
        train: Dataset,
        validation: Validation | None,
        stage: str,
        suffix: str,
    ) -> Student:
        """Sum the teachers, each with its weight, and cut the sum."""
        users = np.flatnonzero(np.diff(train.user_items()[0]))
        seed = derive(self.seed, Stream.TEACHERS)
        started = time.perf_counter()
        total = TeacherSum(teachers, users, seed)
        if len(terms) > 1:
            self._record(f"sum{suffix}", 1, None, started, validation, total)
        if self.settings.student == "neumf":
            return self._cut_to_neumf(total, train, validation, stage)
        started = time.perf_counter()
        of_kind = [teacher for term, (teacher, _) in zip(terms, teachers, strict=True) if term.kind == "ials"]
        student = Student(self._cut(total, of_kind, train))
        self._record(stage, 1, None, started, validation, student)
        return student

    def regress(
        self, train: Dataset, student: Student, validation: Validation | None, *, suffix: str
    ) -> tuple[Student, dict[str, FeatureRegression]]:
        """Regress the vectors on features, where there are any: those without interactions get theirs from it.

        How far vectors with few interactions move towards the regression is chosen on the validation set.
        """
        started, chosen = time.perf_counter(), self.chosen
        users, items = student.vectors()
        sides = {
            "user": (train.user_features, np.bincount(train.users, minlength=train.num_users), users, items),
            "item": (train.item_features, np.bincount(train.items, minlength=train.num_items), items, users),
        }
        if all(features is None for features, *_ in sides.values()):
            return student, {}

        def regressed(k: float) -> tuple[Student, dict[str, FeatureRegression]]:
            regressions, moved = {}, {"user": users, "item": items}
            for side, (features, counts, vectors, _) in sides.items():
                if features is not None:
                    l2 = chosen[f"{side}_features_l2"]
                    regressions[side] = FeatureRegression.fit(features, vectors, counts, l2=l2, k=k)
                    if side == "item":
                        regressions[side] = replace(regressions[side], scale=chosen.get("item_features_scale", 1.0))
                    moved[side] = regressions[side].shrink(vectors)
            return student.with_vectors(moved["user"], moved["item"]), regressions

        width = student.factors.item_vectors.shape[1] + 1  # scores are products of these alone
        for side, (features, counts, vectors, other) in sides.items():
            if features is not None and f"{side}_features_l2" not in chosen:
                seed = derive(self.seed, Stream.TEACHERS, 0, 2)
                chosen[f"{side}_features_l2"] = choose_l2(features, vectors[:, :width], counts, other[:, :width], seed)
        if "features_k" not in chosen:
            measured = {k: validation.measure_scores(regressed(k)[0].scores)[1] for k in _MOVES} if validation else {}
            chosen["features_k"] = max(_MOVES, key=lambda k: measured.get(k, 0.0))  # the first of the best
        features, counts, *_ = sides["item"]
        if features is not None and validation and "item_features_scale" not in chosen:
            chosen["item_features_scale"] = choose_cold_scale(
                student,
                features,
                counts,
                train.user_items(),
                validation,
                l2=chosen["item_features_l2"],
                k=chosen["features_k"],
                seed=derive(self.seed, Stream.TEACHERS, 0, 3),
            )
        result, regressions = regressed(chosen["features_k"])
        stage = f"features{suffix}"
        if all(record.stage != stage for record in self.history):
            self._record(stage, 1, None, started, validation, result)
        return result, regressions

    def _cut_to_neumf(self, total: TeacherSum, train: Dataset, validation: Validation | None, stage: str) -> Student:
        """Cut the sum by SVD, and fit a tower to what that leaves."""
        settings, rows = self.settings, train.user_items()
        users, seed = np.flatnonzero(np.diff(rows[0])), derive(self.seed, Stream.TEACHERS)
        config = TowerConfig(
            layers=settings.tower_layers, epochs=settings.tower_epochs, learning_rate=settings.tower_learning_rate
        )
        self.bar.stage(stage)
        epochs = _Epochs(self.bar)
        student, share = cut_to_neumf(
            total,
            users,
            config,
            num_users=train.num_users,
            num_items=train.num_items,
            rank=settings.factors - 1,
            seed=seed,
            device=self.device,
            after_epoch=epochs.append,
        )
        self.chosen["variance_kept"] = share
        self.chosen["lists_kept"] = lists_kept(total, student, rows, users, seed)
        self._record_epochs(stage, epochs, validation, student)
        return student

    def _cut(self, total: TeacherSum, factorisations: Sequence[Teacher], train: Dataset) -> Factors:
        """Cut the sum: by SVD where matrices of items x items fit, and by least squares where that keeps more lists."""
        settings, rows = self.settings, train.user_items()
        users, seed = np.flatnonzero(np.diff(rows[0])), derive(self.seed, Stream.TEACHERS)
        cuts: list[tuple[float, Factors]] = []
        if train.num_items <= settings.dense_items:
            sizes = {"num_users": train.num_users, "num_items": train.num_items}
            factors, share = cut_by_svd(total, users, **sizes, rank=settings.factors - 1, seed=seed)
            self.chosen["variance_kept"] = share
            cuts.append((lists_kept(total, factors, rows, users, seed), factors))
        if not cuts or (cuts[0][0] < _ENOUGH_KEPT and factorisations):
            width = settings.factors if cuts else settings.large_factors
            factors = self._cut_by_least_squares(total, factorisations, train, width - 1)
            cuts.append((lists_kept(total, factors, rows, users, seed), factors))
        kept, factors = max(cuts, key=lambda cut: cut[0])
        self.chosen["lists_kept"] = kept
        return factors

    def _cut_by_least_squares(
        self, total: TeacherSum, factorisations: Sequence[Teacher], train: Dataset, rank: int
    ) -> Factors:
        """Cut the sum, from the vectors of its widest matrix factorisation."""
        unobserved, l2 = self._ials_settings()
        each = (teacher for teacher in factorisations if isinstance(teacher, Factors))
        widest = max(each, key=lambda factors: factors.item_vectors.size)
        return cut_by_least_squares(
            total,
            train.user_items(),
            leading(widest.user_vectors, widest.item_vectors, rank),
            listed=self.settings.listed,
            sweeps=self.settings.cut_sweeps,
            unobserved=unobserved,
            l2=l2,
            weights=train.pair_weights(),
        )

    def _ials_settings(self) -> tuple[float, float]:
        """Give `unobserved` and `l2` as the search found them, or as they were set."""
        settings, chosen = self.settings, self.chosen
        return chosen.get("ials_unobserved", settings.ials_unobserved), chosen.get("ials_l2", settings.ials_l2)

    def _search(self, train: Dataset, kinds: set[str]) -> None:
        """Search the settings of these kinds of teachers, unless a checkpoint or a first pass has them."""
        if self.chosen:
            return
        self.bar.stage("search")
        large = train.num_items > self.settings.dense_items
        if "ials" in kinds:
            found = search_ials(train, self.seed, width=self.settings.ials_factors if large else None)
            self._choose("ials", found, "unobserved", "l2")
        if "ease" in kinds:
            self._choose("ease", search_ease(train, self.seed), "l2", "row_exponent")
        self._save()
        self.bar.advance()

    def _choose(self, teacher: str, found: Search[Any] | None, *names: str) -> None:
        """Log the trials of a search, best first, and take the settings of the chosen one."""
        if found is not None:
            for trial in found.trials:
                self._log(stage=f"search {teacher}", **asdict(trial))
            self.chosen |= {f"{teacher}_{name}": getattr(found.chosen, name) for name in names}

    def _teacher(
        self, term: Term, train: Dataset, rows: CSR, validation: Validation | None, suffix: str
    ) -> Factors | ItemWeights | ItemNeighbours:
        """Train a teacher, or take it from the checkpoint."""
        stage = term.stage + suffix
        stored = self._trained.get(stage)
        if stored is None:
            started = time.perf_counter()
            self.bar.stage(stage)
            teacher = self._train(term, stage, train, started, validation)
            self._trained[stage] = tensors_of(teacher)
            self._save()
            return teacher
        self.bar.advance(_steps_of(term, self.settings))
        if term.kind == "ease":
            return ItemWeights(Histories(rows, train.num_items, train.pair_weights()), **arrays_of(stored))
        return ItemNeighbours(rows, **arrays_of(stored)) if term.kind == "graph" else factors_of(stored)

    def _train(
        self, term: Term, stage: str, train: Dataset, started: float, validation: Validation | None
    ) -> Factors | ItemWeights | ItemNeighbours:
        settings, seed = self.settings, derive(self.seed, Stream.TEACHERS, term.number)
        teacher: Factors | ItemWeights | ItemNeighbours
        if term.kind == "start":
            assert self.start is not None
            teacher = self.start.taught(train)
        elif term.kind == "ials":
            unobserved, l2 = self._ials_settings()
            width = settings.width(term, len(train))
            ials = IALS(
                train,
                factors=width,
                start=None if self.start is None else self.start.for_ials(train, width),
                sweeps=settings.ials_sweeps,
                seed=seed,
                unobserved=unobserved,
                l2=l2,
            )
            fold_in = half_step(ials.item_vectors, a0=ials.a0, l2=l2)
            teacher = Factors(ials.user_vectors, ials.item_vectors, np.zeros(train.num_items, np.float32), fold_in)
        elif term.kind == "ease":
            l2 = self.chosen.get("ease_l2", settings.ease_l2)
            exponent = self.chosen.get("ease_row_exponent", settings.ease_row_exponent)
            ease = EASE(train, l2=l2, row_exponent=exponent, dtype=np.float32)
            teacher = ItemWeights(ease.histories, np.asarray(ease.weights, np.float32))
        elif term.kind == "graph":
            graph = GraphFilter(train, neighbours=settings.graph_neighbours, seed=seed)
            teacher = ItemNeighbours(graph.user_items, graph.neighbours, graph.weights)
        elif term.kind == "mf":
            mf = MatrixFactorizationConfig(loss="softmax", factors=settings.mf_factors, epochs=settings.mf_epochs)
            teacher = with_estimated_users(
                train_matrix_factorization(train, mf, seed=seed, device=self.device), train.user_items()
            )
        else:
            return self._train_encoder(term, stage, train, validation, seed)
        self._record(stage, 1, None, started, validation, teacher)
        return teacher

    def _train_encoder(
        self, term: Term, stage: str, train: Dataset, validation: Validation | None, seed: int
    ) -> Factors:
        settings, epochs = self.settings, _Epochs(self.bar)
        how: dict[str, Any] = {"seed": seed, "device": self.device, "after_epoch": epochs.append}
        if term.kind == "history":
            softmax = HistoryEncoderConfig(factors=settings.history_factors, epochs=settings.history_epochs)
            teacher = train_history_encoder(train, softmax, **how)
        else:
            logistic = LogisticEncoderConfig(
                factors=settings.history_factors, epochs=settings.logistic_epochs, dropout=settings.logistic_dropout
            )
            teacher = train_logistic_encoder(train, logistic, **how)
        self._record_epochs(stage, epochs, validation, teacher)
        return teacher

    def _record_epochs(self, stage: str, epochs: _Epochs, validation: Validation | None, teacher: Teacher) -> None:
        """Record what was trained by epochs, and measure it after the last one."""
        started = epochs.started
        for epoch, loss, at in epochs.done[:-1]:
            self._add(EpochRecord(stage, epoch, loss, at - started, None, None))
            started = at
        self._record(stage, *epochs.done[-1][:2], started, validation, teacher)

    def _record(
        self,
        stage: str,
        epoch: int,
        loss: float | None,
        started: float,
        validation: Validation | None,
        teacher: Teacher,
    ) -> None:
        """Measure a stage, on the clock until here."""
        seconds = time.perf_counter() - started
        hr, ndcg = validation.measure_scores(teacher.scores) if validation and is_first() else (None, None)
        self._add(EpochRecord(stage, epoch, loss, seconds, hr, ndcg))
        if loss is None:
            self.bar.advance()

    def _add(self, record: EpochRecord) -> None:
        self.history.append(record)
        self._log(**asdict(record))

    def _log(self, **values: Any) -> None:
        if self.run:
            self.run.log(**values)

    def _save(self) -> None:
        if self.run:
            history = [asdict(record) for record in self.history]
            self.run.save({"chosen": self.chosen, "history": history, "trained": self._trained})


class _Epochs:
    """The epochs of a stage, as they end."""

    def __init__(self, bar: _Progress) -> None:
        self.started = time.perf_counter()
        self.done: list[tuple[int, float, float]] = []
        """Number, loss, and the time when it ended."""
        self._bar = bar

    def append(self, epoch: int, loss: float) -> None:
        """End an epoch."""
        self.done.append((epoch, loss, time.perf_counter()))
        self._bar.advance(loss=loss)


class _Progress:
    """A bar over all stages; the epochs of history encoders count one by one."""

    def __init__(self, settings: DistillConfig, progress: bool | None, *, refit: bool, large: bool) -> None:
        terms = settings.terms(large=large)
        cut = settings.tower_epochs if settings.student == "neumf" else 1
        steps = sum(_steps_of(term, settings) for term in terms) + (len(terms) > 1) + cut
        total = int(settings.search) + steps * (2 if refit else 1)
        self._bar = tqdm(total=total, unit="step", disable=None if progress is None else not progress)

    def stage(self, name: str) -> None:
        self._bar.set_description(name)

    def advance(self, steps: int = 1, *, loss: float | None = None) -> None:
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.4f}")
        self._bar.update(steps)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()


def _steps_of(term: Term, settings: DistillConfig) -> int:
    """Give how often the bar advances for a teacher."""
    return {"history": settings.history_epochs, "logistic": settings.logistic_epochs}.get(term.kind, 1)


def _pairs(
    dataset: Dataset, validation: Validation | None, student: Student, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give scores of positives and of drawn negatives to fit logits on."""
    if validation is None:
        rng = np.random.default_rng(derive(seed, Stream.TEACHERS, 0, 1))
        some = rng.choice(len(dataset), min(_CALIBRATION_PAIRS, len(dataset)), replace=False)
        users, items = dataset.users[some], dataset.items[some]
        drawn_by = derive(seed, Stream.VALIDATION_CANDIDATES)
        indptr, others = draw_candidates(dataset.user_items(), dataset.num_items, users, items, seed=drawn_by)
    else:
        users, items, (indptr, others) = validation.split.users, validation.split.items, validation.candidates
    row = np.repeat(users, np.diff(indptr))
    return student.pair_scores(users, items), student.pair_scores(row, others)
