"""Tuning: trials depend on the seed alone, a study goes on where it was stopped, and the best trial is chosen."""

import json

import pytest

from neuralcf.data import planted_taste
from neuralcf.errors import ArgumentError
from neuralcf.training import DistillConfig, NCFConfig, TrainConfig, configure
from neuralcf.tuning import _ReportingRun, to_toml, tune

optuna = pytest.importorskip("optuna")

CONFIG = TrainConfig(NCFConfig(model="gmf", epochs=2, batch_size=512), seed=5)
FIXED = frozenset({"model", "layers"})


@pytest.fixture(scope="module")
def dataset():
    return planted_taste(80, 40, interactions_per_user=12, seed=1).dataset


def trials_of(dataset, run, *, trials, config=CONFIG, fixed=FIXED):
    """Tune; return what each trial was and gave, without its time, and the best configuration."""
    seen = []
    best = tune(dataset, config, run=run, trials=trials, fixed=fixed, after_trial=seen.append)
    return [(trial.number, dict(trial.settings), trial.ndcg) for trial in seen], best


def test_a_study_that_was_stopped_goes_on_as_one_that_never_was(dataset, tmp_path):
    whole, best = trials_of(dataset, tmp_path / "whole", trials=4)
    first, _ = trials_of(dataset, tmp_path / "parts", trials=2)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "parts" / "study.journal"))
    )
    optuna.load_study(study_name="neuralcf", storage=storage).ask()  # a trial that a kill interrupts
    rest, resumed = trials_of(dataset, tmp_path / "parts", trials=4)
    assert first + rest == whole
    assert resumed == best
    assert len({json.dumps(settings) for _, settings, _ in whole}) == 4
    other, _ = trials_of(dataset, tmp_path / "other", trials=2, config=TrainConfig(CONFIG.trainer, seed=6))
    assert other[1][1] != whole[1][1]


def test_the_best_trial_is_chosen_and_fixed_settings_stay(dataset, tmp_path):
    trials, best = trials_of(dataset, tmp_path, trials=3)
    assert trials[0][1] == {}
    assert all(not FIXED & settings.keys() for _, settings, _ in trials)
    _, settings, _ = max((trial for trial in trials if trial[2] is not None), key=lambda trial: trial[2])
    expected = configure(start=CONFIG.to_dict(), settings=[f"{name}={value}" for name, value in settings.items()])
    assert best == expected
    (tmp_path / "best.toml").write_text(to_toml(best))
    assert configure(toml=tmp_path / "best.toml") == best


def test_all_weights_but_the_first_teachers_are_searched(dataset, tmp_path):
    config = TrainConfig(DistillConfig(teachers="ials + 0.5 ease", factors=8, ials_factors=4))
    trials, _ = trials_of(dataset, tmp_path, trials=2, config=config, fixed=frozenset({"history_epochs"}))
    ials, ease = DistillConfig(teachers=trials[1][1]["teachers"]).terms(large=False)
    assert (ials.kind, ials.weight, ease.kind) == ("ials", 1.0, "ease")
    assert 0.125 <= ease.weight <= 2
    assert trials[1][1]["search"] is False


def test_a_trial_is_stopped_when_the_pruner_says_so(dataset, tmp_path):
    reported = []

    class Trial:
        def report(self, value, step):
            reported.append((step, value))

        def should_prune(self):
            return len(reported) == 2

    with _ReportingRun(str(tmp_path), CONFIG, dataset.fingerprint(), Trial()) as run:
        run.log(stage="gmf", epoch=1, step=1, loss=0.5)
        run.log(stage="gmf", epoch=1, validation_ndcg=0.3)
        run.log(stage="gmf", epoch=1, validation_ndcg=None)
        with pytest.raises(optuna.TrialPruned):
            run.log(stage="gmf", epoch=2, validation_ndcg=0.2)
    assert reported == [(0, 0.3), (1, 0.2)]


def test_another_study_in_the_directory_is_refused(dataset, tmp_path):
    trials_of(dataset, tmp_path, trials=1)
    with pytest.raises(ArgumentError, match="a study of another config"):
        trials_of(dataset, tmp_path, trials=1, config=TrainConfig(CONFIG.trainer, seed=6))
