"""Cold items: a tenth of the items has no interaction in the training set, and is ranked by its features alone.

    python -m benches.training.attributes --data ml-latest-small ml-1m

Data        MovieLens in the splits of `benches.training.datasets`. A tenth of the items, drawn by the seed, is hidden:
            all their interactions leave the training set. Features are genres, and the year and the words of titles.
Cold        For each user with interactions with hidden items, these are to be found, NDCG@10 with an ideal of
            min(10, how many): among the hidden items, and among all items but those of the user's training history.
Warm        The held-out interactions of the split with the other items, among all items likewise.
Baselines   Popularity within genres: item i scores sum over its genres g of (how many of the user's items are of g) x
            (mean popularity of g's items), divided by how many genres it has. In the second row known items have
            their own popularity in place of the means, as a shop would do it.
Models      `fast` and `neumf`, each with and without features, otherwise alike; only the regularisation of the
            regression is chosen, by the trainer, on what it may see.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benches.training.datasets import DATA, movielens_1m, movielens_latest_small
from neuralcf.data import Split
from neuralcf.data.readers.features import parse_choice, read_features
from neuralcf.data.readers.rows import read_rows
from neuralcf.training import configure, train

COLUMNS = "genres:multi,title.year:category,title.words:multi"
CUTOFF = 10
DISCOUNTS = 1 / np.log2(np.arange(2, CUTOFF + 2))
Scores = Callable[[np.ndarray], np.ndarray]
"""Users int64 [B] -> scores of all items [B, I]."""


def movies_of(data: str) -> list[tuple[int, str, str]]:
    """Read the id in the data set, the title and the genres of each movie."""
    if data == "ml-latest-small":
        _, rows = read_rows(DATA / data / "movies.csv", "movies")
        return [(int(id_), title, genres) for _, (id_, title, genres) in list(rows)[1:]]
    index = dict(np.loadtxt(DATA / data / "item_ids.txt", dtype=int).tolist())
    _, rows = read_rows(DATA / data / "movies.dat", "movies")
    return [(index[int(id_)], title, genres) for _, (id_, title, genres) in rows if int(id_) in index]


def write_features(data: str, file: Path) -> None:
    """Write a table of item, genres and title, as CSV."""
    with file.open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table)
        rows.writerow(["item", "genres", "title"])
        rows.writerows([id_, genres, title] for id_, title, genres in movies_of(data))


def ndcg(scores: Scores, relevant: np.ndarray, allowed: np.ndarray, excluded: np.ndarray) -> float:
    """Compute the mean NDCG@10 over users with relevant items.

    Args:
        scores: what is measured.
        relevant: bool [U, I].
        allowed: bool [I], the candidates.
        excluded: bool [U, I], what is no candidate of a user.
    """
    values = []
    users = np.flatnonzero(relevant.any(axis=1))
    for block in np.array_split(users, max(1, users.size // 500)):
        found = np.where(allowed & ~excluded[block], scores(block), -np.inf)
        top = np.argsort(-found, axis=1, kind="stable")[:, :CUTOFF]
        hits = np.take_along_axis(relevant[block], top, axis=1)
        ideal = np.cumsum(DISCOUNTS)[np.minimum(relevant[block].sum(axis=1), CUTOFF) - 1]
        values.append(hits @ DISCOUNTS / ideal)
    return float(np.concatenate(values).mean())


def within_genres(genres: np.ndarray, known: np.ndarray, seen: np.ndarray, *, own: bool) -> Scores:
    """Make the popularity baseline: genres bool [I, g], known bool [I], seen bool [U, I]."""
    counts = seen.sum(axis=0)
    means = (genres * counts[:, None])[known].sum(axis=0) / np.maximum(1, genres[known].sum(axis=0))
    popularity = genres * means
    if own:
        popularity[known] = genres[known] * counts[known, None]
    shares = popularity / np.maximum(1, genres.sum(axis=1, keepdims=True))  # [I, g]
    taste = seen.astype(np.float32) @ genres.astype(np.float32)  # [U, g]
    return lambda users: taste[users] @ shares.T


def measure(data: str, presets: list[str], settings: list[str], threads: int, seed: int) -> None:
    """Print the table of one data set."""
    split: Split = movielens_1m() if data == "ml-1m" else movielens_latest_small()
    whole = split.train
    hidden = np.zeros(whole.num_items, bool)
    drawn = np.random.default_rng(seed).choice(whole.num_items, whole.num_items // 10, replace=False)
    hidden[drawn] = True
    plain = whole.take(~hidden[whole.items])
    with tempfile.TemporaryDirectory() as folder:
        write_features(data, Path(folder) / "items.csv")
        features, report = read_features(Path(folder) / "items.csv", whole.item_ids, "item", parse_choice(COLUMNS))
        only_genres, _ = read_features(Path(folder) / "items.csv", whole.item_ids, "item", parse_choice("genres:multi"))
    print(f"{data}: {len(plain):,} interactions to train on, {hidden.sum()} hidden items, features {report.columns}")

    shape = (whole.num_users, whole.num_items)
    seen, cold, warm = (np.zeros(shape, bool) for _ in range(3))
    seen[plain.users, plain.items] = True
    for users, items in ((whole.users, whole.items), (split.users, split.items)):
        cold[users[hidden[items]], items[hidden[items]]] = True
    warm[split.users, split.items] = ~hidden[split.items]
    everything = np.ones(shape[1], bool)

    def row(name: str, scores: Scores, seconds: float) -> None:
        values = (
            ndcg(scores, cold, hidden, seen),
            ndcg(scores, cold, everything, seen),
            ndcg(scores, warm, everything, seen),
        )
        print(f"  {name:38}" + "".join(f"{value:14.4f}" for value in values) + f"{seconds:10.0f}", flush=True)

    print(f"  {'NDCG@10':38}{'cold of cold':>14}{'cold of all':>14}{'warm of all':>14}{'CPU s':>10}")
    genres = only_genres.dense()[:, 1:] > 0
    row("popularity within genres", within_genres(genres, ~hidden, seen, own=False), 0)
    row("popularity within genres, own if known", within_genres(genres, ~hidden, seen, own=True), 0)
    for preset in presets:
        for name, dataset in (("", plain), (" with features", replace(plain, item_features=features))):
            started = time.process_time()
            config = configure(preset=preset, settings=settings, options={"seed": seed, "threads": threads})
            result = train(dataset, config)
            seconds = time.process_time() - started
            row(preset + name, scorer_of(result.model), seconds)
            print("    " + ", ".join(f"{key} {value:.4g}" for key, value in result.chosen.items()))


def scorer_of(model: object) -> Scores:
    """Score all items by the exported tensors."""
    from neuralcf import Scorer

    scorer = Scorer.from_tensors({name: weight.numpy() for name, weight in model.state_dict().items()})
    items = np.arange(scorer.num_items)

    def scores(users: np.ndarray) -> np.ndarray:
        pairs = np.repeat(users, items.size), np.tile(items, users.size)
        return scorer.score_batch(*pairs, logits=True).reshape(users.size, items.size)

    return scores


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(description="Rank hidden items by their features.")
    parser.add_argument("--data", nargs="+", default=["ml-latest-small", "ml-1m"])
    parser.add_argument("--presets", nargs="+", default=["fast", "neumf"])
    parser.add_argument("--set", nargs="*", default=[], help="settings, such as 'teachers=ials + ease'")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for data in options.data:
        measure(data, options.presets, options.set, options.threads, options.seed)


if __name__ == "__main__":
    main()
