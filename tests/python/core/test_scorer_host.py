"""Independence of the host program: its floating-point settings, and whether torch and scipy are installed."""

import ctypes
import ctypes.util
import hashlib
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import neuralcf
from conftest import ISAS
from neuralcf import Scorer, UserVectors
from reference import Shape, Tensors, random_tensors, write_file

# The offset of the vector unit's control register in C's fenv_t, and bits of that register.
REGISTER, SETTINGS = {
    "x86_64": (
        7,
        {
            "flush to zero": 0x8000,
            "denormals are zero": 0x0040,
            "both": 0x8040,
            "down": 0x2000,
            "up": 0x4000,
            "towards zero": 0x6000,
        },
    ),
    "aarch64": (0, {"flush to zero": 1 << 24, "up": 1 << 22, "down": 2 << 22, "towards zero": 3 << 22}),
}.get(platform.machine() if sys.platform == "linux" else "", (0, {}))


def control_register(add: int = 0) -> int:
    """Set bits of the calling thread's control register; return it without x86's exception flags."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    environment = (ctypes.c_uint32 * 8)()
    libm.fegetenv(environment)
    environment[REGISTER] |= add
    libm.fesetenv(environment)
    return environment[REGISTER] & ~0x3F


def subnormal_tensors() -> Tensors:
    """A model with subnormal products, sums and logits for many pairs, and large enough for two threads."""
    tensors = random_tensors(Shape(9_000, 40_000, g=5, mlp=(4, 3), layers=(8, 4)))
    for name in tensors:
        if "user" in name or "item" in name:
            tensors[name] *= np.float32(1e-19 if "gmf" in name else 1e-20)
        if "layers" in name or name == "output.bias":
            tensors[name] *= np.float32(1e-20 if "weight" in name else 1e-40)
    tensors["gmf.user_embedding.weight"][:, 2] *= np.float32(1e-20)
    tensors["gmf.item_embedding.weight"][:, 2] *= np.float32(1e19)
    tensors["output.weight"][0, -4:] = 1
    return tensors


def print_results(setting: int) -> None:
    """Compute a digest of the results of all instruction sets and methods, all under a setting of the host program."""
    tensors = subnormal_tensors()
    items, some, user = np.arange(40_000), np.arange(0, 40_000, 97), np.full(413, 7)
    vectors = UserVectors(*(np.linspace(1e-44, 1e-39, 2 * n).reshape(2, n) for n in (5, 4)))
    before = control_register(setting)
    assert before & setting == setting
    for isa in ISAS:
        scorer = Scorer.from_tensors(tensors, isa=isa, threads=2)
        results = {
            "score_batch": scorer.score_batch(7, items, logits=True),
            "probabilities": scorer.score_batch(items % 9_000, items),
            "top_k": scorer.top_k([7, 6], 3_000, logits=True),
            "top_k of few": scorer.top_k([7, 6], 500, allow=some, logits=True),
            "rank_of": scorer.rank_of(user[:50], some[:50]),
            "rank_of among few": scorer.rank_of(user, some, allow=some),
            "user vectors": scorer.top_k(vectors, 1_000, logits=True),
        }
        for name, result in results.items():
            parts = result if isinstance(result, tuple) else [result]
            print(isa, name, hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
    assert control_register() == before, "the host's setting was lost"


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_model_of_these_tests_has_subnormal_logits() -> None:
    logits = Scorer.from_tensors(subnormal_tensors()).score_batch(7, np.arange(40_000), logits=True)
    assert (np.abs(logits) < np.finfo(np.float32).tiny).mean() > 0.9
    assert len(np.unique(logits)) > 1000


@pytest.fixture(scope="module")
def standard_results() -> list[str]:
    return run(__file__, "standard").splitlines()


@pytest.mark.skipif(not SETTINGS, reason="no way known to set the control register on this system")
@pytest.mark.parametrize("setting", SETTINGS)
def test_floating_point_settings_of_the_host_have_no_effect_and_are_kept(
    setting: str, standard_results: list[str]
) -> None:
    assert len(standard_results) == 7 * len(ISAS)
    assert run(__file__, setting).splitlines() == standard_results


def test_torch_and_scipy_are_not_needed(tmp_path: Path) -> None:
    path = write_file(tmp_path / "model.safetensors", random_tensors(Shape(3, 4, g=2)))
    program = f"""
import sys
sys.modules["torch"] = sys.modules["scipy"] = None
import neuralcf
scorer = neuralcf.Scorer.load({str(path)!r})
assert scorer.top_k([0, 1], 2, exclude=([0, 1, 2], [0, 1])).ids.shape == (2, 2)
assert scorer.score_batch([0], [3]).shape == (1,)
print(*(name for name in sys.modules if name.split(".")[0] in ("pandas", "sklearn", "matplotlib")))
"""
    assert run("-c", program) == ""


def test_importing_loads_nothing_heavy() -> None:
    imported = run("-X", "importtime", "-c", "import sys, neuralcf; print(*sys.modules)").split()
    assert "neuralcf" in imported
    assert not {"torch", "scipy", "pandas", "matplotlib", "tqdm"} & set(imported)
    assert neuralcf.__version__


if __name__ == "__main__":
    print_results(SETTINGS.get(sys.argv[1], 0))
