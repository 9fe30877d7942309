"""One process and several of torchrun: seconds an epoch, and how the models rank.

    python -m benches.training.processes RATINGS [--processes N] [OPTION of `neuralcf train`]...

The processes share this machine: with fewer idle cores than processes the seconds say nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from neuralcf.format.config import read_config


def measure(processes: int, ratings: str, options: list[str]) -> tuple[float, dict[str, float]]:
    """Train in so many processes; give the median seconds of an epoch, and the metrics."""
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "--"]
    with tempfile.TemporaryDirectory() as folder:
        where = ["--run", f"{folder}/run", "--out", f"{folder}/model"]
        subprocess.run([*launcher, "neuralcf", "train", ratings, *options, *where], check=True, stdout=sys.stderr)
        lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
        seconds = [line["seconds"] for line in lines if line.get("seconds") is not None]
        metrics = {
            f"{each['name']} {each['among']}": each["value"] for each in read_config(f"{folder}/model")["metrics"]
        }
        return float(np.median(seconds)), metrics


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ratings")
    parser.add_argument("--processes", type=int, default=2)
    known, options = parser.parse_known_args()
    for processes in (1, known.processes):
        seconds, metrics = measure(processes, known.ratings, options)
        ranks = "  ".join(f"{name} {metrics[name]:.4f}" for name in metrics if "@10" in name)
        print(f"{processes} processes: {seconds:.2f} s an epoch; {ranks}")


if __name__ == "__main__":
    main()
