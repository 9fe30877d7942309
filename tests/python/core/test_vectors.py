"""The reference cases in `vectors/`, which the Rust tests also read."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import ISAS, ROOT
from neuralcf import Scorer

VECTORS = ROOT / "tests" / "vectors"
NAMES = sorted(path.stem for path in VECTORS.glob("*.json"))


def test_cases_exist() -> None:
    assert NAMES == sorted(path.stem for path in VECTORS.glob("*.safetensors")) == ["gmf", "mlp", "neumf", "one"]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", NAMES)
def test_a_reference_case(name: str, isa: str) -> None:
    case = json.loads((VECTORS / f"{name}.json").read_text())
    scorer = Scorer.load(VECTORS / f"{name}.safetensors", isa=isa)
    logits = np.array(case["logits"])
    off = np.abs(scorer.score_batch(case["users"], case["items"], logits=True) - logits)
    assert (off <= case["logit_tolerance"] * np.maximum(1, np.abs(logits))).all()
    off = np.abs(scorer.score_batch(case["users"], case["items"]) - case["probabilities"])
    assert off.max() <= case["probability_tolerance"]
    assert scorer.rank_of(case["users"], case["items"]).tolist() == case["ranks"]
    assert scorer.top_k(case["top_users"], len(case["top"][0])).ids.tolist() == case["top"]


def test_the_script_reproduces_the_cases(tmp_path: Path) -> None:
    subprocess.run([sys.executable, VECTORS / "make_vectors.py", tmp_path], check=True, timeout=60)
    for name in NAMES:
        assert (tmp_path / f"{name}.safetensors").read_bytes() == (VECTORS / f"{name}.safetensors").read_bytes()
        made, kept = (json.loads((folder / f"{name}.json").read_text()) for folder in (tmp_path, VECTORS))
        assert made.keys() == kept.keys()
        for key, values in kept.items():
            np.testing.assert_allclose(made[key], values, rtol=1e-12)
