"""Training on from a model beside training again from the start, when a tenth of the interactions has come in since.

    OMP_NUM_THREADS=1 python -m benches.training.continuing --data ml-100k --presets fast neumf mf-softmax --seeds 0 1 2

The first 90 % of the training set by time, with the users and items that occur in them, make the old model. Then all of
the training set has come in, with new users and items:

    old       the old model, which knows no new users and items: they score 0
    on        `neuralcf train --init`: the settings that it takes from the old model, start, train
    again     the preset from the start, on the same data

All are measured on the held-out interactions of the split, HR@10 and NDCG@10 among 1 + 99 candidates and over the whole
catalogue, all users (new ones included). Time is CPU seconds of training. z is the mean difference of on and again
over the users, each user's mean over the seeds first, in standard errors. The training set of MovieLens-1M, in the
paper's files, has no timestamps: there all interactions of a twentieth of the users, and others drawn at random, are
the tenth that comes in later.
"""

import argparse
import tempfile
import time
from typing import Any

import numpy as np
import torch

from benches.training.datasets import movielens_1m, movielens_100k, movielens_latest_small
from neuralcf import Scorer, export
from neuralcf.data import Dataset, Split, renumbered
from neuralcf.evaluation import Evaluation, candidates_of, evaluate_candidates, evaluate_full
from neuralcf.training import TrainConfig, TrainResult, configure, from_dict, train
from neuralcf.training.start import Start
from neuralcf.training.trainers import find_trainer

DATA_SETS = {"ml-100k": movielens_100k, "ml-latest-small": movielens_latest_small, "ml-1m": movielens_1m}
OLD_SHARE, NEW_USERS = 0.9, 0.05
NAMES = ("HR@10", "NDCG@10")


def old_part(whole: Dataset, seed: int) -> Dataset:
    """Give the first interactions, of the users and items that occur in them."""
    if whole.timestamps is None:
        rng = np.random.default_rng(seed)
        late = rng.random(whole.num_users) < NEW_USERS
        order = np.argsort(rng.random(len(whole)) + late[whole.users], kind="stable")
    else:
        order = np.argsort(whole.timestamps, kind="stable")
    early = whole.take(order[: int(OLD_SHARE * len(whole))])
    ids = [np.asarray(each) for each in (early.user_ids, early.item_ids)]
    return Dataset.from_ids(ids[0][early.users], ids[1][early.items], early.timestamps)


def timed(dataset: Dataset, config: TrainConfig[Any], start: Start | None = None) -> tuple[TrainResult, float]:
    """Train; give the result and CPU seconds."""
    started = time.process_time()
    result = train(dataset, config, progress=False, start=start)
    return result, time.process_time() - started


def measure(result: TrainResult, split: Split, seed: int) -> list[Evaluation]:
    """Measure among 1 + 99 candidates, and over the whole catalogue."""
    scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in result.model.state_dict().items()})
    candidates, origin = candidates_of(split, seed=seed)
    few = evaluate_candidates(scorer, split.users, split.items, *candidates, 10, origin=origin)
    return [few, evaluate_full(scorer, split, 10)]


def of_known(result: TrainResult, split: Split) -> TrainResult:
    """Give the model with rows of zeros for the users and items that it does not know."""
    model = result.model
    sizes = {"user": split.train.num_users, "item": split.train.num_items}
    for name, module in model.named_modules():
        for side, size in sizes.items():
            if name.endswith(f"{side}_embedding"):
                rows = module.weight.detach()
                module.weight = torch.nn.Parameter(torch.cat([rows, rows.new_zeros(size - len(rows), rows.shape[1])]))
    return result


def three(split: Split, preset: str, seed: int, settings: list[str]) -> dict[str, tuple[list[Evaluation], float]]:
    """Train and measure the old model, on from it, and again from the start."""
    options = {"seed": seed, "threads": 1}
    config = configure(preset=preset, settings=settings, options=options)
    old = old_part(split.train, seed)
    before, spent = timed(old, config)
    with tempfile.TemporaryDirectory() as folder:
        export(before.model, f"{folder}/old", ids=(old.user_ids, old.item_ids), history=before.fold_in)
        start = Start.load(f"{folder}/old")
    now = renumbered(split, start.user_ids, start.item_ids)
    trainer = find_trainer(config.trainer.name)
    assert trainer.continued is not None
    again, again_spent = timed(now.train, config)
    values = trainer.continued(config.to_dict(), before.chosen)
    on, on_spent = timed(now.train, from_dict(values), start)
    models = {"old": (of_known(before, now), spent), "on": (on, on_spent), "again": (again, again_spent)}
    return {name: (measure(result, now, seed), seconds) for name, (result, seconds) in models.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=["ml-100k"])
    parser.add_argument("--presets", nargs="+", default=["fast", "neumf", "mf-softmax"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="FIELD=VALUE")
    options = parser.parse_args()
    print("| data | preset | | HR@10 / NDCG@10, 1 + 99 | z | all items | z | CPU s | share |\n" + "|---" * 9 + "|")
    for data in options.data:
        split = DATA_SETS[data]()
        for preset in options.presets:
            runs = [three(split, preset, seed, options.settings) for seed in options.seeds]
            for name in ("old", "on", "again"):
                print(row(data, preset, name, runs), flush=True)


def row(data: str, preset: str, name: str, runs: list[dict[str, tuple[list[Evaluation], float]]]) -> str:
    """Render the means over the seeds."""
    cells = [data, preset, name]
    for protocol in range(2):
        ours, again = (
            {metric: np.mean([run[of][0][protocol].per_user[metric] for run in runs], axis=0) for metric in NAMES}
            for of in (name, "again")
        )
        cells.append(" / ".join(f"{ours[metric].mean():.4f}" for metric in NAMES))
        differences = [ours[metric] - again[metric] for metric in NAMES]
        cells.append(
            "" if name == "again" else " / ".join(f"{d.mean() / d.std() * np.sqrt(d.size):+.1f}" for d in differences)
        )
    seconds, whole = (np.mean([run[of][1] for run in runs]) for of in (name, "again"))
    return f"| {' | '.join([*cells, f'{seconds:.1f}', f'{seconds / whole:.2f}'])} |"


if __name__ == "__main__":
    main()
