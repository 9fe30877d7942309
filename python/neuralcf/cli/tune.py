"""`neuralcf tune`: search settings inside a budget, then train with the best and write a model directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from neuralcf.cli.options import DATA, NCF_PREFIX, Commands, add_command, add_data, one_or_all, positive, reading
from neuralcf.cli.output import command_line
from neuralcf.cli.train import add_split, check_out, print_data, print_outcome

if TYPE_CHECKING:
    from neuralcf.tuning import TunedTrial

__all__ = ["add_parser"]


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "tune",
        _run,
        summary="search the settings of a trainer inside a budget, and train with the best",
        example="neuralcf tune ratings.csv --trials 30 --minutes 20 --run study --out model",
    )
    parser.add_argument(
        "ratings", nargs="+", metavar="RATINGS", help=f"{DATA}; or {NCF_PREFIX}, which are already split"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="model directory to write; an existing model is replaced"
    )
    add_data(parser)
    add_split(parser)
    tuning = parser.add_argument_group("tuning")
    tuning.add_argument("--trials", type=positive, default=20, metavar="N", help="number of trials (default 20)")
    tuning.add_argument("--minutes", type=float, metavar="X", help="start no trial after this time")
    tuning.add_argument(
        "--run",
        dest="run_directory",
        type=Path,
        metavar="DIR",
        help="directory of the study, which goes on if there is one (default OUT.study)",
    )
    tuning.add_argument(
        "--preset",
        metavar="NAME",
        help="what to start from and whose trainer to tune: fast (default), best, neumf, ...",
    )
    tuning.add_argument("--config", type=Path, metavar="FILE", help="a TOML file of settings; overrides the preset")
    tuning.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="set a field and do not search it; may be repeated; overrides the file",
    )
    tuning.add_argument("--seed", type=int, metavar="N", help="random seed (default 0)")


def _run(options: argparse.Namespace) -> None:
    check_out(options.out)
    from neuralcf.data.readers.source import read_split
    from neuralcf.experiment import run_experiment
    from neuralcf.training.configure import configure
    from neuralcf.tuning import to_toml, tune

    given = {} if options.seed is None else {"seed": options.seed}
    config = configure(preset=options.preset, toml=options.config, settings=options.settings, options=given)
    run = options.run_directory or options.out.with_name(f"{options.out.name}.study")
    split, data, reports = read_split(
        one_or_all(options.ratings), reading(options), held_out=options.held_out, how=options.split, seed=config.seed
    )
    print_data(split.train, reports, config)
    best = tune(
        split.train,
        config,
        run=run,
        trials=options.trials,
        minutes=options.minutes,
        fixed=frozenset(setting.partition("=")[0].strip() for setting in options.settings),
        after_trial=_print_trial,
    )
    settings = run / "best.toml"
    settings.write_text(to_toml(best), encoding="utf-8")
    command = command_line(["neuralcf", "train", f"--config={settings}"])
    print(f"the best settings, which {command} takes:\n\n{to_toml(best)}")
    trained = run_experiment(split, best, data=data, directory=run / "training", resume=True)
    print_outcome(trained)
    trained.write(options.out)
    print(f"model written to {options.out}")


def _print_trial(trial: TunedTrial) -> None:
    ndcg = "stopped early   " if trial.ndcg is None else f"NDCG@20 {trial.ndcg:.4f}  "
    settings = ", ".join(f"{name} {value}" for name, value in trial.settings.items()) or "the settings as given"
    print(f"trial {trial.number:3}  {ndcg}  {trial.seconds:6.1f} s  {settings}", flush=True)
