"""`neuralcf demo`: train on synthetic data, export, serve from Rust, compare with torch, write a report."""

import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from neuralcf._core import Scorer
from neuralcf.data import PlantedTaste, hold_out, planted_taste
from neuralcf.demo.report import DemoReport, TasteList, Timing
from neuralcf.errors import InternalError
from neuralcf.experiment import Experiment, Metric, run_experiment
from neuralcf.files import write_atomically
from neuralcf.format.save import check_target
from neuralcf.models import NeuMF
from neuralcf.report.charts import require_matplotlib
from neuralcf.serving.recommender import Recommender
from neuralcf.training import NCFConfig, TrainConfig

__all__ = ["demo"]

_SEED = 7
_PAUSE = 0.03
"""Seconds of pause before each timed call, as in `benches/peers`."""
_TOLERANCE = 1e-5
"""Largest allowed error against torch's float64 logits, relative to max(1, |logit|)."""


def demo(
    out: Path,
    *,
    num_users: int = 2000,
    num_items: int = 1000,
    epochs: int = 8,
    large: int = 100_000,
    seconds: float = 4,
) -> DemoReport:
    """Train, export, serve, compare; print the results, and write `out/model` and `out/report.html`.

    Args:
        out: output directory, created if absent.
        num_users: number of users of the data set.
        num_items: number of items of the data set.
        epochs: number of training epochs.
        large: number of items of a random model that is also timed.
        seconds: time budget for timing each of the two models.

    Raises:
        ImportError: matplotlib is missing.
        OSError, ArgumentError: `out` cannot be written.
        InternalError: scores or rankings differ from torch's.
    """
    require_matplotlib()
    out.mkdir(parents=True, exist_ok=True)
    model_path = out / "model"
    check_target(model_path)

    planted = planted_taste(num_users, num_items, seed=_SEED)
    data = f"{num_users:,} users, {num_items:,} items, {len(planted.dataset):,} interactions with a planted taste."
    print(f"data       {data}")
    config = TrainConfig(NCFConfig(epochs=epochs, batch_size=4096, learning_rate=0.008), seed=_SEED)
    started = time.perf_counter()
    split = hold_out(planted.dataset, _SEED)
    trained = run_experiment(split, config, data={"fingerprint": planted.dataset.fingerprint(), "split": "auto"})
    print(
        f"training   {epochs} epochs in {time.perf_counter() - started:.1f} s, kept epoch {trained.result.best_epoch}\n"
    )
    _print_metrics(trained)

    trained.write(model_path, ids=(planted.user_titles, planted.item_titles))
    recommender = Recommender.load(model_path)
    difference, pairs = _compare(trained, recommender.scorer)
    print(f"\nlargest difference from torch in float64: {difference:.1e} over {pairs:,} pairs\n")

    timings = _time_both(trained, recommender.scorer, large, seconds)
    machine = (
        f"Rust: {recommender.scorer.isa}, {recommender.scorer.threads} threads. torch {torch.__version__}, eager, the "
        f"faster of 1 and {torch.get_num_threads()} threads. Checked first that both give the same answer, then "
        f"alternated for {seconds:g} s per model, each time after a pause and a warm-up call; minima."
    )
    print("one call for the top 10 of one user, no item excluded")
    for timing in timings:
        print(
            f"{timing.num_items:9,} items   Rust {timing.scorer_ms:8.3f} ms   torch {timing.torch_ms:8.3f} ms   "
            f"{timing.torch_ms / timing.scorer_ms:4.0f}x faster"
        )
    print(machine + "\n")

    lists = [_taste_list(planted, trained, recommender, user) for user in range(4)]
    for taste in lists:
        _print_list(taste)

    report = DemoReport(
        data=data,
        epochs=[(record.loss, record.validation_hr) for record in trained.result.history if record.loss is not None],
        best_epoch=trained.result.best_epoch,
        metrics=_shown(trained),
        timings=timings,
        lists=lists,
        largest_difference=difference,
        pairs_compared=pairs,
        machine=machine,
        config=trained.stored_config(),
    )
    write_atomically(out / "report.html", report.html().encode())
    print(f"model      {model_path}\nreport     {out / 'report.html'}")
    print(f'more       neuralcf recommend {model_path} --user "{planted.user_titles[4]}"')
    return report


def _shown(trained: Experiment) -> list[Metric]:
    return [metric for metric in trained.metrics if metric.name in ("HR@10", "NDCG@10")]


def _print_metrics(trained: Experiment) -> None:
    print(
        f"{'':10} {'NeuMF':>8} {'popularity':>11}   held-out items of {trained.metrics[0].users:,} users, ranked among"
    )
    for metric in _shown(trained):
        print(f"{metric.name:10} {metric.value:8.4f} {metric.popularity:11.4f}   {metric.protocol}")


def _compare(trained: Experiment, scorer: Scorer, pairs: int = 200_000) -> tuple[float, int]:
    """Return the largest |difference| / max(1, |logit|) from torch's float64 logits over random pairs, and `pairs`.

    Raises:
        InternalError: the difference exceeds the tolerance.
    """
    random = np.random.default_rng(_SEED)
    users = random.integers(0, scorer.num_users, pairs)
    items = random.integers(0, scorer.num_items, pairs)
    exact_model = copy.deepcopy(trained.result.model).double()
    with torch.inference_mode():
        exact = exact_model(torch.from_numpy(users), torch.from_numpy(items)).numpy()
    difference = np.abs(scorer.score_batch(users, items, logits=True) - exact) / np.maximum(1, np.abs(exact))
    largest = float(difference.max())
    if largest > _TOLERANCE:
        raise InternalError(f"logits: expected a difference from torch of at most {_TOLERANCE:.0e}, got {largest:.1e}")
    return largest, pairs


def _time_both(trained: Experiment, scorer: Scorer, large: int, seconds: float) -> list[Timing]:
    """Time the demo's model, and a random one with the paper's layers (8 factors) and a large catalogue."""
    torch.manual_seed(_SEED)
    random_model = NeuMF(100, large, factors=8, layers=(64, 32, 16, 8)).eval()
    for table in (parameter for name, parameter in random_model.named_parameters() if "embedding" in name):
        torch.nn.init.normal_(table, std=0.3)  # about the spread of trained embeddings
    random_scorer = Scorer.from_tensors({name: tensor.numpy() for name, tensor in random_model.state_dict().items()})
    return [
        _time(f"this model,\n{scorer.num_items:,} items", trained.result.model, scorer, seconds),
        _time(f"8 factors,\n{large:,} items", random_model, random_scorer, seconds),
    ]


def _time(what: str, model: torch.nn.Module, scorer: Scorer, seconds: float, user: int = 0, k: int = 10) -> Timing:
    """Time the top `k` of a user, no item excluded, by the scorer and by the usual eager torch code."""
    all_items = torch.arange(scorer.num_items)

    def by_torch() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            best = torch.topk(model(torch.full_like(all_items, user), all_items), k)
            return best.indices, best.values

    ours, theirs = scorer.top_k(user, k, logits=True), by_torch()[1].numpy()
    if not np.allclose(ours.scores, theirs, rtol=1e-4, atol=1e-4):
        raise InternalError(f"top {k}: expected torch's logits {theirs.tolist()}, got {ours.scores.tolist()}")
    scorer_ms, *torch_ms = _least(seconds, lambda: scorer.top_k(user, k), by_torch, lambda: _with_one_thread(by_torch))
    return Timing(what, scorer.num_items, scorer_ms, min(torch_ms))


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
