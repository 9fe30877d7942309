"""Randomly damaged models: each is rejected by name or gives finite scores, never anything else, never a crash.

They are loaded in a separate process that executes this file, so that a crash is detected.
"""

import contextlib
import json
import os
import random
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import neuralcf
from neuralcf import ModelFormatError, Scorer
from reference import Shape, metadata_of, random_history, random_tensors, safetensors

DAMAGED = int(os.environ.get("NEURALCF_FUZZ", "30000"))
"""Number of damaged files; `make fuzz` damages more."""
U, I = 3, 19  # noqa: E741 - users and items
SHAPES = [Shape(U, I, g=3, mlp=(2, 4), layers=(5, 3)), Shape(U, I, g=2), Shape(U, I, mlp=(1, 2), layers=(17,))]


def flip_bits(chance: random.Random, data: bytearray) -> None:
    for _ in range(chance.choice([1, 1, 1, 2, 8])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def cut(chance: random.Random, data: bytearray) -> None:
    del data[chance.randrange(len(data)) :]


def insert(chance: random.Random, data: bytearray) -> None:
    at = chance.randrange(len(data))
    data[at:at] = chance.randbytes(chance.choice([1, 2, 4, 8, 100]))


def remove(chance: random.Random, data: bytearray) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.choice([1, 2, 4, 8, 100])]


def splice(chance: random.Random, data: bytearray) -> None:
    source, target, length = (chance.randrange(len(data)) for _ in range(3))
    data[target : target + length] = data[source : source + length]


def change_the_length(chance: random.Random, data: bytearray) -> None:
    size = chance.choice([0, 1, 2, len(data), len(data) // 2, 4 << 20, 2**31, 2**32, 2**63, 2**64 - 1])
    data[:8] = chance.choice([size, chance.randrange(2 * len(data))]).to_bytes(8, "little")


def change_a_digit(chance: random.Random, data: bytearray) -> None:
    digits = [at for at, byte in enumerate(data[:2000]) if chr(byte).isdigit()]
    data[chance.choice(digits)] = ord(chance.choice("0123456789-.e"))


def change_a_float(chance: random.Random, data: bytearray) -> None:
    at = chance.randrange(len(data) - 3)
    data[at : at + 4] = np.float32(chance.choice([np.nan, np.inf, 3e38, -3e38, 1e20, 1e-45, 0])).tobytes()


def edit_the_header(chance: random.Random, data: bytearray) -> None:
    """Change an entry of the header; it stays valid JSON, and its length correct."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = chance.choice(sorted(header))
    key = chance.choice(sorted(header[name]))
    values = [0, 1, -1, 2**31, 2**63, 2**64, 1e300, None, True, "", "F32", "F16", "BF16", "I64", "mlp", [], {}, [4, 4]]
    value = chance.choice([*values, [2**62, 4], header[chance.choice(sorted(header))]])
    match chance.randrange(6):
        case 0 | 1:
            header[name][key] = value
        case 2:
            del header[name][key]
        case 3:
            header[name] = value
        case 4:
            del header[name]
        case 5:
            header[name + chance.choice("x.0")] = header.pop(name)
    text = json.dumps(header).encode()
    data[: 8 + length] = len(text).to_bytes(8, "little") + text


DAMAGES = [flip_bits, cut, insert, remove, splice, change_the_length, change_a_digit, change_a_float, edit_the_header]


def models(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield paths to load, each with a file to damage: single files, and each file of a directory."""
    for shape in SHAPES:
        tensors = random_tensors(shape)
        file = folder / f"{shape.kind}.safetensors"
        file.write_bytes(safetensors(tensors, metadata_of(tensors)))
        yield file, file
    ids, seen = ([f"user {user}" for user in range(U)], list(range(I))), (np.arange(U + 1), np.arange(U))
    neuralcf.save(
        random_tensors(SHAPES[0]), folder / "model", kind="neumf", ids=ids, seen=seen, history=random_history(I, 5)
    )
    config = json.loads((folder / "model" / "config.json").read_text())
    del config["files"], config["sha256"]  # so that damage reaches all checks but that of the digests
    (folder / "model" / "config.json").write_text(json.dumps(config))
    for name in ("model.safetensors", "config.json", "seen.safetensors", "history.safetensors", "ids.safetensors"):
        yield folder / "model", folder / "model" / name


def outcome(path: Path) -> str:
    try:
        scorer = Scorer.load(path, threads=1)
    except ModelFormatError as error:
        return "rejected" if str(error).startswith(str(path)) else f"rejected without its path: {error}"
    scores = scorer.score_batch(0, range(scorer.num_items), logits=True)
    top = scorer.top_k(0, scorer.num_items, logits=True)
    return "loaded" if np.isfinite(scores).all() and (scores[top.ids] == top.scores).all() else "wrong scores"


def main(folder: Path) -> Counter[str]:
    outcomes, chance = Counter[str](), random.Random(0)
    targets = list(models(folder))
    for path, file in targets:
        good = file.read_bytes()
        for _ in range(DAMAGED // len(targets) + 1):
            data = bytearray(good)
            for _ in range(chance.choice([1, 1, 1, 2, 3])):
                with contextlib.suppress(ValueError, IndexError, KeyError, AttributeError, TypeError):
                    chance.choice(DAMAGES)(chance, data)  # a damage may no longer apply after others
            file.unlink()  # overwriting a file may force it to disk
            file.write_bytes(data)
            outcomes[outcome(path)] += 1
        file.write_bytes(good)
    return outcomes


def test_no_crash_and_no_surprise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = [sys.executable, "-X", "faulthandler", __file__, str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    outcomes = json.loads(done.stdout)
    with capsys.disabled():
        print(f" {outcomes}", end="")
    assert set(outcomes) == {"rejected", "loaded"}
    assert sum(outcomes.values()) >= DAMAGED
    assert min(outcomes.values()) >= DAMAGED / 20


if __name__ == "__main__":
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))  # an absurd reservation fails at once
    print(json.dumps(main(Path(sys.argv[1]))))
