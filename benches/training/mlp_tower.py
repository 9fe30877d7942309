"""Does the MLP tower earn its place as a compressor? Students of one teacher, of equal bytes for each item.

    OMP_NUM_THREADS=1 python -m benches.training.mlp_tower --data ml-100k --seeds 0 1 2 3 4 5 6 7

The teacher is the sum that the preset `fast` cuts: iALS + EASE_n + history encoder. Its scores S0, without row means
and column means, are approximated by

    GMF(64), GMF(128)    the truncated SVD: the best approximation of its rank
    NeuMF(64 + 64)       GMF(64) + an MLP of hidden layers 64 and 16, of which the engine keeps 64 floats for each item:
                         as many bytes as GMF(128). It starts as the SVD of rank 64, with singular directions 65 to 128
                         as the embeddings of the MLP and an output of 0, and is fitted by regression: Adam on the mean
                         squared error over all cells, in batches of users, with a learning rate that falls to 0

and measured by the mean squared error (the variance of S0 is 1), by HR@10 and NDCG@10 on the test set, and by the time
of `Scorer.top_k(user, 10)`, one thread, one user at a time. All students get the column means back as item biases.
"""

import argparse
import time

import numpy as np
import torch
from numpy.typing import NDArray

from benches.training.datasets import movielens_1m, movielens_100k
from neuralcf import Scorer
from neuralcf.baselines import EASE, IALS
from neuralcf.data import Dataset, Split
from neuralcf.evaluation import candidates_of, evaluate_candidates, evaluate_full
from neuralcf.models import Model, NeuMF
from neuralcf.training.search import search_ials
from neuralcf.training.teachers import Factors, ItemWeights, TeacherSum
from neuralcf.training.trainers.history_encoder import HistoryEncoderConfig, train_history_encoder

DATA_SETS = {"ml-100k": movielens_100k, "ml-1m": movielens_1m}
HALF, HIDDEN = 64, (64, 16)
BATCH_USERS = 16
LEARNING_RATE = 0.002


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA_SETS, default="ml-100k")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(8)))
    parser.add_argument("--passes", type=int, default=30, help="of the regression over all users (default 30)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    split = DATA_SETS[options.data]()
    rows: dict[str, list[list[float]]] = {}
    for seed in options.seeds:
        for name, values in students(split, seed, options.passes).items():
            rows.setdefault(name, []).append(values)
            print(seed, name, *(f"{value:.4f}" for value in values), flush=True)
    print(f"\n{options.data}, {len(options.seeds)} seeds: mean +- standard deviation\n")
    print("| student | error | HR@10, 1 + 99 | NDCG@10 | HR@10, all items | NDCG@10 | µs a user | CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    for name, several in rows.items():
        mean, deviation = np.mean(several, axis=0), np.std(several, axis=0, ddof=len(several) > 1)
        cells = [f"{m:.4f} +- {d:.4f}" for m, d in zip(mean[:5], deviation[:5], strict=True)]
        print(f"| {name} | {' | '.join(cells)} | {np.median(several, axis=0)[5]:.0f} | {mean[6]:.1f} |")


def students(split: Split, seed: int, passes: int) -> dict[str, list[float]]:
    """Fit the students of one teacher and measure each."""
    scores = teacher_of(split.train, seed).scores(np.arange(split.train.num_users)).astype(np.float64)
    scores -= scores.mean(axis=1, keepdims=True)
    mu = scores.mean(axis=0)
    wanted = scores - mu
    size = wanted.std()
    wanted, mu = (wanted / size).astype(np.float32), (mu / size).astype(np.float32)
    started = time.process_time()
    values, axes = np.linalg.eigh((wanted.T @ wanted).astype(np.float64))
    v = axes[:, np.argsort(-values)].astype(np.float32)
    p, seconds = wanted @ v, time.process_time() - started
    results = {}
    for width in (HALF, 2 * HALF):
        model: Model = Factors(p[:, : width - 1], v[:, : width - 1], mu).to_gmf()
        results[f"GMF({width})"] = [*measure(model, split, seed, wanted, mu), seconds]
    started = time.process_time()
    model = regression(p[:, : 2 * HALF], v[:, : 2 * HALF], mu, wanted, passes, seed)
    seconds += time.process_time() - started
    results[f"NeuMF({HALF} + {HIDDEN[0]})"] = [*measure(model, split, seed, wanted, mu), seconds]
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


def regression(
    p: NDArray[np.float32],
    v: NDArray[np.float32],
    mu: NDArray[np.float32],
    wanted: NDArray[np.float32],
    passes: int,
    seed: int,
) -> Model:
    """Fit NeuMF: its GMF of HALF - 1 factors and a bias, and the MLP on the rest, [U, 2 HALF] and [I, 2 HALF]."""
    torch.manual_seed(seed)
    model = NeuMF(len(p), len(v), HALF, (2 * HALF, *HIDDEN))
    start = Factors(p[:, : HALF - 1], v[:, : HALF - 1], mu).to_gmf().state_dict()
    weights = model.state_dict()
    for side, vectors in (("user", p), ("item", v)):
        weights[f"gmf.{side}_embedding.weight"].copy_(start[f"gmf.{side}_embedding.weight"])
        rest = torch.from_numpy(vectors[:, HALF:])
        weights[f"mlp.{side}_embedding.weight"].copy_(rest / rest.std())
    weights["output.weight"].zero_()[:, :HALF] = 1
    weights["output.bias"].zero_()
    target, batches = torch.from_numpy(wanted + mu), -(-len(p) // BATCH_USERS)
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    rng, step = np.random.default_rng(seed), 0
    for _ in range(passes):
        for batch in np.array_split(rng.permutation(len(p)), batches):
            users = torch.from_numpy(batch)
            loss = (dense_logits(model, users) - target[users]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / (passes * batches))
            optimiser.step()
            step += 1
    return model.eval()


def dense_logits(model: NeuMF, users: torch.Tensor) -> torch.Tensor:
    """Compute the logits of all items, users [B] -> [B, I]; the first layer splits into a user and an item part."""
    weights = dict(model.named_parameters())
    out = weights["output.weight"][0]
    gmf_user, gmf_item, user, item = (
        weights[f"{part}.{side}_embedding.weight"] for part in ("gmf", "mlp") for side in ("user", "item")
    )
    logits = (gmf_user[users] * out[:HALF]) @ gmf_item.T + weights["output.bias"]
    first = weights["mlp.layers.0.weight"]
    x = (user[users] @ first[:, :HALF].T + weights["mlp.layers.0.bias"])[:, None] + item @ first[:, HALF:].T
    x = torch.relu(torch.relu(x) @ weights["mlp.layers.1.weight"].T + weights["mlp.layers.1.bias"])
    return logits + x @ out[HALF:]


def measure(model: Model, split: Split, seed: int, wanted: NDArray[np.float32], mu: NDArray[np.float32]) -> list[float]:
    """Measure the error over all cells; HR@10 and NDCG@10, twice; microseconds of top_k."""
    scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in model.state_dict().items()}, threads=1)
    items, error = np.arange(scorer.num_items), 0.0
    for user in range(scorer.num_users):
        logits = scorer.score_batch(user, items, logits=True)
        error += float(((logits - mu - wanted[user]) ** 2).sum())
    candidates, origin = candidates_of(split, seed=seed)
    few = evaluate_candidates(scorer, split.users, split.items, *candidates, 10, origin=origin).means
    full = evaluate_full(scorer, split, 10).means
    times = []
    for user in range(min(500, scorer.num_users)):
        started = time.process_time()
        scorer.top_k(user, 10)
        times.append(time.process_time() - started)
    ranking = [means[name] for means in (few, full) for name in ("HR@10", "NDCG@10")]
    return [error / wanted.size, *ranking, float(np.median(times)) * 1e6]


if __name__ == "__main__":
    main()
