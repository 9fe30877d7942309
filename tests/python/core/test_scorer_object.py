"""The Scorer as a Python object: its attributes, immutability, copying and pickling."""

import copy
import hashlib
import inspect
import multiprocessing
import operator
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import neuralcf
from neuralcf import ModelFormatError, Scorer
from reference import Shape, random_history, random_tensors, write_file

SHAPE = Shape(6, 30, g=3, mlp=(4, 5), layers=(8, 7))
SEEN = (np.arange(0, 14, 2), np.arange(12))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    neuralcf.save(random_tensors(SHAPE), tmp_path / "model", kind="neumf", seen=SEEN)
    return tmp_path / "model"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_file(tmp_path / "model.safetensors", random_tensors(SHAPE), note="kept")


def results(scorer: Scorer) -> list[object]:
    top = scorer.top_k(range(6), 30, logits=True)
    return [top.ids.tolist(), top.scores.tolist(), scorer.kind, scorer.metadata]


def test_its_attributes_describe_the_model(file: Path, directory: Path) -> None:
    for path in (file, str(file), directory, str(directory)):
        scorer = Scorer.load(path, threads=3, isa="portable")
        assert (scorer.num_users, scorer.num_items, scorer.kind) == (6, 30, "neumf")
        assert (scorer.threads, scorer.isa) == (3, "portable")
        assert repr(scorer) == 'Scorer(kind="neumf", num_users=6, num_items=30, isa="portable", threads=3)'
    fixed = {"format": "neuralcf", "format_version": "1", "kind": "neumf", "activation": "relu"}
    assert Scorer.load(file).metadata == fixed | {"note": "kept"}
    assert Scorer.load(directory).metadata.items() > fixed.items()


@pytest.mark.parametrize("shape", [Shape(2, 3, g=1), Shape(2, 3, mlp=(1, 1), layers=(1,)), SHAPE], ids=str)
def test_the_kind_is_inferred_or_checked(shape: Shape) -> None:
    tensors = random_tensors(shape)
    assert Scorer.from_tensors(tensors).kind == Scorer.from_tensors(tensors, kind=shape.kind).kind == shape.kind
    for other in {"gmf", "mlp", "neumf"} - {shape.kind}:
        with pytest.raises(ModelFormatError):
            Scorer.from_tensors(tensors, kind=other)


def test_nbytes_counts_every_part() -> None:
    tensors = random_tensors(Shape(100, 1000, g=16, mlp=(16, 16), layers=(32, 16)))
    history = random_history(1000, 32)
    nbytes = Scorer.from_tensors(tensors, seen=(np.arange(101), np.arange(100)), history=history).nbytes
    assert all(isinstance(size, int) and size > 0 for size in nbytes.values()), nbytes
    assert nbytes["item_tiles"] >= 1000 * (16 + 32) * 4
    assert nbytes["seen"] >= 100 * 4
    assert nbytes["history"] == sum(tensor.nbytes for name, tensor in history.items() if "exponent" not in name) - 8
    without = Scorer.from_tensors(tensors).nbytes
    assert without["seen"] == 0
    assert without["history"] > 0  # what fits the vectors of new users


def test_it_is_immutable(small: Scorer) -> None:
    for name in ("kind", "num_users", "num_items", "isa", "threads", "metadata", "nbytes", "score_batch", "anything"):
        with pytest.raises(AttributeError):
            setattr(small, name, 1)
        with pytest.raises(AttributeError):
            delattr(small, name)
    for held in (small.metadata, small.nbytes):
        held["more"] = 1
    assert "more" not in {**small.metadata, **small.nbytes}
    with pytest.raises(TypeError):
        Scorer()
    with pytest.raises(TypeError):
        type("Scorer2", (Scorer,), {})


def test_signatures_match_the_contract() -> None:
    filters = "exclude=None, allow=None, deny=None"
    expected = {
        "load": "(path, *, threads=None, isa=None, max_bytes=None)",
        "from_tensors": "(tensors, *, kind=None, seen=None, history=None, threads=None, isa=None, max_bytes=None)",
        "score_batch": "(self, /, users, items, *, logits=False, out=None, threads=None)",
        "top_k": f"(self, /, users, k=10, *, {filters}, max_per_group=None, after=None, search='exact', "
        "recall=None, probes=None, logits=False, threads=None)",
        "rank_of": f"(self, /, users, items, *, {filters}, threads=None)",
        "user_vectors": "(self, /, users)",
        "fold_in": "(self, /, histories, *, weights=None, threads=None)",
    }
    assert {name: str(inspect.signature(getattr(Scorer, name))) for name in expected} == expected


def test_copying_returns_the_same_object(file: Path) -> None:
    for scorer in (Scorer.load(file), Scorer.from_tensors(random_tensors(SHAPE))):
        assert copy.copy(scorer) is scorer
        assert copy.deepcopy([scorer])[0] is scorer


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_holds_path_and_digest(file: Path, directory: Path, protocol: int) -> None:
    for path in (file, directory):
        scorer = Scorer.load(path, threads=3, isa="portable")
        pickled = pickle.dumps(scorer, protocol)
        assert len(pickled) < 500 + len(os.fsencode(path))
        again = pickle.loads(pickled)
        assert results(again) == results(scorer)
        assert (again.threads, again.isa) == (3, "portable")
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors", "seen.safetensors"):  # as by sha256sum
        digest.update(f"{hashlib.sha256((directory / name).read_bytes()).hexdigest()}  {name}\n".encode())
    assert digest.hexdigest().encode() in pickled
    assert again.top_k(0, 30, exclude="seen").ids.tolist()[-2:] == [-1, -1]


def test_a_pickle_holds_the_absolute_path(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    pickled = pickle.dumps(Scorer.load(file.name))
    monkeypatch.chdir("/")
    assert pickle.loads(pickled).num_items == 30


def test_a_pickle_of_a_changed_model_is_rejected(file: Path) -> None:
    pickled = pickle.dumps(Scorer.load(file))
    write_file(file, random_tensors(SHAPE, seed=1), note="kept")
    with pytest.raises(ModelFormatError, match="the model has changed since it was pickled"):
        pickle.loads(pickled)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)


def test_a_scorer_without_a_file_cannot_be_pickled(small: Scorer) -> None:
    with pytest.raises(TypeError, match="made from tensors cannot be pickled, because it has no file; save"):
        pickle.dumps(small)


def test_it_can_be_sent_to_a_spawned_process(directory: Path) -> None:
    scorer = Scorer.load(directory)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        top = pool.apply_async(operator.methodcaller("top_k", range(6), 30, logits=True), (scorer,)).get(timeout=60)
    assert [top.ids.tolist(), top.scores.tolist()] == results(scorer)[:2]
    assert type(top) is neuralcf.TopK
