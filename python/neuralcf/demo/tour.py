"""`neuralcf demo`: train on synthetic data, export, serve from Rust, compare with torch, write a report.

Two models are trained on the same data: one by the preset `fast`, a GMF whose score is a dot product, and the paper's
NeuMF by the preset `neumf`. Both are measured on the same held-out items, and both are timed.
"""

import copy
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from neuralcf._core import Scorer
from neuralcf.data import PlantedTaste, Split, hold_out, planted_taste
from neuralcf.demo.report import Contender, DemoReport, TasteList, Timing
from neuralcf.errors import InternalError
from neuralcf.experiment import Experiment, Metric, run_experiment
from neuralcf.files import write_atomically
from neuralcf.format.save import check_target
from neuralcf.models import GMF, Model, NeuMF
from neuralcf.report.charts import require_matplotlib
from neuralcf.serving.recommender import Recommender
from neuralcf.training import configure

__all__ = ["demo"]

_SEED = 7
_PAUSE = 0.03
"""Seconds of pause before each timed call, as in `benches/peers`."""
_PAIRS = 200_000
"""Random pairs for which each model's logits are compared with torch's."""
_TOLERANCE = 1e-5
"""Largest allowed error against torch's float64 logits, relative to max(1, |logit|)."""


class _Served(NamedTuple):
    """A trained model, and the same model loaded into Rust."""

    preset: str
    experiment: Experiment
    seconds: float
    """Time for training and evaluating it."""
    recommender: Recommender


def demo(
    out: Path,
    *,
    num_users: int = 2000,
    num_items: int = 1000,
    epochs: int = 10,
    large: int = 100_000,
    seconds: float = 2,
) -> DemoReport:
    """Train, export, serve, compare; print the results, and write `out/model`, `out/neumf` and `out/report.html`.

    Args:
        out: output directory, created if absent.
        num_users: number of users of the data set.
        num_items: number of items of the data set.
        epochs: maximum number of epochs of NeuMF.
        large: number of items of random models that are also timed.
        seconds: time budget for timing each of the four models.

    Raises:
        ImportError: matplotlib is missing.
        OSError, ArgumentError: `out` cannot be written.
        InternalError: scores or rankings differ from torch's.
    """
    require_matplotlib()
    out.mkdir(parents=True, exist_ok=True)
    targets = {"fast": out / "model", "neumf": out / "neumf"}
    for target in targets.values():
        check_target(target)

    planted = planted_taste(num_users, num_items, seed=_SEED)
    data = f"{num_users:,} users, {num_items:,} items, {len(planted.dataset):,} interactions with a planted taste."
    print(f"data       {data}")
    split = hold_out(planted.dataset, _SEED)
    fast, neumf = (
        _train(preset, planted, split, targets[preset], options)
        for preset, options in (("fast", {}), ("neumf", {"epochs": epochs}))
    )
    _print_metrics(fast.experiment, neumf.experiment)

    differences = [_compare(served.experiment, served.recommender.scorer) for served in (fast, neumf)]
    print(f"\nlargest difference from torch in float64: {max(differences):.1e} over {2 * _PAIRS:,} pairs\n")

    timings = _time_all(fast, neumf, large, seconds)
    scorer = fast.recommender.scorer
    machine = (
        f"Rust: {scorer.isa}, {scorer.threads} threads. torch {torch.__version__}, eager, the faster of 1 and "
        f"{torch.get_num_threads()} threads; a GMF as one matrix-vector product, NeuMF as a forward pass over all "
        f"items. Checked first that both give the same answer, then alternated for {seconds:g} s per model, each time "
        "after a pause and a warm-up call; minima."
    )
    print("one call for the top 10 of one user, no item excluded")
    for timing in timings:
        print(
            f"{timing.kind:6} {timing.num_items:9,} items   Rust {timing.scorer_ms:8.3f} ms   "
            f"torch {timing.torch_ms:8.3f} ms   {timing.torch_ms / timing.scorer_ms:4.1f}x faster"
        )
    print(machine + "\n")

    lists = [_taste_list(planted, fast.experiment, fast.recommender, user) for user in range(4)]
    for taste in lists:
        _print_list(taste)

    history = neumf.experiment.result.history
    report = DemoReport(
        data=data,
        contenders=[Contender(each.preset, each.seconds, _shown(each.experiment)) for each in (fast, neumf)],
        epochs=[(record.loss, record.validation_hr) for record in history if record.loss is not None],
        best_epoch=neumf.experiment.result.best_epoch,
        timings=timings,
        lists=lists,
        largest_difference=max(differences),
        pairs_compared=2 * _PAIRS,
        machine=machine,
        config=fast.experiment.stored_config(),
    )
    write_atomically(out / "report.html", report.html().encode())
    print(f"models     {targets['fast']}, {targets['neumf']}\nreport     {out / 'report.html'}")
    more = shlex.join(["neuralcf", "recommend", str(targets["fast"]), f"--user={planted.user_titles[4]}"])
    print(f"more       {more}")
    return report


def _train(preset: str, planted: PlantedTaste, split: Split, target: Path, options: dict[str, int]) -> _Served:
    """Train by a preset on one thread, write the model to `target`, and load it into Rust."""
    config = configure(preset=preset, options={"seed": _SEED, "threads": 1, **options})
    data = {"fingerprint": planted.dataset.fingerprint(), "split": "auto"}
    started = time.perf_counter()
    experiment = run_experiment(split, config, data=data)
    seconds = time.perf_counter() - started
    experiment.write(target, ids=(planted.user_titles, planted.item_titles))
    stages = ", ".join(dict.fromkeys(record.stage for record in experiment.result.history))
    print(f"training   {preset}: {stages} in {seconds:.1f} s, evaluation included")
    return _Served(preset, experiment, seconds, Recommender.load(target))


def _shown(trained: Experiment) -> list[Metric]:
    return [metric for metric in trained.metrics if metric.name in ("HR@10", "NDCG@10")]


def _print_metrics(fast: Experiment, neumf: Experiment) -> None:
    users = fast.metrics[0].users
    print(f"\n{'':10} {'fast':>8} {'NeuMF':>8} {'popularity':>11}   held-out items of {users:,} users, ranked among")
    for ours, theirs in zip(_shown(fast), _shown(neumf), strict=True):
        print(f"{ours.name:10} {ours.value:8.4f} {theirs.value:8.4f} {ours.popularity:11.4f}   {ours.protocol}")


def _compare(trained: Experiment, scorer: Scorer) -> float:
    """Return the largest |difference| / max(1, |logit|) from torch's float64 logits over random pairs.

    Raises:
        InternalError: the difference exceeds the tolerance.
    """
    random = np.random.default_rng(_SEED)
    users = random.integers(0, scorer.num_users, _PAIRS)
    items = random.integers(0, scorer.num_items, _PAIRS)
    exact_model = copy.deepcopy(trained.result.model).double()
    with torch.inference_mode():
        exact = exact_model(torch.from_numpy(users), torch.from_numpy(items)).numpy()
    difference = np.abs(scorer.score_batch(users, items, logits=True) - exact) / np.maximum(1, np.abs(exact))
    largest = float(difference.max())
    if largest > _TOLERANCE:
        raise InternalError(f"logits: expected a difference from torch of at most {_TOLERANCE:.0e}, got {largest:.1e}")
    return largest


def _time_all(fast: _Served, neumf: _Served, large: int, seconds: float) -> list[Timing]:
    """Time both models, and random ones of the same kinds and a large catalogue: GMF(256), and the paper's NeuMF(8)."""
    timings = [_time(each.experiment.result.model, each.recommender.scorer, seconds) for each in (fast, neumf)]
    torch.manual_seed(_SEED)
    for model in (GMF(100, large, factors=256).eval(), NeuMF(100, large, factors=8, layers=(64, 32, 16, 8)).eval()):
        for table in (parameter for name, parameter in model.named_parameters() if "embedding" in name):
            torch.nn.init.normal_(table, std=0.3)  # about the spread of trained embeddings
        scorer = Scorer.from_tensors({name: tensor.numpy() for name, tensor in model.state_dict().items()})
        timings.append(_time(model, scorer, seconds))
    return timings


def _time(model: Model, scorer: Scorer, seconds: float, user: int = 0, k: int = 10) -> Timing:
    """Time the top `k` of a user, no item excluded, by the scorer and by the usual eager torch code."""
    all_items = torch.arange(scorer.num_items)

    def logits() -> torch.Tensor:
        if isinstance(model, GMF):
            vector = model.output.weight[0] * model.gmf.user_embedding.weight[user]
            return torch.addmv(model.output.bias, model.gmf.item_embedding.weight, vector)
        of_all: torch.Tensor = model(torch.full_like(all_items, user), all_items)
        return of_all

    def by_torch() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            best = torch.topk(logits(), k)
            return best.indices, best.values

    ours, theirs = scorer.top_k(user, k, logits=True), by_torch()[1].numpy()
    if not np.allclose(ours.scores, theirs, rtol=1e-4, atol=1e-4):
        raise InternalError(f"top {k}: expected torch's logits {theirs.tolist()}, got {ours.scores.tolist()}")
    scorer_ms, *torch_ms = _least(seconds, lambda: scorer.top_k(user, k), by_torch, lambda: _with_one_thread(by_torch))
    kind = "GMF" if isinstance(model, GMF) else "NeuMF"
    return Timing(kind, scorer.num_items, scorer_ms, min(torch_ms))


def _with_one_thread(function: Callable[[], object]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        function()
    finally:
        torch.set_num_threads(threads)


def _least(seconds: float, *functions: Callable[[], object]) -> list[float]:
    """Return the minimum milliseconds of each function over at least three rounds.

    Each timed call follows a pause, because torch's threads spin for a while after their work and would slow down the
    next function, and a warm-up call, because threads fall asleep during the pause.
    """
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 3:
        for function, of_one in zip(functions, times, strict=True):
            time.sleep(_PAUSE)
            function()
            started = time.perf_counter()
            function()
            of_one.append(1000 * (time.perf_counter() - started))
    return [min(of_one) for of_one in times]


def _taste_list(planted: PlantedTaste, trained: Experiment, recommender: Recommender, user: int) -> TasteList:
    taste = planted.user_titles[user]
    train = trained.split.train
    mine = np.flatnonzero(train.users == user)
    assert train.timestamps is not None  # planted data has them
    latest = mine[np.argsort(-train.timestamps[mine])][:6]
    best = recommender.recommend(taste, 10)
    recommended = [
        (title, score, title.rsplit(" ", 1)[0] in taste)
        for title, score in zip(best.ids.tolist(), best.scores.tolist(), strict=True)
    ]
    return TasteList(taste, [planted.item_titles[item] for item in train.items[latest]], recommended)


def _print_list(taste: TasteList) -> None:
    print(f"{taste.taste}\n    latest       {', '.join(taste.history)}")
    titles = [f"{title}{'' if liked else ' (?)'}" for title, _, liked in taste.recommended]
    print(f"    recommended  {', '.join(titles)}\n")
