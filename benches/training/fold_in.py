"""What new users lose: a tenth of the users are hidden from training and folded in by their histories.

    OMP_NUM_THREADS=1 python -m benches.training.fold_in --data ml-100k --seeds 0 1 2

Trains twice for each seed: on all users, and without a random tenth of them. The test items of that tenth are then
ranked, among 1 + 99 candidates and over the whole catalogue: "trained in" by their vectors in the first model, "folded
in" by those that the second makes from the same histories (`Scorer.fold_in`). By default the model is that of `neuralcf
train`: "uncut" is the sum of the teachers, as a GMF of full rank; "cut" are its leading factors, the GMF that is
written. `--ncf gmf`, `mlp` and `neumf` train the paper's models instead, whose fold-in fits vectors to a history.

The loss is relative, and includes what a tenth fewer users to learn from cost. Its standard error is that of the paired
difference. The time is that of folding in one user on one thread.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benches.training.datasets import movielens_1m, movielens_100k, movielens_latest_small
from neuralcf import Scorer
from neuralcf.data import Split
from neuralcf.data.csr import take_rows
from neuralcf.evaluation import candidates_of
from neuralcf.evaluation.metrics import hit_ratio, ndcg
from neuralcf.training import TrainConfig, configure, train

DATA_SETS = {"ml-100k": movielens_100k, "ml-latest-small": movielens_latest_small, "ml-1m": movielens_1m}
WIDTH = configure().trainer.factors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA_SETS, default="ml-100k", help="default: ml-100k")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--preset", default="fast", help="default: fast")
    parser.add_argument("--ncf", choices=["gmf", "mlp", "neumf"], help="a model of the paper in place of the preset")
    parser.add_argument("--epochs", type=int, default=10, help="with --ncf; default: 10")
    options = parser.parse_args()
    split = DATA_SETS[options.data]()
    ranks: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for seed in options.seeds:
        if options.ncf is None:
            full_rank = {"factors": split.train.num_items + 1}
            config = configure(preset=options.preset, options={"seed": seed, "threads": 1, **full_rank})
        else:
            chosen = {"model": options.ncf, "epochs": options.epochs, "seed": seed, "threads": 1}
            config = configure(preset="neumf", options=chosen)
        for key, values in measure(split, config).items():
            ranks.setdefault(key, []).append(values)
        print(f"seed {seed}: {time.process_time():.0f} CPU s so far", flush=True)
    print("\n| | protocol | metric | trained in | folded in | loss | standard error |\n|---|---|---|---|---|---|---|")
    for model in dict.fromkeys(model for model, _, _ in ranks):
        for protocol in ("1 + 99", "all items"):
            for name, metric in (("HR@10", hit_ratio), ("NDCG@10", ndcg)):
                trained, folded = (
                    metric(np.concatenate(ranks[model, how, protocol]), 10) for how in ("trained in", "folded in")
                )
                error = (trained - folded).std() / np.sqrt(trained.size) / trained.mean()
                loss = 1 - folded.mean() / trained.mean()
                row = f"{trained.mean():.4f} | {folded.mean():.4f} | {100 * loss:+.1f} % | {100 * error:.1f} %"
                print(f"| {model} | {protocol} | {name} | {row} |")


def measure(split: Split, config: TrainConfig[Any]) -> dict[tuple[str, str, str], np.ndarray]:
    """Give the ranks of the hidden users' test items, by model, way and protocol."""
    data = split.train
    hidden = np.random.default_rng(config.seed).permutation(data.num_users) < data.num_users // 10
    rows = hidden[split.users]
    users, items = split.users[rows], split.items[rows]
    histories = take_rows(data.user_items(), users)
    candidates = take_rows(candidates_of(split, seed=config.seed)[0], np.flatnonzero(rows))
    ranks = {}
    for how, part in (("trained in", data), ("folded in", data.take(~hidden[data.users]))):
        result = train(part, config)
        weights = {name: weight.numpy() for name, weight in result.model.state_dict().items()}
        rankers = {}
        if result.fold_in is not None:
            for model, width in (("uncut", data.num_items + 1), ("cut", WIDTH)):
                rankers[model] = Scorer.from_tensors(narrowed(weights, width), history=narrowed(result.fold_in, width))
        else:
            if how == "folded in":  # without the rows of the hidden users, which are untrained
                weights = {name: w[~hidden] if "user_embedding" in name else w for name, w in weights.items()}
            rankers["fitted"] = Scorer.from_tensors(weights)
        for model, ranker in rankers.items():
            vectors = ranker.user_vectors(users) if how == "trained in" else ranker.fold_in(histories, threads=1)
            ranks[model, how, "1 + 99"] = ranker.rank_of(vectors, items, allow=candidates)
            ranks[model, how, "all items"] = ranker.rank_of(vectors, items, exclude=histories)
        if how == "folded in":
            started = time.process_time()
            ranker.fold_in(histories, threads=1)
            spent = 1000 * (time.process_time() - started) / users.size
            print(f"{users.size} users, {histories[1].size / users.size:.0f} items each: {spent:.2f} CPU ms a user")
    return ranks


def narrowed(tensors: Mapping[str, np.ndarray], width: int) -> dict[str, np.ndarray]:
    """Keep the leading factors, and the last one, which holds the item biases: the cut to a lower rank."""
    full = tensors["output.weight"].shape[1] if "output.weight" in tensors else tensors["bias"].size
    kept = np.r_[: min(width, full) - 1, full - 1]
    return {name: tensor[..., kept] if tensor.shape[-1] == full else tensor for name, tensor in tensors.items()}


if __name__ == "__main__":
    main()
