"""A preset on Gowalla by the literature's protocol; run with `python -m benches.training.gowalla fast [best ...]`.

All items are ranked without the user's training items; Recall@20 and NDCG@20 are means over the users with test items.
The test set is looked at once for each preset, after training: choose settings by `--validation`, which holds out a
tenth of each user's training items and never reads the test set. Settings may be changed: `fast listed=60`.
"""

import argparse
import dataclasses
import os
import resource
import time

import numpy as np

from benches.training.datasets import gowalla
from neuralcf import Scorer
from neuralcf.data import Split
from neuralcf.evaluation import evaluate_full
from neuralcf.training import configure, train


def hold_out_a_tenth(split: Split, seed: int = 0) -> Split:
    """Hold out a tenth of each user's training items, at least one."""
    dataset = split.train
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(dataset))
    order = order[np.argsort(dataset.users[order], kind="stable")]
    counts = np.bincount(dataset.users, minlength=dataset.num_users)
    place = np.arange(order.size) - np.repeat(np.cumsum(counts) - counts, counts)
    held = np.sort(order[place < np.maximum(1, counts // 10)[dataset.users[order]]])
    kept = np.ones(len(dataset), bool)
    kept[held] = False
    return Split(dataset.take(kept), dataset.users[held], dataset.items[held], "a random tenth of each user's items")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("settings", nargs="*", help="field=value")
    parser.add_argument("--validation", action="store_true", help="measure on a tenth of the training items")
    arguments = parser.parse_args()
    split = hold_out_a_tenth(gowalla()) if arguments.validation else gowalla()
    config = configure(preset=arguments.preset, settings=arguments.settings)
    started, cpu = time.perf_counter(), time.process_time()
    result = train(split.train, config)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    for record in result.history:
        print(*(f"{name} {value}" for name, value in dataclasses.asdict(record).items()), flush=True)
    print(dict(result.chosen))
    scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in result.model.state_dict().items()})
    means = evaluate_full(scorer, split, 20).means
    width = result.model.state_dict()["gmf.item_embedding.weight"].shape[1]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{arguments.preset}{''.join(f' {each}' for each in arguments.settings)}, GMF({width}), "
        f"{'validation' if arguments.validation else 'test'}: Recall@20 {means['Recall@20']:.4f}, "
        f"NDCG@20 {means['NDCG@20']:.4f}; {seconds:.0f} s, {cpu:.0f} CPU s on {os.cpu_count()} cores, {memory:.1f} GiB"
    )


if __name__ == "__main__":
    main()
