"""Ranking quality beside baselines and other libraries: one command, a Markdown table and a JSON file.

    OMP_NUM_THREADS=1 python -m benches.quality --data ml-100k --seeds 0 1 2 --out build/quality

ml-1m (the paper's split and candidates), ml-100k and ml-latest-small (each user's latest interaction held out) are
measured by HR@10 and NDCG@10, among 1 + 99 candidates and over the whole catalogue; Gowalla (the split of the LightGCN
papers) by Recall@20 and NDCG@20 over the whole catalogue. All settings are chosen on interactions kept back from the
training set (`benches.training.contenders`); the test set is only measured. The p-value is that of the paired sign-flip
test against iALS, user by user, of each user's mean over the seeds.

The command can be stopped and run again: what `quality.json` holds is not computed a second time, unless the settings
differ. Per-user metrics lie beside it as .npz files. `quality.md` is written anew each time.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benches.peers.record import machine
from benches.training.contenders import CONTENDERS, DENSE_ITEMS, Settings, tune
from benches.training.datasets import gowalla, movielens_1m, movielens_100k, movielens_latest_small
from neuralcf.data import Split
from neuralcf.evaluation import Evaluation, Ranker, candidates_of, compare, evaluate_candidates, evaluate_full
from neuralcf.files import write_atomically

DATA_SETS = {
    "ml-1m": movielens_1m,
    "ml-100k": movielens_100k,
    "ml-latest-small": movielens_latest_small,
    "gowalla": gowalla,
}
BESIDE = "iALS"
"""The model that all others are compared with."""
PROTOCOLS = {"1 + 99": ("HR@10", "NDCG@10"), "all items": ("HR@10", "NDCG@10", "Recall@20", "NDCG@20")}
"""The metrics that are kept of each protocol."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=list(DATA_SETS), help="default: all")
    parser.add_argument("--models", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--out", type=Path, default=Path("build/quality"), help="default: build/quality")
    options = parser.parse_args()
    results = Results(options.out)
    for data in options.data:
        try:
            split = DATA_SETS[data]()
        except FileNotFoundError as error:
            print(f"{data}: skipped, its files are not beside the checkout: {error}")
            continue
        for name in options.models:
            run(results, data, split, name, options.seeds)
    results.write()
    print((options.out / "quality.md").read_text(encoding="utf-8"))


def run(results: "Results", data: str, split: Split, name: str, seeds: Sequence[int]) -> None:
    """Tune a model on a data set, then fit and measure it by each seed, but for what the results hold already."""
    contender = CONTENDERS[name]
    if contender.dense and split.train.num_items > DENSE_ITEMS:
        results.skip(data, name, f"needs matrices of {split.train.num_items:,} x {split.train.num_items:,}")
        return
    settings = contender.grid[0] if contender.fixed else results.choice(data, name)
    if settings is None:
        with clock() as spent:
            settings, ndcg, tried = tune(contender, split.train)
        results.choose(data, name, settings, ndcg, tried, spent)
        print(f"{data}, {name}: chose {settings} among {tried}, {spent['cpu']:.1f} CPU s", flush=True)
    for seed in seeds if contender.seeds else seeds[:1]:
        if results.has(data, name, seed, settings):
            continue
        with clock() as spent:
            ranker = contender.fit(split.train, settings, seed)
        evaluations = evaluate(ranker, data, split)
        results.add(data, name, seed, settings, spent, evaluations)
        figures = ", ".join(
            f"{protocol} {each.means['HR@10']:.4f}/{each.means['NDCG@10']:.4f}"
            for protocol, each in evaluations.items()
        )
        print(f"{data}, {name}, seed {seed}: {figures}, {spent['cpu']:.1f} CPU s", flush=True)


def evaluate(ranker: Ranker, data: str, split: Split) -> dict[str, Evaluation]:
    """Measure by each protocol of the data set; the candidates are the same for all models and seeds."""
    evaluations = {"all items": evaluate_full(ranker, split, (10, 20))}
    if data != "gowalla":
        candidates, origin = candidates_of(split)
        few = evaluate_candidates(ranker, split.users, split.items, *candidates, 10, origin=origin)
        evaluations = {"1 + 99": few, **evaluations}
    return {
        protocol: replace(each, per_user={name: each.per_user[name] for name in PROTOCOLS[protocol]})
        for protocol, each in evaluations.items()
    }


@contextmanager
def clock() -> Iterator[dict[str, float]]:
    """Measure CPU and wall seconds of a block."""
    spent: dict[str, float] = {}
    cpu, wall = time.process_time(), time.perf_counter()
    yield spent
    spent.update(cpu=time.process_time() - cpu, wall=time.perf_counter() - wall)


class Results:
    """What was measured so far, as kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "quality.json"
        folder.mkdir(parents=True, exist_ok=True)
        empty: dict[str, Any] = {"machine": machine(), "choices": [], "rows": [], "skipped": []}
        self.all = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else empty

    def choice(self, data: str, name: str) -> Settings | None:
        """Give the settings that were chosen, if they were."""
        return next((each["settings"] for each in self._of("choices", data, name)), None)

    def choose(
        self, data: str, name: str, settings: Settings, ndcg: float | None, tried: int, spent: dict[str, float]
    ) -> None:
        chosen = {"data": data, "model": name, "settings": settings, "ndcg": ndcg, "tried": tried, **spent}
        self.all["choices"].append(chosen)
        self._save()

    def skip(self, data: str, name: str, reason: str) -> None:
        if next(self._of("skipped", data, name), None) is None:
            self.all["skipped"].append({"data": data, "model": name, "reason": reason})

    def has(self, data: str, name: str, seed: int, settings: Settings) -> bool:
        same = json.loads(json.dumps(settings))
        return any(row["seed"] == seed and row["settings"] == same for row in self._of("rows", data, name))

    def add(
        self,
        data: str,
        name: str,
        seed: int,
        settings: Settings,
        spent: dict[str, float],
        evaluations: dict[str, Evaluation],
    ) -> None:
        metrics = {}
        for protocol, evaluation in evaluations.items():
            evaluation.save(self._per_user(data, name, seed, protocol))
            metrics[protocol] = evaluation.means
        row = {"data": data, "model": name, "seed": seed, "settings": settings, **spent, "metrics": metrics}
        others = [
            each for each in self.all["rows"] if (each["data"], each["model"], each["seed"]) != (data, name, seed)
        ]
        self.all["rows"] = [*others, row]
        self._save()

    def write(self) -> None:
        """Write both files."""
        self._save()
        write_atomically(self.folder / "quality.md", self.markdown().encode())

    def markdown(self) -> str:
        """Render a table for each data set, the settings, and what was left out."""
        lines = [f"- {key}: {value}" for key, value in self.all["machine"].items()]
        for data in DATA_SETS:
            if rows := [row for row in self.all["rows"] if row["data"] == data]:
                lines += ["", f"## {data}", "", *self._table(data, rows)]
        lines += ["", "## Settings", "", "| data | model | chosen | of | NDCG@20 kept back | CPU s |", "|" + "---|" * 6]
        for each in self.all["choices"]:
            listed = ", ".join(f"`{key}` {value}" for key, value in each["settings"].items())
            ndcg = "" if each["ndcg"] is None else f"{each['ndcg']:.4f}"
            cells = each["data"], each["model"], listed, str(each["tried"]), ndcg, f"{each['cpu']:.0f}"
            lines.append(f"| {' | '.join(cells)} |")
        for each in self.all["skipped"]:
            lines += ["", f"{each['data']}, {each['model']}: not run, {each['reason']}."]
        return "\n".join(lines) + "\n"

    def _table(self, data: str, rows: list[dict[str, Any]]) -> Iterator[str]:
        shown = ["1 + 99 HR@10", "1 + 99 NDCG@10", "all items HR@10", "all items NDCG@10"]
        if data == "gowalla":
            shown = ["all items Recall@20", "all items NDCG@20"]
        heads = ["model", "seeds", *shown, f"p against {BESIDE}", "CPU s", "wall s"]
        yield f"| {' | '.join(heads)} |"
        yield "|" + "---|" * len(heads)
        for name in CONTENDERS:
            of_model = [row for row in rows if row["model"] == name]
            if not of_model:
                continue
            cells = [name, str(len(of_model))]
            for column in shown:
                protocol, _, metric = column.rpartition(" ")
                values = np.array([row["metrics"][protocol][metric] for row in of_model])
                deviation = f" ±{values.std(ddof=1):.4f}" if values.size > 1 else ""
                cells.append(f"{values.mean():.4f}{deviation}")
            cells.append(self._significance(data, name, shown))
            cells += [f"{np.mean([row[key] for row in of_model]):.1f}" for key in ("cpu", "wall")]
            yield f"| {' | '.join(cells)} |"

    def _significance(self, data: str, name: str, shown: list[str]) -> str:
        """Give the p-values of the last two columns."""
        if name == BESIDE or next(self._of("rows", data, BESIDE), None) is None:
            return ""
        protocol = "all items"
        ours, theirs = (self._mean_over_seeds(data, model, protocol) for model in (name, BESIDE))
        p = {difference.metric: difference.p for difference in compare(ours, theirs)}
        return " / ".join(f"{p[column.rpartition(' ')[2]]:.4f}" for column in shown[-2:])

    def _mean_over_seeds(self, data: str, name: str, protocol: str) -> Evaluation:
        seeds = [row["seed"] for row in self._of("rows", data, name)]
        first, *others = [Evaluation.load(self._per_user(data, name, seed, protocol)) for seed in seeds]
        per_user = {
            metric: np.mean([values, *(each.per_user[metric] for each in others)], axis=0)
            for metric, values in first.per_user.items()
        }
        return replace(first, per_user=per_user)

    def _of(self, what: str, data: str, name: str) -> Iterator[dict[str, Any]]:
        return (each for each in self.all[what] if (each["data"], each["model"]) == (data, name))

    def _per_user(self, data: str, name: str, seed: int, protocol: str) -> Path:
        words = f"{data} {name} {seed} {protocol}".replace("+", "").split()
        return self.folder / f"{'-'.join(words)}.npz"

    def _save(self) -> None:
        write_atomically(self.file, json.dumps(self.all, indent=1).encode())


if __name__ == "__main__":
    main()
