"""The extension on an emulated x86 CPU of 2008, without AVX and FMA: portable code, and the same bits as on this CPU.

Needs the emulator `qemu-x86_64` (Debian: `qemu-user`). `make test-old-cpu` also runs the Rust tests there.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from typing import Any

import numpy as np
import pytest

from neuralcf import NeuralCFError, Scorer
from reference import Shape, random_tensors

EMULATOR = "qemu-x86_64"
SHAPES = [
    Shape(3, 40, g=19),
    Shape(5, 70, mlp=(3, 5), layers=(33,)),
    Shape(9, 1000, g=8, mlp=(20, 17), layers=(50, 27, 13)),
]

pytestmark = [
    pytest.mark.skipif(
        sysconfig.get_platform() != "linux-x86_64", reason="emulates another x86-64 CPU on x86-64 Linux"
    ),
    pytest.mark.skipif(not shutil.which(EMULATOR), reason=f"{EMULATOR} is not installed"),
]


def digests(isa: str | None) -> dict[str, str]:
    """Compute a digest of all scores and all top-20 lists of each model."""
    parts = {}
    for shape in SHAPES:
        scorer = Scorer.from_tensors(random_tensors(shape), isa=isa)
        users, items = np.divmod(np.arange(shape.users * shape.items), shape.items)
        top = scorer.top_k(np.arange(shape.users), 20, deny=[0, 3, 7])
        for name, array in {
            "logits": scorer.score_batch(users, items, logits=True),
            "probabilities": scorer.score_batch(users, items),
            "ids": top.ids,
            "top scores": top.scores,
        }.items():
            parts[f"{shape} {name}"] = hashlib.sha256(array.tobytes()).hexdigest()
    return parts


def report() -> dict[str, Any]:
    scorer = Scorer.from_tensors(random_tensors(SHAPES[0]))
    try:
        Scorer.from_tensors(random_tensors(SHAPES[0]), isa="avx2")
    except NeuralCFError as error:
        rejected = str(error)
    else:
        rejected = ""
    return {"isa": scorer.isa, "avx2 rejected": rejected, "digests": digests(None)}


@pytest.fixture(scope="module")
def old_cpu() -> dict[str, Any]:
    command = [EMULATOR, "-cpu", "Nehalem", sys.executable, __file__]
    environment = {name: value for name, value in os.environ.items() if name != "NEURALCF_ISA"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_old_cpu_uses_portable_code_and_rejects_what_it_lacks(old_cpu: dict[str, Any]) -> None:
    assert old_cpu["isa"] == "portable"
    assert old_cpu["avx2 rejected"] == 'isa: this CPU does not support "avx2"; it supports portable'


def test_an_old_cpu_gives_the_bits_of_every_instruction_set(old_cpu: dict[str, Any], isa: str) -> None:
    assert len(old_cpu["digests"]) == 4 * len(SHAPES)
    assert digests(isa) == old_cpu["digests"]


if __name__ == "__main__":
    print(json.dumps(report()))
