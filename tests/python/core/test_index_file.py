"""A saved index: the same answers and the same bytes, and beside other weights or after damage never an answer."""

import json
import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

import neuralcf
from neuralcf import ArgumentError, ModelFormatError, Recommender, Scorer
from neuralcf.cli import main
from neuralcf.format.index import save_index
from neuralcf.results import TopK
from reference import Shape, logits64, random_tensors

U, I = 60, 900  # noqa: E741 - users and items
SHAPES = {"gmf": Shape(U, I, g=24), "neumf": Shape(U, I, g=4, mlp=(6, 6), layers=(16, 8))}
DAMAGED = 600
"""Damaged copies of a file."""


def publish(path: Path, kind: str = "gmf", seed: int = 0) -> None:
    ids = ([f"u{user}" for user in range(U)], list(range(I)))
    neuralcf.save(random_tensors(SHAPES[kind], seed), path, kind=kind, ids=ids)


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model with an index in its directory."""
    publish(tmp_path / "model", request.param)
    Scorer.load(tmp_path / "model").build_index(seed=5, lists=70).save_index()
    return tmp_path / "model"


def near(scorer: Scorer) -> TopK:
    return scorer.top_k(np.arange(U), 10, search="approximate", recall=0.9)


def assert_same(found: TopK, expected: TopK) -> None:
    assert np.array_equal(found.ids, expected.ids)
    assert found.scores.tobytes() == expected.scores.tobytes()


def test_a_loaded_index_is_the_one_that_was_built(model: Path) -> None:
    built = Scorer.load(model).build_index(seed=5, lists=70)
    loaded = Scorer.load(model)
    assert loaded.index == built.index
    assert loaded.nbytes == built.nbytes
    assert_same(near(loaded), near(built))
    assert_same(near(Recommender.load(model).scorer), near(built))
    loaded.save_index()  # what was read is what is written
    assert_same(near(Scorer.load(model)), near(built))


def test_bytes_depend_on_the_model_and_the_options_alone(model: Path) -> None:
    written = (model / "index.safetensors").read_bytes()
    for options in ({"threads": 1}, {"threads": 3}, {"isa": "portable"}):
        Scorer.load(model, **options).build_index(seed=5, lists=70).save_index()
        assert (model / "index.safetensors").read_bytes() == written
    Scorer.load(model).build_index(seed=6, lists=70).save_index()
    assert (model / "index.safetensors").read_bytes() != written
    assert [file.name for file in model.iterdir() if file.name.endswith(".part")] == []


@pytest.mark.parametrize("shape", [Shape(1, I, g=24), Shape(1, I, g=4, mlp=(6, 6), layers=(16, 8))], ids=str)
def test_lifts_tell_how_far_the_best_items_stand_above_the_centroids(tmp_path: Path, shape: Shape) -> None:
    tensors = random_tensors(shape)
    neuralcf.save(tensors, tmp_path / "model", kind=shape.kind)
    Scorer.load(tmp_path / "model").build_index(lists=40).save_index()
    saved, _ = content(tmp_path / "model")
    members = [np.flatnonzero(saved["list_of"] == number) for number in range(len(saved["lifts"]))]
    assert min(map(len, members)) > 0
    tables = {name: table for name, table in tensors.items() if "item_embedding" in name}
    means = {name: np.array([table[of].mean(0) for of in members]) for name, table in tables.items()}
    logits = logits64(tensors, np.zeros(I, int), np.arange(I))
    centroids = logits64(tensors | means, np.zeros(len(members), int), np.arange(len(members)))
    best = np.array([logits[of].max() for of in members])
    np.testing.assert_allclose(saved["lifts"], best - centroids, atol=2e-6)


def assert_refused(model: Path, sentence: str) -> None:
    """Check that exact searches go on, and that the index is never used silently."""
    scorer = Scorer.load(model)
    assert "index" not in scorer.nbytes
    assert scorer.top_k(0, 5).ids.size == 5
    for call in (lambda: near(scorer), lambda: scorer.index, scorer.save_index):
        with pytest.raises(ModelFormatError, match=sentence) as raised:
            call()
        assert f"{model}/index.safetensors: " in str(raised.value)
    assert near(scorer.build_index()).ids.shape == (U, 10)


def test_the_index_of_another_model_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = (model / "index.safetensors").read_bytes()
    publish(model, seed=1)  # replaces the whole directory
    assert Scorer.load(model).index is None
    (model / "index.safetensors").write_bytes(index)
    assert_refused(model, r'files of different models: model_id "\w+" here, "\w+" in .*config\.json')
    monkeypatch.setattr("uuid.uuid4", lambda: type("Fixed", (), {"hex": "f" * 32}))
    publish(model, seed=2)
    Scorer.load(model).build_index().save_index()
    index = (model / "index.safetensors").read_bytes()
    publish(model, seed=3)
    (model / "index.safetensors").write_bytes(index)
    assert_refused(model, r'an index of other weights: expected model_sha256 "\w{64}", that of model.safetensors, got')


def test_a_model_that_was_published_meanwhile_gets_no_foreign_index(model: Path) -> None:
    scorer = Scorer.load(model)
    publish(model, seed=1)
    with pytest.raises(ModelFormatError, match=r"config\.json: the model has changed since it was loaded: expected"):
        scorer.save_index()
    assert not (model / "index.safetensors").exists()


def content(model: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the tensors and the metadata of the index, but its digest."""
    data = (model / "index.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = {key: value for key, value in header["__metadata__"].items() if key not in ("digest", "sha256")}
    tensors = {}
    for name, dtype in (("levels", "<f8"), ("lifts", "<f4"), ("list_of", "<i4")):
        start, end = header[name]["data_offsets"]
        tensors[name] = np.frombuffer(data[8 + length :][start:end], dtype).reshape(header[name]["shape"]).copy()
    return tensors, metadata


def rewrite(model: Path, change) -> None:
    """Write the index again, with other content under a digest of its own."""
    tensors, metadata = content(model)
    change(tensors, metadata)
    save_index(model, tensors, metadata)


def put(name: str, place, value):
    return lambda tensors, _: tensors[name].__setitem__(place, value)


MALFORMED = {
    "list_of: item 3 is in list 900, expected 0 to 899": put("list_of", 3, I),
    "list_of: item 3 is in list -1, expected 0 to 899": put("list_of", 3, -1),
    "list_of: no item is in list 1, expected one in each up to list 2": put(
        "list_of", slice(None), [0] * (I - 1) + [2]
    ),
    "list_of: 899 values, expected 900, one for each item": lambda t, _: t.update(list_of=t["list_of"][:-1]),
    '"list_of": 2 dimensions, expected one': lambda t, _: t.update(list_of=t["list_of"].reshape(1, -1)),
    "list_of: dtype I64, expected I32": lambda t, _: t.update(list_of=t["list_of"].astype(np.int64)),
    "tensor list_of is missing": lambda t, _: t.pop("list_of"),
    "lifts: 69 values, expected 70, one for each list": lambda t, _: t.update(lifts=t["lifts"][:-1]),
    "lifts: NaN for list 2, expected a finite number": put("lifts", 2, np.nan),
    "lifts: dtype F64, expected F32": lambda t, _: t.update(lifts=t["lifts"].astype(np.float64)),
    "tensor lifts is missing": lambda t, _: t.pop("lifts"),
    "levels: NaN in row 2": put("levels", (2, 3), np.nan),
    "levels: expected the recalls": put("levels", (0, 1), 0.5),
    r"levels: expected the recalls [0.9, 0.95, 0.99, 0.999] for each k of": lambda t, _: t.update(
        levels=t["levels"][1:]
    ),
    "levels: got [1.0, 0.9, inf": put("levels", (0, 2), np.inf),
    "levels: got": put("levels", (0, 3), 1.5),
    "levels: shape [": lambda t, _: t.update(levels=t["levels"][:, :5]),
    '"more": unexpected tensor; this file holds list_of, lifts and levels': lambda t, _: t.update(more=np.zeros(2)),
    'seed: expected an integer from 0 to 2^64 - 1, got "-1"': lambda _, m: m.update(seed="-1"),
    "lists: expected an integer from 0 to 2^64 - 1, got none": lambda _, m: m.pop("lists"),
}


@pytest.mark.parametrize("sentence", MALFORMED)
def test_malformed_content_is_refused_by_a_sentence(tmp_path: Path, sentence: str) -> None:
    publish(tmp_path / "model")
    Scorer.load(tmp_path / "model").build_index(lists=70).save_index()
    rewrite(tmp_path / "model", MALFORMED[sentence])
    with pytest.raises(ModelFormatError) as raised:
        near(Scorer.load(tmp_path / "model"))
    assert sentence in str(raised.value)


def test_no_damaged_index_answers(model: Path) -> None:
    file, chance = model / "index.safetensors", random.Random(0)
    good = file.read_bytes()
    for _ in range(DAMAGED // len(SHAPES)):
        data = bytearray(good)
        match chance.randrange(4):
            case 0:
                del data[chance.randrange(len(data)) :]
            case 1:
                data += b"0"
            case _:
                data[chance.randrange(chance.choice([len(data), 900]))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)
        scorer = Scorer.load(model, threads=1)
        with pytest.raises(ModelFormatError, match=r"index\.safetensors: "):
            scorer.top_k(0, 5, search="approximate")
        assert scorer.top_k(0, 1).ids[0] >= 0
    file.write_bytes(good)
    near(Scorer.load(model))


def test_lists_that_take_more_memory_than_allowed_are_refused(model: Path) -> None:
    enough = sum(Scorer.load(model).nbytes.values()) + (1 << 20)
    one_each = {"list_of": np.arange(I, dtype=np.int32), "lifts": np.zeros(I, np.float32)}
    rewrite(model, lambda tensors, _: tensors.update(one_each))  # an item in each list: 16 times the tiles
    assert Scorer.load(model).index.lists == I
    with pytest.raises(MemoryError, match=r"the index: takes \d+ bytes, but \d+ max_bytes allows|the model: takes"):
        Scorer.load(model, max_bytes=min(enough, sum(Scorer.load(model).nbytes.values()) - 1))


def test_a_pickle_opens_the_same_index(model: Path) -> None:
    scorer, recommender = Scorer.load(model), Recommender.load(model)
    assert_same(near(pickle.loads(pickle.dumps(scorer))), near(scorer))
    assert_same(near(pickle.loads(pickle.dumps(recommender)).scorer), near(scorer))
    pickled = [pickle.dumps(scorer), pickle.dumps(recommender)]
    scorer.build_index(seed=9).save_index()
    for data in pickled:
        with pytest.raises(ModelFormatError, match=r"the index has changed since it was pickled: expected SHA-256 \w+"):
            pickle.loads(data)
    (model / "index.safetensors").unlink()
    for data in pickled:
        with pytest.raises(ModelFormatError, match="got none"):
            pickle.loads(data)


def test_a_new_index_is_reloaded(model: Path) -> None:
    recommender = Recommender.load(model)
    assert not recommender.reload()
    Scorer.load(model).build_index(lists=20).save_index()
    assert recommender.reload()
    assert recommender.scorer.index.lists <= 20


def test_only_a_loaded_directory_takes_an_index(model: Path, tmp_path: Path) -> None:
    shutil.copy(model / "model.safetensors", tmp_path / "single.safetensors")
    single = Scorer.load(tmp_path / "single.safetensors")
    changed = Scorer.load(model).without_items([3])
    for scorer, sentence in [
        (Scorer.load(tmp_path / "single.safetensors"), "this scorer has no index; make one with build_index"),
        (single.build_index(), "expected a scorer of a model directory"),
        (Scorer.from_tensors(random_tensors(SHAPES["gmf"])).build_index(), "expected a scorer of a model directory"),
        (changed, "as it was loaded"),
    ]:
        with pytest.raises(ArgumentError, match=f"save_index: .*{sentence}"):
            scorer.save_index()


def test_inspect_tells_of_the_index(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--verify"]) == 0
    out = capsys.readouterr().out
    assert f"{Scorer.load(model).index.lists} lists; recall of the best item" in out
    (model / "index.safetensors").write_bytes(b"x" * 9)
    assert main(["inspect", str(model)]) == 0
    assert "index         refused: " in capsys.readouterr().out
    assert main(["inspect", str(model), "--verify"]) == 2
    assert "index.safetensors is refused" in capsys.readouterr().err
