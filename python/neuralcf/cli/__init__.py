"""The command line: the front door, and a module for each command that knows its options.

What a command does stands in a module outside, imported when the command runs: `neuralcf --help` waits for none of
them, and an installation without torch has every command that does not train.

Exit codes: 0 success, 1 failure, 2 wrong usage or bad input, 130 Ctrl-C. An expected error is one sentence on stderr.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from neuralcf._core import __version__
from neuralcf.cli import compare, demo, describe, doctor, evaluate, inspect, recommend, report, train
from neuralcf.errors import InternalError, NeuralCFError

__all__ = ["main", "make_parser"]

_COMMANDS = (train, evaluate, compare, report, describe, recommend, inspect, doctor, demo)
_EXTRA = ("torch", "tqdm", "pyarrow")
"""What `pip install 'neuralcf[train]'` brings."""

_EXAMPLES = """\
examples:
  neuralcf demo
  neuralcf train ratings.csv --user-column userId --item-column movieId --min-rating 4 --out model
  neuralcf recommend model --user 42 -k 5
  neuralcf inspect model
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = make_parser().parse_args(arguments)
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


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands; what it parses has in `run` the function to call with it."""
    parser = argparse.ArgumentParser(
        prog="neuralcf",
        description="Train neural collaborative filtering, and recommend from it.",
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
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
