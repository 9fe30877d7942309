"""Print a digest of what the installed package answers: equal on every machine, glibc and processor.

The models and queries come from a generator of integers and exact arithmetic, so that no math library decides them.
"""

import hashlib
import platform
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np

import neuralcf

USERS, ITEMS, WIDTH, LAYERS = 300, 2_000, 24, (32, 16, 8)


def tensors(kind: str) -> dict[str, np.ndarray]:
    """Draw a model's weights, multiples of 1/64 in [-1, 1)."""
    rng = np.random.default_rng(7)
    shapes = {"output.weight": (1, 0), "output.bias": (1,)}
    if kind != "mlp":
        shapes |= {"gmf.user_embedding.weight": (USERS, WIDTH), "gmf.item_embedding.weight": (ITEMS, WIDTH)}
        shapes["output.weight"] = (1, WIDTH)
    if kind != "gmf":
        half = LAYERS[0] // 2
        shapes |= {"mlp.user_embedding.weight": (USERS, half), "mlp.item_embedding.weight": (ITEMS, half)}
        for n, (inputs, outputs) in enumerate(pairwise(LAYERS)):
            shapes |= {f"mlp.layers.{n}.weight": (outputs, inputs), f"mlp.layers.{n}.bias": (outputs,)}
        shapes["output.weight"] = (1, shapes["output.weight"][1] + LAYERS[-1])
    return {name: (rng.integers(-64, 64, shape) / 64).astype(np.float32) for name, shape in shapes.items()}


def main() -> None:
    """Save, load and query a model of each kind."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("gmf", "mlp", "neumf"):
            path = Path(folder, kind)
            neuralcf.save(tensors(kind), path, kind=kind)
            scorer = neuralcf.Scorer.load(path, threads=2)
            users = np.arange(USERS)
            lists = scorer.top_k(users, 20)
            scores = scorer.score_batch(np.repeat(users, 20), lists.ids.ravel())
            assert np.array_equal(scores, lists.scores.ravel()), "score_batch and top_k differ"
            assert (scorer.rank_of(users, lists.ids[:, 0]) < 20).all(), "the best item is not among the first"
            for answer in (lists.ids, lists.scores, scorer.score_batch(users, users, logits=True)):
                digest.update(np.ascontiguousarray(answer.astype(answer.dtype.newbyteorder("<"))).tobytes())
            isa = scorer.isa
    machine, libc = platform.machine(), " ".join(platform.libc_ver())
    versions = f"Python {platform.python_version()}, numpy {np.__version__}"
    print(f"{machine}, {libc}, {versions}, {isa}", file=sys.stderr)
    print(digest.hexdigest())


if __name__ == "__main__":
    main()
