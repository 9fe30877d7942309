"""The command line: the entry point, and one module per command with its options and printing.

A command imports the library code that it needs when it runs, so that `neuralcf --help` starts at once and every
command that does not train works without torch.

Exit codes: 0 success, 1 failure, 2 wrong usage or bad input, 130 Ctrl-C. An expected error is one sentence on stderr.
"""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from neuralcf._core import __version__
from neuralcf.cli import (
    compare,
    convert,
    demo,
    describe,
    doctor,
    embed,
    evaluate,
    index,
    inspect,
    recommend,
    report,
    serve,
    train,
    tune,
)
from neuralcf.cli.options import option_name
from neuralcf.cli.output import Lasting, silence
from neuralcf.errors import DivergedError, InternalError, NeuralCFError, PublishedError, in_words_of

__all__ = ["INTERRUPTED", "main", "make_parser"]

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

_COMMANDS = (
    train,
    tune,
    evaluate,
    compare,
    report,
    describe,
    recommend,
    embed,
    convert,
    index,
    serve,
    inspect,
    doctor,
    demo,
)
_EXTRA = ("torch", "tqdm", "pyarrow")
"""Packages that `pip install 'neuralcf[train]'` installs."""

_WAIT_POLICY = "OMP_WAIT_POLICY"
"""How threads of OpenMP, which torch computes with, wait for each other. By default they spin, and on a machine with
other work they spin for threads that do not run: 58 seconds for what took 5 with `PASSIVE`, on two busy cores."""

_EXAMPLES = """\
examples:
  neuralcf demo
  neuralcf train ratings.csv --user-column userId --item-column movieId --min-rating 4 --out model
  neuralcf recommend model --user 42 -k 5
  neuralcf inspect model
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code."""
    with _output_that_lasts():
        options = make_parser().parse_args(arguments)
        os.environ.setdefault(_WAIT_POLICY, "PASSIVE")  # read when a command imports torch
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        if getattr(options, "out", None) is None:
            options.run(options)
            sys.stdout.flush()
        else:  # what is printed is not what the command is for
            with contextlib.redirect_stdout(Lasting(sys.stdout)):
                options.run(options)
                sys.stdout.flush()
    except KeyboardInterrupt:
        print("neuralcf: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has exited, such as `head`
        silence(sys.stdout)
        return 1
    except InternalError:
        raise  # a bug in NeuralCF: show the traceback
    except (NeuralCFError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        bad_input = not isinstance(error, (DivergedError, PublishedError))
        return _fail(error, 2 if bad_input else 1)
    except (OSError, ImportError, MemoryError) as error:
        return _fail(error, 1)
    return 0


@contextlib.contextmanager
def _output_that_lasts() -> Iterator[None]:
    """Replace closed output; escape ids that the terminal cannot show; let no closed stderr end a command."""
    with contextlib.ExitStack() as stack:
        if sys.stdout is None:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        if sys.stderr is None:
            stack.enter_context(contextlib.redirect_stderr(stack.enter_context(Path(os.devnull).open("w"))))
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        stack.enter_context(contextlib.redirect_stderr(Lasting(sys.stderr)))
        yield


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; the parsed options hold the command's function as `run`."""
    parser = argparse.ArgumentParser(
        prog="neuralcf",
        description="Train neural collaborative filtering models and recommend items with them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"neuralcf {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser


def _fail(error: BaseException, code: int) -> int:
    print(f"neuralcf: {_sentence(error)}", file=sys.stderr)
    return code


def _sentence(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRA:
        return f"this command needs {error.name}: pip install 'neuralcf[train]'"
    if isinstance(error, NeuralCFError) and not isinstance(error, OSError):
        return in_words_of(error.marked(), option_name)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
