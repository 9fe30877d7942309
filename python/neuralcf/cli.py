"""The command line, `neuralcf train`, `evaluate` and so on: options here, what they do in modules of their own.

Exit codes: 0 success, 1 failure, 2 wrong usage or bad input, 130 Ctrl-C. An expected error is one sentence on stderr.
"""

import argparse
import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralcf import doctor
from neuralcf._core import __version__
from neuralcf.errors import InternalError, NeuralCFError
from neuralcf.export import check_target

if TYPE_CHECKING:
    from neuralcf.config import TrainConfig

__all__ = ["main"]

_EXAMPLES = """\
examples:
  neuralcf demo
  neuralcf train ratings.csv --user-column userId --item-column movieId --min-rating 4 --out model
  neuralcf recommend model --user 42 -k 5
  neuralcf inspect model
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an id that the terminal cannot show is no failure
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("neuralcf: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except InternalError:
        raise  # a bug of ours deserves its traceback
    except (NeuralCFError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        return _fail(error, 1 if isinstance(error, ArithmeticError) else 2)  # a loss that diverged is no bad input
    except (OSError, ImportError, MemoryError) as error:
        return _fail(error, 1)
    return 0


def _fail(error: BaseException, code: int) -> int:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        text = f"{where}{error.strerror}"
    else:
        text = str(error) or type(error).__name__
    print(f"neuralcf: {text}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="neuralcf",
        description="Train neural collaborative filtering, and recommend from it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"neuralcf {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], summary: str, example: str) -> Any:
        added = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        return added

    train = command(
        "train",
        _train,
        "train a model on a file of interactions, measure it on held-out ones, write a model directory",
        "neuralcf train ratings.csv --user-column userId --item-column movieId --out model",
    )
    _add_train_options(train)

    evaluate = command(
        "evaluate", _evaluate, "measure a model on held-out interactions", "neuralcf evaluate model ratings.csv"
    )
    evaluate.add_argument("model", metavar="MODEL", help="a model directory, or a .safetensors file")
    evaluate.add_argument("data", metavar="DATA", help=_SPLIT_DATA)
    _add_questions(evaluate)
    _add_protocol(evaluate)
    _add_json(evaluate)
    _add_references(evaluate, [])
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="write the numbers there too, as JSON")
    evaluate.add_argument("--per-user", type=Path, metavar="FILE", help="write the model's value of each user, as .npz")

    compare = command(
        "compare",
        _compare,
        "compare two models on the same held-out interactions, user by user",
        "neuralcf compare model ease ratings.csv",
    )
    for name in "AB":
        compare.add_argument(
            name, help="a model, popularity, itemknn or ease; or an .npz file that evaluate --per-user wrote"
        )
    compare.add_argument("data", nargs="?", metavar="DATA", help=f"{_SPLIT_DATA}; not for .npz files")
    _add_questions(compare)
    _add_protocol(compare)
    _add_json(compare)

    report = command(
        "report",
        _report,
        "write an HTML report of a model: its training, metrics beside references, probabilities, lists to read",
        "neuralcf report model ratings.csv --items movies.csv --out report.html",
    )
    report.add_argument("model", metavar="MODEL", help="a model directory, or a .safetensors file")
    report.add_argument("data", metavar="DATA", help=_SPLIT_DATA)
    report.add_argument("--out", required=True, type=Path, metavar="FILE", help="the file to write, or to replace")
    _add_references(report, ["popularity"])
    report.add_argument("--users", type=int, default=6, metavar="N", help="lists of N users, drawn (default 6)")
    report.add_argument("--user", nargs="+", metavar="ID", help="lists of these users instead")
    _add_items(report)
    _add_questions(report)
    report.set_defaults(protocol="full")  # and 1+99 besides

    describe = command("describe", _describe, "tell what is in a file of interactions", "neuralcf describe ratings.csv")
    describe.add_argument("data", metavar="DATA", help=f"{_DATA}; or X, for X.train.rating and the two beside it")
    _add_data_options(describe)
    _add_json(describe)

    recommend = command(
        "recommend",
        _recommend,
        "print the best items of a user",
        "neuralcf recommend model --user 42 --items movies.csv",
    )
    recommend.add_argument("model", metavar="DIR", help="a model directory that holds ids")
    recommend.add_argument("--user", required=True, metavar="ID", help="the user's id, of the model's type")
    recommend.add_argument("-k", type=_positive, default=10, help="how many items (default 10)")
    recommend.add_argument("--include-seen", action="store_true", help="let items come back that the user knows")
    _add_items(recommend)
    _add_json(recommend)

    inspect = command("inspect", _inspect, "tell what a model is", "neuralcf inspect model")
    inspect.add_argument("model", metavar="DIR", help="a model directory, or a .safetensors file")
    _add_json(inspect)

    examine = command("doctor", _doctor, "tell what this machine offers and what is made of it", "neuralcf doctor")
    _add_json(examine)

    demo = command(
        "demo",
        _demo,
        "train on data made on the spot, serve from Rust, compare with torch, write a report",
        "neuralcf demo --out demo",
    )
    demo.add_argument("--out", type=Path, default=Path("neuralcf-demo"), metavar="DIR", help="default neuralcf-demo")
    return parser


_DATA = "a text file, one interaction a line (.gz too), or a Parquet file"


_SPLIT_DATA = (
    "what the model was trained on, split again as it was; with --held-out the training part; or X, for X.train.rating "
    "and the two beside it"
)


def _add_train_options(train: Any) -> None:
    train.add_argument(
        "ratings", metavar="RATINGS", help=f"{_DATA}; or X, for X.train.rating and the two beside it, a split already"
    )
    train.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="the model directory to write, or to replace"
    )
    _add_data_options(train)
    model = train.add_argument_group("model")
    model.add_argument("--model", choices=("gmf", "mlp", "neumf"), help="default neumf")
    model.add_argument("--factors", type=_positive, metavar="N", help="width of the GMF embeddings (default 8)")
    model.add_argument(
        "--layers",
        type=_sizes,
        metavar="N,N,...",
        help="width of both MLP embeddings together, then of each layer (default 64,32,16,8)",
    )
    split = train.add_argument_group("what is held out, to measure the model by")
    rule = split.add_mutually_exclusive_group()
    rule.add_argument(
        "--split",
        metavar="RULE",
        help="last: each user's latest interaction; random: one of each user; time:X: the latest share X of all, "
        "such as time:0.1; none: nothing (default last, or random without timestamps)",
    )
    rule.add_argument("--held-out", metavar="FILE", help="held-out interactions, in a file like RATINGS")
    run = train.add_argument_group("training")
    run.add_argument("--config", type=Path, metavar="FILE", help="a TOML file whose keys are fields of TrainConfig")
    run.add_argument("--preset", metavar="NAME", help="settings by name, such as paper-8, paper-64, fast")
    run.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="set any field of TrainConfig, such as dropout=0.2, pretrain=true; wins over the file, which wins over "
        "the preset",
    )
    run.add_argument(
        "--epochs", type=_positive, metavar="N", help="passes over the training part, at most (default 20)"
    )
    run.add_argument("--batch-size", type=_positive, metavar="N", help="pairs in a step (default 1024)")
    run.add_argument("--lr", dest="learning_rate", type=float, metavar="X", help="learning rate (default 0.004)")
    run.add_argument("--negatives", type=_positive, metavar="N", help="drawn for each interaction (default 4)")
    run.add_argument("--seed", type=int, metavar="N", help="decides all chance (default 0)")
    run.add_argument(
        "--device", metavar="NAME", help="cpu (default), cuda, cuda:N, mps, or auto: a GPU where there is one"
    )
    run.add_argument(
        "--no-validation",
        dest="validation",
        action="store_const",
        const=False,
        help="keep none of the training part to choose the epoch by, and take the last one: for data too small for it",
    )
    run.add_argument("--run", dest="run_directory", type=Path, metavar="DIR", help="keep metrics and checkpoints there")
    run.add_argument("--resume", action="store_true", help="go on with the run in --run, if one stands there")


def _add_references(parser: Any, default: list[str]) -> None:
    parser.add_argument(
        "--references",
        nargs="+",
        default=default,
        choices=("popularity", "itemknn", "ease"),
        help=f"to rank beside the model (default {' '.join(default) or 'none'})",
    )


def _add_questions(parser: Any) -> None:
    """Add what is to be evaluated on; a protocol is chosen beside it, or both are used."""
    _add_data_options(parser)
    questions = parser.add_argument_group("evaluation")
    questions.add_argument("--held-out", metavar="FILE", help="held-out interactions, in a file like DATA")
    questions.add_argument("-k", type=_positive, nargs="+", default=[5, 10, 20], help="cut-offs (default 5 10 20)")
    questions.add_argument("--seed", type=int, default=0, metavar="N", help="decides what is drawn (default 0)")


def _add_protocol(parser: Any) -> None:
    parser.add_argument(
        "--protocol",
        choices=("full", "1+99"),
        default="full",
        help="rank among the whole catalogue (default), or among 99 candidates: those of X, or drawn ones",
    )


def _add_data_options(parser: Any) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--user-column", type=_column, metavar="COL", help="name, or 0-based number without a header")
    data.add_argument("--item-column", type=_column, metavar="COL", help="likewise")
    data.add_argument("--rating-column", type=_column, metavar="COL", help="likewise")
    data.add_argument("--timestamp-column", type=_column, metavar="COL", help="likewise")
    data.add_argument("--delimiter", metavar="CHAR", help="recognised when not given")
    data.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        help="whether the first line names the columns; recognised when not given",
    )
    data.add_argument("--min-rating", type=float, metavar="X", help="count only ratings of at least X as interactions")
    data.add_argument(
        "--on-bad-rows",
        choices=("raise", "report"),
        help="stop at a row that cannot be understood, or leave such rows out, counted and listed",
    )


def _add_items(parser: Any) -> None:
    items = parser.add_argument_group("titles")
    items.add_argument("--items", metavar="FILE", help="item ids and titles, such as movies.csv, movies.dat or u.item")
    items.add_argument("--items-id-column", type=_column, metavar="COL", help="name or 0-based number; recognised")
    items.add_argument("--items-title-column", type=_column, metavar="COL", help="likewise")


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_positive(size.strip()) for size in text.split(","))


def _column(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


# ----------------------------------------------------------------------------------------------------------- commands


def _recommend(options: argparse.Namespace) -> None:
    command = _import("recommend_command")
    items = _items(options)
    user, best = command.recommend(
        options.model, options.user, options.k, include_seen=options.include_seen, items=items
    )
    if options.json:
        print(json.dumps(command.recommendation_json(user, best, titles=items is not None)))
    elif best:
        print(command.recommendation_text(best))


def _items(options: argparse.Namespace) -> dict[str, Any] | None:
    """Give the arguments of `read_titles`, where a file of items is given."""
    columns = {"id_column": options.items_id_column, "title_column": options.items_title_column}
    if options.items is not None:
        return {"path": options.items, **columns}
    if columns != {"id_column": None, "title_column": None}:
        raise _UsageError("--items-id-column, --items-title-column: expected with --items")
    return None


class _UsageError(NeuralCFError):
    pass


def _inspect(options: argparse.Namespace) -> None:
    command = _import("inspect_command")
    facts = command.inspect_model(options.model)
    print(json.dumps(facts) if options.json else command.inspection_text(facts))


def _doctor(options: argparse.Namespace) -> None:
    facts = doctor.examine()
    print(json.dumps(facts) if options.json else doctor.render(facts))


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    """Give the arguments of `read_interactions`."""
    return {
        "user": options.user_column,
        "item": options.item_column,
        "rating": options.rating_column,
        "timestamp": options.timestamp_column,
        "min_rating": options.min_rating,
        "delimiter": options.delimiter,
        "header": options.header,
        "on_bad_rows": options.on_bad_rows or "raise",
    }


def _describe(options: argparse.Namespace) -> None:
    describe = _import("describe")
    if options.on_bad_rows is None:
        options.on_bad_rows = "report"  # bad rows are part of what there is to tell
    facts = describe.describe(options.data, **_reading(options))
    print(json.dumps(facts) if options.json else describe.render(facts))


def _questions(options: argparse.Namespace) -> Any:
    return _import("evaluate_command").Questions(
        data=options.data,
        reading=_reading(options),
        held_out=options.held_out,
        protocol=options.protocol,
        cutoffs=options.k,
        seed=options.seed,
    )


def _evaluate(options: argparse.Namespace) -> None:
    command = _import("evaluate_command")
    evaluations = command.evaluate_model(options.model, _questions(options), options.references)
    facts = json.dumps(command.evaluation_json(evaluations))
    print(facts if options.json else command.evaluation_text(evaluations))
    if options.out is not None:
        options.out.write_text(facts + "\n", encoding="utf-8")
    if options.per_user is not None:
        evaluations[options.model].save(options.per_user)


def _report(options: argparse.Namespace) -> None:
    written = _import("report_command").write_report(
        options.out,
        options.model,
        _questions(options),
        references=options.references,
        users=options.users if options.user is None else options.user,
        items=_items(options),
    )
    print(written)


def _compare(options: argparse.Namespace) -> None:
    command = _import("evaluate_command")
    a, b = command.evaluate_or_load((options.A, options.B), _questions(options) if options.data else None)
    differences = _import("compare").compare(a, b)
    text = (
        json.dumps(command.comparison_json(differences, a)) if options.json else command.comparison_text(differences, a)
    )
    print(text)


def _train(options: argparse.Namespace) -> None:
    if options.out.suffix == ".safetensors":
        raise _UsageError(f"--out: expected a directory, which can hold ids and interactions, got {options.out}")
    pipeline = _import("pipeline")
    config = _configured(options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    check_target(options.out)

    split, data = _import("train_command").read_split(
        options.ratings, _reading(options), held_out=options.held_out, how=options.split, seed=config.seed
    )
    trained = pipeline.run(split, config, data=data, directory=options.run_directory, resume=options.resume)
    _import("train_command").print_outcome(trained)
    trained.write(options.out)
    example = shlex.join(["neuralcf", "recommend", str(options.out), "--user", str(split.train.user_ids[0])])
    print(f"model written to {options.out}; next: {example}")


def _configured(options: argparse.Namespace) -> "TrainConfig":
    """Put together what the run is told; a run that is resumed begins with what it was told before."""
    from neuralcf.configure import configure

    if options.resume and options.run_directory is None:
        raise _UsageError("--resume: expected a run directory to resume from; pass --run")
    start = _import("run_directory").RunDirectory.stored_config(options.run_directory) if options.resume else None
    names = ("model", "factors", "layers", "epochs", "batch_size", "learning_rate", "negatives", "seed", "device")
    given = {name: getattr(options, name) for name in (*names, "validation") if getattr(options, name) is not None}
    return configure(start=start, preset=options.preset, toml=options.config, settings=options.settings, options=given)


def _demo(options: argparse.Namespace) -> None:
    _import("demo").demo(options.out)


def _import(name: str) -> Any:
    """Import a module of the training side, with an error that tells what to install."""
    try:
        return import_module(f"neuralcf.{name}")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "tqdm", "pyarrow"):
            raise
        raise ImportError(f"this command needs {error.name}: pip install 'neuralcf[train]'") from error
