"""Two processes that torchrun starts train what one process trains, and survive being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import together
import torch

from neuralcf.data import planted_taste

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
NEURALCF = (*TORCHRUN, "-m", "--", "neuralcf")  # without `--` torchrun takes --run for an option of its own
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SCRIPT = Path(together.__file__)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What one process and what two have trained, by name; and what the two have printed."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    printed = subprocess.run(
        [*TORCHRUN, SCRIPT, two], env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=300
    )
    together.main(one)
    return one, two, printed.stdout


def loaded(folder, name):
    return torch.load(folder / f"{name}.pt", weights_only=True)


@pytest.mark.parametrize("name", [name for name in together.CONFIGS if "dropout" not in name])
def test_two_processes_take_the_steps_of_one(both, name):
    one, two = (loaded(folder, name) for folder in both[:2])
    for (stage, loss, hr), (_, other_loss, other_hr) in zip(one["history"], two["history"], strict=True):
        assert loss is other_loss is None or loss == pytest.approx(other_loss, rel=1e-4), stage
        assert hr == pytest.approx(other_hr, abs=0.03), stage
    assert one["weights"].keys() == two["weights"].keys()
    if name != "distill":  # whose vectors are singular vectors, of any sign
        for key, weight in one["weights"].items():
            torch.testing.assert_close(weight, two["weights"][key], rtol=1e-3, atol=1e-3, msg=key)


def test_dropout_differs_between_processes_and_trains_as_well(both):
    one, two = (loaded(folder, "ncf with dropout") for folder in both[:2])
    assert one["history"] != two["history"]
    for (_, loss, _), (_, other_loss, _) in zip(one["history"], two["history"], strict=True):
        assert loss == pytest.approx(other_loss, rel=0.02)
    losses, others = (loaded(folder, "logistic") for folder in both[:2])
    assert losses != others
    assert losses[-1] == pytest.approx(others[-1], rel=0.05)


@pytest.mark.parametrize("name", together.TO_THE_BIT)
def test_equal_seeds_and_processes_give_equal_bits(both, name):
    stored = loaded(both[1], name)
    for key, weight in stored["weights"].items():
        assert torch.equal(weight, stored["again"][key]), key


def test_only_the_first_process_prints_and_writes(both):
    one, two, printed = both
    assert printed == "every process is done\n"
    for name in together.CONFIGS:
        steps = [(folder / f"run {name}" / "metrics.jsonl").read_text().count("\n") for folder in (one, two)]
        assert steps[0] == steps[1] > 0


def test_a_killed_run_is_resumed_to_the_same_bits(tmp_path):
    taste = planted_taste(100, 60, seed=3).dataset
    data = tmp_path / "ratings.tsv"
    data.write_text("".join(f"{user}\t{item}\n" for user, item in zip(taste.users, taste.items, strict=True)))
    settings = ("--preset", "neumf", "--epochs", "60", "--set", "patience=0")

    def command(name, *more):
        where = ("--run", str(tmp_path / f"run {name}"), "--out", str(tmp_path / name))
        return [*NEURALCF, "train", str(data), *settings, *where, *more]

    checkpoint = tmp_path / "run killed" / "checkpoint.pt"
    with subprocess.Popen(command("killed"), env=ENVIRONMENT, stderr=subprocess.DEVNULL) as agent:
        until = time.monotonic() + 120
        while not checkpoint.exists() and time.monotonic() < until:
            time.sleep(0.01)
        children = subprocess.run(["pgrep", "-P", str(agent.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
        assert agent.wait(60) != 0
    assert not (tmp_path / "killed").exists(), "the run is too short to be killed"
    for name, more in (("killed", ["--resume"]), ("whole", [])):
        subprocess.run(command(name, *more), env=ENVIRONMENT, check=True, capture_output=True, timeout=120)
    killed, whole = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "whole"))
    header = 8 + int.from_bytes(killed[:8], "little")
    assert json.loads(killed[8:header])["__metadata__"]["kind"] == "neumf"
    assert killed[header:] == whole[header:]


def test_an_error_of_the_first_process_ends_all_and_is_told_once(tmp_path):
    data = tmp_path / "ratings.tsv"
    data.write_text("1\t2\n2\t1\n")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "other").touch()
    command = [*NEURALCF, "train", str(data), "--preset", "neumf", "--no-validation"]
    done = subprocess.run(
        [*command, "--run", str(taken), "--out", str(tmp_path / "model")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert done.stderr.count("expected a run or an empty directory") == 1
