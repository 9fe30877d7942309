"""`python -m neuralcf` runs the command `neuralcf`."""

import os
import sys
from typing import NoReturn

from neuralcf.cli import INTERRUPTED, main


def run() -> NoReturn:
    """Run a command in a process of its own; after Ctrl-C leave at once, without freeing what torch holds."""
    code = main()
    if code == INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    run()
