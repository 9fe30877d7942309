"""Saving: an independent reader and the scorer read back what was saved, and a failure changes nothing."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from safetensors import safe_open
from safetensors.numpy import load_file

import neuralcf
from neuralcf.format.save import check_target

USERS, ITEMS, G, MU, MI = 5, 7, 3, 4, 2
KILLS = int(os.environ.get("NEURALCF_KILLS", "5"))
"""Writers that are killed; `make torture` kills more."""
KINDS = ("gmf", "mlp", "neumf")


def tensors(kind="neumf", seed=0):
    random = np.random.default_rng(seed)

    def normal(*shape):
        return random.normal(size=shape).astype(np.float32)

    gmf = {"gmf.user_embedding.weight": normal(USERS, G), "gmf.item_embedding.weight": normal(ITEMS, G)}
    mlp = {
        "mlp.user_embedding.weight": normal(USERS, MU),
        "mlp.item_embedding.weight": normal(ITEMS, MI),
        "mlp.layers.0.weight": normal(6, MU + MI),
        "mlp.layers.0.bias": normal(6),
        "mlp.layers.1.weight": normal(2, 6),
        "mlp.layers.1.bias": normal(2),
    }
    blocks = {"gmf": (gmf, G), "mlp": (mlp, 2), "neumf": (gmf | mlp, G + 2)}
    names, width = blocks[kind]
    return names | {"output.weight": normal(1, width), "output.bias": normal(1)}


def snapshot(directory):
    return {path.relative_to(directory): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_an_independent_reader_reads_what_was_saved(tmp_path, kind):
    saved = tensors(kind)
    neuralcf.save(saved, tmp_path / "model", kind=kind)
    read = load_file(tmp_path / "model" / "model.safetensors")
    assert read.keys() == saved.keys()
    assert all(np.array_equal(read[name], saved[name]) for name in saved)
    with safe_open(tmp_path / "model" / "model.safetensors", "np") as file:
        metadata = file.metadata()
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert metadata == {
        "format": "neuralcf",
        "format_version": "1",
        "kind": kind,
        "activation": "relu",
        "model_id": config["model_id"],
        "digest": "sha256",
        "sha256": metadata["sha256"],
    }
    text = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert hashlib.sha256(text.replace(metadata["sha256"].encode(), b"0" * 64)).hexdigest() == metadata["sha256"]
    assert config["kind"] == kind
    assert (config["sizes"]["num_users"], config["sizes"]["num_items"]) == (USERS, ITEMS)

    scorer = neuralcf.Scorer.load(tmp_path / "model")
    users, items = np.divmod(np.arange(USERS * ITEMS), ITEMS)
    expected = neuralcf.Scorer.from_tensors(saved).score_batch(users, items)
    assert np.array_equal(scorer.score_batch(users, items), expected)


def test_ids_and_interactions_follow_the_format(tmp_path):
    names = ["", "a", "ä", "7", "a\0", "日本", "b"]
    seen = sp.csr_matrix(
        ([0.0, 1.0, 2.0, 1.0], [6, 2, 2, 0], [0, 3, 3, 3, 3, 4]), shape=(USERS, ITEMS)
    )  # unsorted, with a duplicate and an explicit zero
    neuralcf.save(tensors(), tmp_path / "model", kind="neumf", ids=([9, -1, 2**63 - 1, 0, 7], names), seen=seen)
    ids = load_file(tmp_path / "model" / "ids.safetensors")
    assert ids["users"].dtype == np.int64
    assert ids["users"].tolist() == [9, -1, 2**63 - 1, 0, 7]
    text, offsets = ids["items.bytes"].tobytes(), ids["items.offsets"]
    assert [text[a:b].decode() for a, b in itertools.pairwise(offsets)] == names
    rows = load_file(tmp_path / "model" / "seen.safetensors")
    assert rows["indptr"].dtype == np.int64
    assert rows["indptr"].tolist() == [0, 2, 2, 2, 2, 3]
    assert rows["indices"].dtype == np.int32
    assert rows["indices"].tolist() == [2, 6, 0]


def test_any_layout_half_precision_and_large_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["neuralcf.format.safetensors"], "_BLOCK", 40)  # several blocks per table
    saved = tensors()
    awkward = {name: np.asfortranarray(array.astype(">f4")) for name, array in saved.items()}
    awkward["gmf.item_embedding.weight"] = saved["gmf.item_embedding.weight"].astype(np.float16)
    neuralcf.save(awkward, tmp_path / "model", kind="neumf")
    read = load_file(tmp_path / "model" / "model.safetensors")
    assert read["gmf.item_embedding.weight"].dtype == np.float16
    assert all(np.array_equal(read[name], awkward[name]) for name in saved)


def test_single_file(tmp_path):
    path = tmp_path / "model.safetensors"
    neuralcf.save(tensors(seed=1), path, kind="neumf")
    neuralcf.save(tensors(seed=2), path, kind="neumf")
    assert np.array_equal(load_file(path)["output.weight"], tensors(seed=2)["output.weight"])
    with pytest.raises(neuralcf.ArgumentError, match=r"a single .safetensors file cannot hold ids, config"):
        neuralcf.save(tensors(), path, kind="neumf", ids=(range(USERS), range(ITEMS)), config={})
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def changed(**changes):
    return {name: array for name, array in (tensors() | changes).items() if array is not None}


f32 = np.float32
infinite = tensors()["mlp.layers.0.weight"].copy()
infinite[4, 1] = np.inf
INTS = (list(range(USERS)), list(range(ITEMS)))
BAD = {
    "kind": ({"kind": "svd"}, neuralcf.ArgumentError, r'kind: expected "gmf", "mlp" or "neumf", got "svd"'),
    "other kind": (
        {"kind": "gmf"},
        neuralcf.ModelFormatError,
        r"mlp\.user_embedding\.weight: does not belong to a model of kind gmf",
    ),
    "missing": (
        {"tensors": changed(**{"mlp.layers.1.bias": None})},
        neuralcf.ModelFormatError,
        r"mlp\.layers\.1\.bias: missing from a model of kind neumf",
    ),
    "layers with a gap": (
        {"tensors": changed(**{"mlp.layers.3.weight": np.ones((1, 2), f32)})},
        neuralcf.ModelFormatError,
        r"mlp\.layers\.2\.weight: missing",
    ),
    "shape": (
        {"tensors": changed(**{"output.weight": np.ones((1, 4), f32)})},
        neuralcf.ModelFormatError,
        r"output\.weight: shape \[1, 4\], expected \[1, 5\] to match GMF width",
    ),
    "empty": (
        {"tensors": changed(**{"mlp.layers.1.weight": np.ones((0, 6), f32), "mlp.layers.1.bias": np.ones(0, f32)})},
        neuralcf.ModelFormatError,
        r"mlp\.layers\.1\.weight: shape \[0, 6\], every dimension must be at least 1",
    ),
    "float64": (
        {"tensors": changed(**{"output.bias": np.ones(1)})},
        TypeError,
        r"output\.bias: expected dtype float32 or float16, got float64",
    ),
    "infinity": (
        {"tensors": changed(**{"mlp.layers.0.weight": infinite})},
        neuralcf.ModelFormatError,
        r"mlp\.layers\.0\.weight: element \[4, 1\] is inf, expected finite values",
    ),
    "overflow": (
        {"tensors": changed(**{"output.weight": np.full((1, 5), 3e38, f32)})},
        neuralcf.ModelFormatError,
        r"output\.weight",
    ),
    "one list of ids": ({"ids": list(range(USERS))}, TypeError, "a tuple"),
    "too few ids": (
        {"ids": (range(USERS), range(ITEMS - 1))},
        neuralcf.ArgumentError,
        "items: expected 7 ids, .* got 6",
    ),
    "an id twice": ({"ids": ([1, 2, 3, 2, 4], INTS[1])}, neuralcf.ArgumentError, "users: .* got 2 more than once"),
    "a name twice": ({"ids": (list("abcda"), INTS[1])}, neuralcf.ArgumentError, "users: .* got 'a' more than once"),
    "mixed ids": ({"ids": ([1, 2, "3", 4, 5], INTS[1])}, TypeError, "expected all int or all str, got int, str"),
    "bool ids": ({"ids": ([True, 2, 3, 4, 5], INTS[1])}, TypeError, "got bool, int"),
    "float ids": ({"ids": (np.arange(USERS) * 1.0, INTS[1])}, TypeError, "got float"),
    "huge ids": ({"ids": ([2**63, 2, 3, 4, 5], INTS[1])}, neuralcf.ArgumentError, "fit int64, got larger"),
    "surrogate": ({"ids": (["\ud800", *"abcd"], INTS[1])}, neuralcf.ArgumentError, "expected valid Unicode"),
    "seen CSC": ({"seen": sp.csc_matrix((USERS, ITEMS))}, TypeError, "expected scipy CSR .* got csc"),
    "seen shape": (
        {"seen": sp.csr_matrix((ITEMS, USERS))},
        neuralcf.ArgumentError,
        r"expected shape \(5, 7\), got \(7, 5\)",
    ),
    "seen item": ({"seen": ([0, 1, 1, 1, 1, 1], [7])}, neuralcf.ArgumentError, "expected 0 to 6, got 7"),
    "seen indptr": ({"seen": ([0, 2, 1, 1, 1, 1], [0])}, neuralcf.ArgumentError, "non-decreasing values from 0"),
    "seen floats": ({"seen": ([0, 1, 1, 1, 1, 1], [0.5])}, TypeError, "indices: expected one dimension of integers"),
    "config value": ({"config": {"a": [1, {"b": {1}}]}}, neuralcf.ArgumentError, r"config\.a\[1\]\.b: .* got set"),
    "config NaN": ({"config": {"loss": float("nan")}}, neuralcf.ArgumentError, r"config\.loss: .* got nan"),
    "config key": ({"config": {"a": {7: 1}}}, neuralcf.ArgumentError, r"config\.a: .* got 7"),
    "own key": ({"config": {"model_id": "x"}}, neuralcf.ArgumentError, "reserved keys: model_id"),
    "config surrogate": ({"config": {"a": "\ud800"}}, neuralcf.ModelFormatError, "config"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_change_nothing(tmp_path, arguments, error, message):
    target = tmp_path / "model"
    neuralcf.save(tensors(), target, kind="neumf", ids=INTS)
    before = snapshot(tmp_path)
    with pytest.raises(error, match=message):
        neuralcf.save(**{"tensors": tensors(), "path": target, "kind": "neumf", "ids": INTS} | arguments)
    assert snapshot(tmp_path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_invalid_targets_are_rejected(tmp_path):
    (tmp_path / "file").write_text("keep")
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "letter").write_text("keep")
    (tmp_path / "dir.safetensors").mkdir()
    before = snapshot(tmp_path)
    for name, error, message in [
        ("file", neuralcf.ArgumentError, r"expected a directory to publish to \(or .*\), got a file"),
        ("things", neuralcf.ArgumentError, "holds other files but no model.safetensors"),
        ("dir.safetensors", neuralcf.ArgumentError, "expected a file to write to, got a directory"),
        ("absent/model", FileNotFoundError, "no such directory"),
    ]:
        with pytest.raises(error, match=message):
            neuralcf.save(tensors(), tmp_path / name, kind="neumf")
        with pytest.raises(error, match=message):
            check_target(tmp_path / name)
    assert snapshot(tmp_path) == before


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
import neuralcf
from test_save import tensors
print("ready", flush=True)
for seed in range(10**9):
    neuralcf.save(tensors(seed=seed), sys.argv[1], kind="neumf", config={"seed": seed})
"""


def test_a_killed_writer_leaves_a_complete_model(tmp_path, capsys):
    target = tmp_path / "model"
    neuralcf.save(tensors(seed=0), target, kind="neumf", config={"seed": 0})
    seeds = set()
    for attempt in range(KILLS):
        command = [sys.executable, "-c", WRITER, str(target), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.05 + 0.013 * (attempt % 20))
            writer.send_signal(signal.SIGKILL)
        seed = json.loads((target / "config.json").read_text())["seed"]
        weights = load_file(target / "model.safetensors")["output.weight"]
        assert np.array_equal(weights, tensors(seed=seed)["output.weight"])
        neuralcf.Scorer.load(target)
        seeds.add(seed)
        assert len(list(tmp_path.iterdir())) <= 2, "one writer's leftovers at most: the next writer removes them"
    assert seeds != {0}, "no writer published anything, so the test checked nothing"
    neuralcf.save(tensors(), target, kind="neumf")
    assert list(tmp_path.iterdir()) == [target]
    with capsys.disabled():
        print(f" {KILLS} writers killed, 0 models torn", end="")


def test_export_takes_torch_modules(tmp_path):
    torch = pytest.importorskip("torch")
    model = neuralcf.GMF(USERS, ITEMS, G).to(torch.bfloat16)
    neuralcf.export(model, tmp_path / "model")
    read = load_file(tmp_path / "model" / "model.safetensors")
    for name, tensor in model.state_dict().items():
        assert np.array_equal(read[name], tensor.float().numpy())
    with pytest.raises(neuralcf.ModelFormatError, match='"weight": not a tensor of the model format'):
        neuralcf.export(torch.nn.Linear(2, 2), tmp_path / "other")
