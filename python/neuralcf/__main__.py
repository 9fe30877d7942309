"""`python -m neuralcf` runs the command `neuralcf`."""

import sys

from neuralcf.cli import main

if __name__ == "__main__":
    sys.exit(main())
