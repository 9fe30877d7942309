"""Does the MLP tower earn its place as a compressor? Students of one teacher, of equal bytes for each item.

    OMP_NUM_THREADS=1 python -m benches.training.mlp_tower --data ml-100k --seeds 0 1 2 3 4 5 6 7

The teacher is the sum that the preset `fast` cuts: iALS + EASE_n + history encoder. Its centred scores S0 are
approximated by

    GMF(64), GMF(128)    the truncated SVD: the best approximation of its rank (`neuralcf.training.cut`)
    NeuMF(64 + 64)       GMF(64) and an MLP of hidden layers 64 and 16, fitted by regression to what the SVD leaves
                         (`neuralcf.training.tower`). The engine keeps 64 floats of its first layer for each item: as
                         many bytes as GMF(128)

and measured by the mean squared error (the variance of S0 is 1), by HR@10 and NDCG@10 on the test set, and by the time
of `Scorer.top_k(user, 10)`, one thread, one user at a time. The last lines are differences between students of equal
bytes, NeuMF minus GMF(128), in standard errors over the seeds.
"""

import argparse
import time

import numpy as np
import torch

from benches.training.datasets import movielens_1m, movielens_100k
from neuralcf import Scorer
from neuralcf.baselines import EASE, IALS
from neuralcf.data import Dataset, Split
from neuralcf.evaluation import candidates_of, evaluate_candidates, evaluate_full
from neuralcf.training.cut import cut_by_svd
from neuralcf.training.search import search_ials
from neuralcf.training.student import Student
from neuralcf.training.teachers import Factors, ItemWeights, TeacherSum
from neuralcf.training.tower import TowerConfig, cut_to_neumf
from neuralcf.training.trainers.history_encoder import HistoryEncoderConfig, train_history_encoder

DATA_SETS = {"ml-100k": movielens_100k, "ml-1m": movielens_1m}
HALF, HIDDEN = 64, (64, 16)
NEUMF = f"NeuMF({HALF} + {HIDDEN[0]})"
MEASURES = ("error", "HR@10, 1 + 99", "NDCG@10", "HR@10, all items", "NDCG@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA_SETS, default="ml-100k")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(8)))
    parser.add_argument("--passes", type=int, default=TowerConfig.epochs, help="of the regression over all cells")
    options = parser.parse_args()
    torch.set_num_threads(1)
    split = DATA_SETS[options.data]()
    rows: dict[str, list[list[float]]] = {}
    for seed in options.seeds:
        for name, values in students(split, seed, options.passes).items():
            rows.setdefault(name, []).append(values)
            print(seed, name, *(f"{value:.4f}" for value in values), flush=True)
    print(f"\n{options.data}, {len(options.seeds)} seeds: mean +- standard deviation\n")
    print(f"| student | {' | '.join(MEASURES)} | µs a user | CPU s |\n|{'---|' * (len(MEASURES) + 3)}")
    for name, several in rows.items():
        mean, deviation = np.mean(several, axis=0), np.std(several, axis=0, ddof=len(several) > 1)
        cells = [f"{m:.4f} +- {d:.4f}" for m, d in zip(mean[:5], deviation[:5], strict=True)]
        print(f"| {name} | {' | '.join(cells)} | {np.median(several, axis=0)[5]:.0f} | {mean[6]:.1f} |")
    if len(options.seeds) > 1:
        differences = np.array(rows[NEUMF]) - np.array(rows[f"GMF({2 * HALF})"])
        errors = differences.std(axis=0, ddof=1) / np.sqrt(len(differences))
        for name, mean, error in zip(MEASURES, differences.mean(axis=0), errors, strict=False):
            print(f"{name}: {mean:+.4f}, {mean / error:+.1f} standard errors")


def students(split: Split, seed: int, passes: int) -> dict[str, list[float]]:
    """Fit the students of one teacher and measure each."""
    teacher, users = teacher_of(split.train, seed), np.arange(split.train.num_users)
    sizes = {"num_users": split.train.num_users, "num_items": split.train.num_items}
    results = {}
    for name in (f"GMF({HALF})", f"GMF({2 * HALF})", NEUMF):
        started = time.process_time()
        if name == NEUMF:
            config = TowerConfig(layers=(2 * HALF, *HIDDEN), epochs=passes)
            student, _ = cut_to_neumf(teacher, users, config, **sizes, rank=HALF - 1, seed=seed)
        else:
            rank = (HALF if name == f"GMF({HALF})" else 2 * HALF) - 1
            student = Student(cut_by_svd(teacher, users, **sizes, rank=rank, seed=seed)[0])
        seconds = time.process_time() - started
        results[name] = [error_of(student, teacher, users), *measure(student, split, seed), seconds]
    return results


def teacher_of(train_set: Dataset, seed: int) -> TeacherSum:
    found = search_ials(train_set, seed)
    assert found is not None
    ials = IALS(train_set, factors=256, unobserved=found.chosen.unobserved, l2=found.chosen.l2, seed=seed)
    ease = EASE(train_set, l2=400.0, row_exponent=0.25, dtype=np.float32)
    history = train_history_encoder(train_set, HistoryEncoderConfig(), seed=seed)
    factors = Factors(ials.user_vectors, ials.item_vectors, np.zeros(train_set.num_items, np.float32))
    teachers = [
        (factors, 1.0),
        (ItemWeights(ease.histories, np.asarray(ease.weights, np.float32)), 1.0),
        (history, 1.0),
    ]
    return TeacherSum(teachers, np.flatnonzero(np.diff(train_set.user_items()[0])), seed)


def error_of(student: Student, teacher: TeacherSum, users: np.ndarray) -> float:
    """Compute the mean squared error over all cells, in shares of the variance of the centred scores."""
    wanted = teacher.scores(users)
    wanted -= wanted.mean(axis=1, keepdims=True)
    spread = (wanted - wanted.mean(axis=0)).var()
    return float(np.square(student.scores(users) - wanted).mean() / spread)


def measure(student: Student, split: Split, seed: int) -> list[float]:
    """Measure HR@10 and NDCG@10, twice, and microseconds of top_k."""
    weights = {name: weight.numpy() for name, weight in student.to_model().state_dict().items()}
    scorer = Scorer.from_tensors(weights, threads=1)
    candidates, origin = candidates_of(split, seed=seed)
    few = evaluate_candidates(scorer, split.users, split.items, *candidates, 10, origin=origin).means
    full = evaluate_full(scorer, split, 10).means
    times = []
    for user in range(min(500, scorer.num_users)):
        started = time.process_time()
        scorer.top_k(user, 10)
        times.append(time.process_time() - started)
    ranking = [means[name] for means in (few, full) for name in ("HR@10", "NDCG@10")]
    return [*ranking, float(np.median(times)) * 1e6]


if __name__ == "__main__":
    main()
