"""`neuralcf train`: train on a file of interactions and write a model directory."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralcf.cli.options import (
    DATA,
    NCF_PREFIX,
    Commands,
    add_command,
    add_data,
    add_features,
    in_options,
    one_or_all,
    positive,
    reading,
    separated_by,
    sizes,
    with_features,
)
from neuralcf.cli.output import recommend_command
from neuralcf.errors import ArgumentError, argument
from neuralcf.format.save import check_target

if TYPE_CHECKING:
    from neuralcf.data.dataset import Dataset
    from neuralcf.data.readers.features import FeatureReport
    from neuralcf.data.readers.interactions import ReadReport
    from neuralcf.experiment import Experiment
    from neuralcf.training.config import TrainConfig

_WATCHED_USERS = 10_000
"""Of data in shards, so many users, drawn at random, have interactions held out to test and to validate."""

__all__ = ["add_parser", "add_split", "check_out", "print_data", "print_outcome"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "train",
        _run,
        summary="train a model, evaluate it on a held-out set, and write a model directory",
        example="neuralcf train ratings.csv --user-column userId --item-column movieId --out model",
    )
    parser.add_argument(
        "ratings", nargs="+", metavar="RATINGS", help=f"{DATA}; or {NCF_PREFIX}, which are already split"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="model directory to write; an existing model is replaced"
    )
    add_data(parser)
    add_features(parser)
    _add_model(parser)
    add_split(parser)
    _add_training(parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model", choices=("gmf", "mlp", "neumf"), help="model to train by gradient descent (trainer ncf)"
    )
    model.add_argument(
        "--factors", type=positive, metavar="N", help="width of the GMF embeddings (default 256, 8 for ncf)"
    )
    model.add_argument(
        "--layers",
        type=sizes,
        metavar="N,N,...",
        help="width of both MLP embeddings together, then of each hidden layer (default 64,32,16,8)",
    )


def add_split(parser: argparse.ArgumentParser) -> None:
    """Add the options of the held-out test set."""
    split = parser.add_argument_group("held-out test set")
    rule = split.add_mutually_exclusive_group()
    rule.add_argument(
        "--split",
        metavar="RULE",
        help="last: the latest interaction of each user; random: one random interaction of each user; share:X: the "
        "latest share X of each user's items, such as share:0.2; time:X: the latest share X of all interactions; at:T: "
        "everything from a moment on, such as at:2024-01-01; none (default last, or random without timestamps)",
    )
    rule.add_argument("--held-out", metavar="FILE", help="held-out interactions, in a file like RATINGS")


def _add_training(parser: argparse.ArgumentParser) -> None:
    training = parser.add_argument_group(
        "training",
        "--epochs, --batch-size, --lr and --negatives, like --model and --layers, choose the\n"
        "trainer ncf (gradient descent with sampled negatives), unless --preset or --set does.",
    )
    training.add_argument("--config", type=Path, metavar="FILE", help="a TOML file of settings; overrides the preset")
    training.add_argument(
        "--preset", metavar="NAME", help="a named set of settings: fast (default), best, neumf, paper-8, ..."
    )
    training.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="set any field of the training configuration, such as dropout=0.2 or pretrain=true; may be repeated; "
        "overrides the file",
    )
    training.add_argument(
        "--epochs", type=positive, metavar="N", help="maximum passes over the training set (trainer ncf, default 20)"
    )
    training.add_argument(
        "--batch-size", type=positive, metavar="N", help="pairs per optimiser step, negatives included (default 1024)"
    )
    training.add_argument("--lr", dest="learning_rate", type=float, metavar="X", help="learning rate (default 0.004)")
    training.add_argument(
        "--negatives", type=positive, metavar="N", help="negatives sampled for each interaction (default 4)"
    )
    training.add_argument(
        "--init",
        type=Path,
        metavar="MODEL",
        help="a model directory to start from: keeps its ids and settings, adds new users and items",
    )
    training.add_argument(
        "--half-life",
        type=float,
        metavar="DAYS",
        help="time decay: an interaction counts half as much after so many days",
    )
    training.add_argument(
        "--shards",
        type=Path,
        metavar="DIR",
        help="for Parquet files that need not fit in memory: read them by row groups into shards in this folder, and "
        "train shard by shard (trainer ncf)",
    )
    training.add_argument("--seed", type=int, metavar="N", help="random seed (default 0)")
    training.add_argument(
        "--device", metavar="NAME", help="cpu (default), cuda, cuda:N, mps, or auto for a GPU if there is one"
    )
    training.add_argument(
        "--no-validation",
        dest="validation",
        action="store_const",
        const=False,
        help="train on all interactions of the training set and keep the last epoch, without early stopping; for data "
        "too small to hold out a validation set",
    )
    training.add_argument(
        "--no-fold-in",
        dest="fold_in",
        action="store_false",
        help="leave out history.safetensors, which makes vectors of new users from their histories and takes about as "
        "much memory as the model",
    )
    training.add_argument(
        "--run", dest="run_directory", type=Path, metavar="DIR", help="write metrics and checkpoints to this directory"
    )
    training.add_argument(
        "--resume",
        action="store_true",
        help="resume the run in --run from its last checkpoint, or start one if there is none",
    )


def _run(options: argparse.Namespace) -> None:
    check_out(options.out)
    from neuralcf.training.distributed import joined

    with joined():
        (_train if options.shards is None else _train_on_shards)(options)


def _train(options: argparse.Namespace) -> None:
    from neuralcf.data import decayed, renumbered
    from neuralcf.data.readers.source import read_split
    from neuralcf.experiment import run_experiment
    from neuralcf.training.distributed import first_only
    from neuralcf.training.start import Start

    config = _config(options)
    split, data, reports = read_split(
        one_or_all(options.ratings), reading(options), held_out=options.held_out, how=options.split, seed=config.seed
    )
    start = None
    if options.init is not None:
        start = Start.load(options.init)
        guessed = all(report.delimiter is not None for report in reports)
        split = renumbered(split, start.user_ids, start.item_ids, guessed=guessed)
    train, feature_reports = with_features(options, split.train)
    if options.half_life is not None:
        train, data = decayed(train, options.half_life), {**data, "half_life": options.half_life}
    split = replace(split, train=train)
    print_data(train, reports, config)
    for side, report in feature_reports.items():
        _print_features(side, report)
    trained = run_experiment(
        split, config, data=data, directory=options.run_directory, resume=options.resume, start=start
    )
    print_outcome(trained)
    first_only(lambda: trained.write(options.out, fold_in=options.fold_in))
    print(f"model written to {options.out}; next: {recommend_command(options.out, split.train.user_ids[0])}")


def _train_on_shards(options: argparse.Namespace) -> None:
    from neuralcf.data import hold_out
    from neuralcf.data.readers.shards import write_shards
    from neuralcf.data.shards import Shards
    from neuralcf.experiment import run_experiment
    from neuralcf.training.distributed import first_only

    config, columns = _config(options), {"user": options.user_column, "item": options.item_column}
    _check_for_shards(options, config)

    def written() -> None:
        if not (options.resume and Shards.exist(options.shards)):
            write_shards(options.ratings, options.shards, **columns)

    first_only(written)
    shards = Shards.open(options.shards)
    users = len(shards.user_ids)
    print(
        f"{options.shards}: {shards.count:,} shards, {len(shards):,} interactions of {users:,} users with "
        f"{shards.num_items:,} items"
    )
    some, rule = shards.sample_users(_WATCHED_USERS, config.seed), options.split or "random"
    split = hold_out(some, config.seed, rule)
    train = shards.without(split.users, split.items)
    trained = run_experiment(
        split,
        config,
        data={"fingerprint": some.fingerprint(), "split": rule},
        directory=options.run_directory,
        resume=options.resume,
        shards=train,
    )
    print_outcome(trained)
    first_only(lambda: trained.write(options.out, seen=train.all_rows()))
    print(f"model written to {options.out}; next: {recommend_command(options.out, shards.user_ids[0])}")


def _check_for_shards(options: argparse.Namespace, config: TrainConfig[Any]) -> None:
    """Refuse a trainer that cannot, and what shards do not hold, before any slow work."""
    from neuralcf.training.trainers import find_trainer

    if find_trainer(config.trainer.name).fit_shards is None:
        raise ArgumentError(f"--shards: expected the trainer ncf, such as with --model gmf, got {config.trainer.name}")
    usual = {"min_user": 1, "min_item": 1, "text_ids": False, "on_bad_rows": "raise"}
    given = [
        name for name, value in reading(options).items() if name not in ("user", "item") and value != usual.get(name)
    ]
    others = ("held_out", "init", "half_life", "user_features", "item_features")
    given += [name for name in others if getattr(options, name, None) is not None]
    if given:
        listed = ", ".join(argument(name) for name in given)
        raise ArgumentError(f"--shards: expected columns of users and items alone, no {listed}")
    if options.split not in (None, "random", "none"):
        raise ArgumentError(f"--split: expected random or none with --shards, got {options.split}")


def check_out(out: Path) -> None:
    """Check, before any slow work, that a model directory can be written.

    Raises:
        ArgumentError: it cannot.
    """
    if out.suffix == ".safetensors":
        raise ArgumentError(f"--out: expected a directory, to hold ids and interactions too, got {out}")
    out.parent.mkdir(parents=True, exist_ok=True)
    check_target(out)


def _continued(model: Path) -> dict[str, Any]:
    """Return settings to train on from a model; those that it was trained with, made quicker, where it tells them."""
    from neuralcf.format.config import read_config
    from neuralcf.training.trainers import find_trainer

    settings = dict(read_config(model).get("training", {}))
    settings.pop("best_epoch", None)
    chosen = settings.pop("chosen", {})
    trainer = find_trainer(settings.setdefault("trainer", "distill"))
    if trainer.continued is None:
        raise ArgumentError(f"--init: expected a model of another trainer than {trainer.name}, which cannot: {model}")
    return trainer.continued(settings, chosen)


def _config(options: argparse.Namespace) -> TrainConfig[Any]:
    """Build the configuration; a resumed run starts from the settings stored with it."""
    from neuralcf.training.configure import configure
    from neuralcf.training.run_directory import RunDirectory

    if options.resume and options.run_directory is None:
        raise ArgumentError("--resume: expected a run directory to resume from; pass --run")
    start = RunDirectory.stored_config(options.run_directory) if options.resume else None
    if start is None and options.init is not None:
        start = _continued(options.init)
    names = ("model", "factors", "layers", "epochs", "batch_size", "learning_rate", "negatives", "seed", "device")
    given = {name: getattr(options, name) for name in (*names, "validation") if getattr(options, name) is not None}
    return configure(start=start, preset=options.preset, toml=options.config, settings=options.settings, options=given)


def print_data(train: Dataset, reports: list[ReadReport], config: TrainConfig[Any]) -> None:
    """Print what was read, and what of it training does not use."""
    import numpy as np

    from neuralcf.training.train import unused

    for report in reports:
        columns = f"columns {', '.join(report.columns)}{separated_by(report.delimiter)}"
        passed_over = f"; not read: {', '.join(report.passed_over)}" if report.passed_over else ""
        print(f"{report.source}: {report.rows:,} rows, {columns}{passed_over}")
        for note in report.notes:
            print(f"  guessed: {note}")
        bad = f", {report.bad:,} bad, such as {in_options(report.problems[0])}" if report.bad else ""
        more = {"of events that do not count": report.weightless, "of users or items with too few": report.below_core}
        others = "".join(f", {count:,} {what}" for what, count in more.items() if count)
        others += f"; {report.dislikes:,} dislikes" if report.dislikes else ""
        print(
            f"  skipped: {report.below_threshold:,} below the minimum rating, {report.duplicates:,} duplicates"
            f"{others}{bad}"
        )
    print(f"training on {len(train):,} interactions of {train.num_users:,} users with {train.num_items:,} items")
    untrained = [
        f"{size - len(set(indices.tolist())):,} {what}"
        for what, indices, size in (("users", train.users, train.num_users), ("items", train.items, train.num_items))
        if size > len(set(indices.tolist()))
    ]
    everything = np.flatnonzero(np.diff(train.user_items()[0]) == train.num_items)
    if everything.size:
        user = train.user_ids[everything[0]]
        print(f"  {everything.size:,} users have every item, such as {user}: nothing is sampled for them")
    if untrained:
        print(f"  {' and '.join(untrained)} have no training interaction, and keep their place to be ranked")
    for sentence in unused(train, config):
        print(f"  {sentence}")


def _print_features(side: str, report: FeatureReport) -> None:
    print(f"{report.source}: features of {report.matched:,} {side}s, columns {', '.join(report.columns)}")
    rows = {"with other ids": report.unknown, "duplicates": report.duplicates}
    skipped = ", ".join(f"{count:,} {what}" for what, count in rows.items())
    print(f"  skipped: of {report.rows:,} rows {skipped}; {report.without:,} {side}s have none")
    for what, columns in (("missing", report.missing), ("too rare or too many", report.left_out)):
        if columns:
            listed = ", ".join(f"{count:,} of {name}" for name, count in columns.items())
            print(f"  values {what}: {listed}")
    if report.unused:
        print(f"  not used: {', '.join(report.unused)}, whose values no two {side}s share, or all do")


def print_outcome(trained: Experiment, k: int = 10) -> None:
    """Print which epoch was kept, how long training took, and the metrics at cut-off `k`."""
    from neuralcf.data import GivenSplit
    from neuralcf.training.trainers.distill_config import DistillConfig

    config, history, kind = trained.config, trained.result.history, trained.result.model.kind
    why = "the best on the validation set" if config.validation else "the last, without validation"
    if config.refit:
        why += ", then retrained with the validation set included"
    seconds = sum(record.seconds for record in history)
    if isinstance(config.trainer, DistillConfig):
        _print_stages(trained, seconds)
    else:
        print(
            f"{kind}: kept epoch {trained.result.best_epoch}, {why}; trained {len(history)} epochs in {seconds:.1f} s"
        )
    if not trained.metrics:
        print("  not evaluated: nothing was held out")
        return
    print(f"  {trained.split.guarantee.partition(';')[0]}")
    if isinstance(trained.split, GivenSplit) and trained.split.left_out:
        print(f"  {trained.split.left_out:,} held-out pairs of users or items without training interactions left out")
    print(
        f"  {'':12} {kind:>8} {'popularity':>11}   held-out items of {trained.metrics[0].users:,} users, ranked among"
    )
    for metric in trained.metrics:
        if metric.name in (f"HR@{k}", f"NDCG@{k}"):
            print(f"  {metric.name:12} {metric.value:8.4f} {metric.popularity:11.4f}   {metric.protocol}")


def _print_stages(trained: Experiment, seconds: float) -> None:
    """Print how long each stage took, and how it ranks the validation items."""
    history = trained.result.history
    stages = list(dict.fromkeys(record.stage for record in history))
    print(f"trained {', '.join(stages)} in {seconds:.1f} s; on the validation set, among 1 + 99 candidates:")
    for stage in stages:
        records = [record for record in history if record.stage == stage]
        hr, ndcg = records[-1].validation_hr, records[-1].validation_ndcg
        ranks = "not measured" if hr is None else f"HR@10 {hr:.4f}  NDCG@10 {ndcg:.4f}"
        print(f"  {stage:16} {ranks}  {sum(record.seconds for record in records):6.1f} s")
