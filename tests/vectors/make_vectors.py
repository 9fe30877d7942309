"""Generate the reference cases beside this file: `python make_vectors.py [FOLDER]`.

Models in the file format, and their expected results: NumPy float64 by the paper's formulas, without NeuralCF.

    NAME.safetensors    a small model, in F32, F16 or BF16
    NAME.json           users, items          pairs
                        logits, probabilities of each pair, float64
                        logit_tolerance       times max(1, |logit|); probability_tolerance
                        ranks                 for each pair, the number of other items that score at least as high
                        top_users, top        the ten best items of some users, best first

Neighbours in a list differ by far more than the tolerance, so the order is unambiguous.
"""

import json
import sys
from pathlib import Path

import numpy as np

# name: seed, dtype, U, I, G, Mu, Mi, units of the layers
CASES = {
    "gmf": (5, "F16", 7, 43, 5, 0, 0, []),
    "mlp": (39, "BF16", 6, 37, 0, 3, 4, [7, 6, 3]),
    "neumf": (10, "F32", 5, 51, 3, 4, 2, [9, 5]),
    "one": (0, "F32", 1, 1, 1, 1, 1, [1]),
}
LOGIT_TOLERANCE, PROBABILITY_TOLERANCE = 1e-5, 1e-6


def stored(values: np.ndarray, dtype: str) -> tuple[bytes, np.ndarray]:
    """Return the bytes in the file, and their values in float64."""
    if dtype == "BF16":  # the upper half of a float32
        halves = (values.astype("<f4").view("<u4") >> 16).astype("<u2")
        return halves.tobytes(), (halves.astype("<u4") << 16).view("<f4").astype(np.float64)
    numbers = values.astype({"F32": "<f4", "F16": "<f2"}[dtype])
    return numbers.tobytes(), numbers.astype(np.float64)


def score(weights: dict[str, np.ndarray], user: int, item: int) -> float:
    """Compute a logit by He et al., "Neural Collaborative Filtering", WWW 2017."""
    blocks = []
    if "gmf.user_embedding.weight" in weights:
        blocks.append(weights["gmf.user_embedding.weight"][user] * weights["gmf.item_embedding.weight"][item])
    if "mlp.user_embedding.weight" in weights:
        x = np.concatenate([weights["mlp.user_embedding.weight"][user], weights["mlp.item_embedding.weight"][item]])
        n = 0
        while f"mlp.layers.{n}.weight" in weights:
            x = np.maximum(weights[f"mlp.layers.{n}.weight"] @ x + weights[f"mlp.layers.{n}.bias"], 0)
            n += 1
        blocks.append(x)
    return float(weights["output.weight"][0] @ np.concatenate(blocks) + weights["output.bias"][0])


def make(folder: Path, name: str) -> None:
    seed, dtype, users, items, g, mu, mi, units = CASES[name]
    shapes: dict[str, list[int]] = {}
    if g:
        shapes |= {"gmf.user_embedding.weight": [users, g], "gmf.item_embedding.weight": [items, g]}
    if units:
        shapes |= {"mlp.user_embedding.weight": [users, mu], "mlp.item_embedding.weight": [items, mi]}
        for n, (inputs, outputs) in enumerate(zip([mu + mi, *units], units, strict=False)):
            shapes |= {f"mlp.layers.{n}.weight": [outputs, inputs], f"mlp.layers.{n}.bias": [outputs]}
    shapes |= {"output.weight": [1, g + sum(units[-1:])], "output.bias": [1]}

    random = np.random.RandomState(seed)  # its stream is frozen
    data, weights, header = b"", {}, {}
    for tensor, shape in shapes.items():
        raw, weights[tensor] = stored(random.uniform(-1, 1, shape), dtype)
        header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    kind = "neumf" if g and units else "gmf" if g else "mlp"
    metadata = {"format": "neuralcf", "format_version": "1", "kind": kind, "activation": "relu"}
    text = json.dumps({"__metadata__": metadata, **header}).encode()
    (folder / f"{name}.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)

    scores = np.array([[score(weights, user, item) for item in range(items)] for user in range(users)])
    if items > 1:
        gaps = np.diff(np.sort(scores, axis=1), axis=1)
        assert gaps.min() > 10 * LOGIT_TOLERANCE * max(1, np.abs(scores).max()), f"{name}: take another seed"
    pairs = [(int(n % users), int(n * 7 % items)) for n in range(30)]
    case = {
        "users": [user for user, _ in pairs],
        "items": [item for _, item in pairs],
        "logits": [scores[pair] for pair in pairs],
        "probabilities": [1 / (1 + np.exp(-scores[pair])) for pair in pairs],
        "logit_tolerance": LOGIT_TOLERANCE,
        "probability_tolerance": PROBABILITY_TOLERANCE,
        "ranks": [int((scores[user] >= scores[user, item]).sum() - 1) for user, item in pairs],
        "top_users": list(range(users)),
        "top": np.argsort(-scores, axis=1)[:, :10].tolist(),
    }
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in case.items())
    (folder / f"{name}.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    for case_name in CASES:
        make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent, case_name)
