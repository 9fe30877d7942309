"""Teachers, sums and cuts on Gowalla's validation set: which `large_teachers` and `listed` to choose.

    OMP_NUM_THREADS=1 python -m benches.training.gowalla_teachers --widths 256 512 1024 --graph 0.3 0.5 --listed 60 100

A tenth of each user's training items is held out (`benches.training.gowalla`), and Recall@20 and NDCG@20 are means over
6,000 users. Never reads the test set. Each width takes minutes.
"""

import argparse
import time

import numpy as np

from benches.training.datasets import gowalla
from benches.training.gowalla import hold_out_a_tenth
from neuralcf.baselines import IALS, GraphFilter
from neuralcf.baselines.base import mask
from neuralcf.data import Split
from neuralcf.data.csr import csr_from_pairs, take_rows
from neuralcf.training.best_items import best_items
from neuralcf.training.cut_by_least_squares import cut_by_least_squares, leading
from neuralcf.training.teachers import Factors, ItemNeighbours, Teacher, TeacherSum, blocks_of

CUTOFF, USERS, SEED = 20, 6000, 5
SETTINGS = {256: (15.0, 0.003), 512: (15.0, 0.003), 1024: (30.0, 0.0015)}
"""`unobserved` and `l2` of iALS by width; the cut takes those of 256."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", type=int, default=[256, 512, 1024], help="of iALS's vectors")
    parser.add_argument("--graph", nargs="+", type=float, default=[0.3, 0.5], help="weights of the graph filter")
    parser.add_argument("--listed", nargs="+", type=int, default=[60, 100], help="items of a list that the cut fits")
    parser.add_argument("--factors", type=int, default=256, help="width of the cut")
    options = parser.parse_args()
    split = hold_out_a_tenth(gowalla())
    train, rows = split.train, split.train.user_items()
    graph = GraphFilter(train, neighbours=500, seed=0)
    neighbours = ItemNeighbours(graph.user_items, graph.neighbours, graph.weights)
    tell("graph filter", neighbours, split)
    for width in options.widths:
        unobserved, l2 = SETTINGS.get(width, SETTINGS[256])
        ials = IALS(train, factors=width, sweeps=3, seed=1, unobserved=unobserved, l2=l2)
        teacher = Factors(ials.user_vectors, ials.item_vectors, np.zeros(train.num_items, np.float32))
        tell(f"ials({width})", teacher, split)
        for weight in options.graph:
            total = TeacherSum([(teacher, 1.0), (neighbours, weight)], np.flatnonzero(np.diff(rows[0])), 0)
            tell(f"ials({width}) + {weight} graph", total, split)
            for listed in options.listed:
                start = leading(teacher.user_vectors, teacher.item_vectors, options.factors - 1)
                unobserved, l2 = SETTINGS[256]
                started = time.process_time()
                cut = cut_by_least_squares(total, rows, start, listed=listed, unobserved=unobserved, l2=l2, sweeps=2)
                seconds = time.process_time() - started
                tell(f"  cut to {options.factors}, listed {listed}, {seconds:.0f} CPU s", cut, split)


def tell(name: str, teacher: Teacher, split: Split) -> None:
    """Print Recall@20 and NDCG@20 over `USERS` users."""
    num_users, num_items = split.train.num_users, split.train.num_items
    rng = np.random.default_rng(SEED)
    with_items = np.unique(split.users)
    users = np.sort(rng.choice(with_items, min(USERS, with_items.size), replace=False))
    known, held = split.train.user_items(), csr_from_pairs(split.users, split.items, num_users, num_items)
    discounts, recalls, gains = 1 / np.log2(np.arange(2, CUTOFF + 2)), [], []
    for block in blocks_of(users, num_items):
        everyone = slice(0, block.size)
        scores, held_out = teacher.scores(block), take_rows(held, block)
        scores[mask(take_rows(known, block), everyone, num_items)] = -np.inf
        top, _ = best_items(scores, CUTOFF)
        hits = np.take_along_axis(mask(held_out, everyone, num_items), top, axis=1)
        counts = np.diff(held_out[0])
        recalls.append(hits.sum(axis=1) / counts)
        gains.append((hits * discounts).sum(axis=1) / np.cumsum(discounts)[np.minimum(counts, CUTOFF) - 1])
    recall, ndcg = (float(np.concatenate(values).mean()) for values in (recalls, gains))
    print(f"{name}: Recall@20 {recall:.4f}, NDCG@20 {ndcg:.4f}", flush=True)


if __name__ == "__main__":
    main()
