"""The recommender: external ids, filters that always apply, the same results alone and in a batch, no torch."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

import neuralcf
from conftest import ROOT

# A GMF of width 1 whose results are computed by hand: score(u, i) = sign[u] * value[i].
SIGNS = [1.0, -1.0, 1.0]
VALUES = [3.0, 5.0, 1.0, 5.0, 2.0]
INT_IDS = ([10, -1, 2**40], [-1, 7, 70, 700, 7000])
STR_IDS = (["ann", "7", "zoë"], ["a", "7", "b", "", "c"])
SEEN = sp.csr_matrix(([1, 1], ([0, 2], [1, 0])), shape=(3, 5))


def column(values):
    return np.array(values, np.float32)[:, None]


TENSORS = {
    "gmf.user_embedding.weight": column(SIGNS),
    "gmf.item_embedding.weight": column(VALUES),
    "output.weight": column([1.0]),
    "output.bias": np.zeros(1, np.float32),
}


def saved(path, ids=INT_IDS, seen=SEEN):
    neuralcf.save(TENSORS, path, kind="gmf", ids=ids, seen=seen)
    return path


@pytest.fixture(params=[INT_IDS, STR_IDS], ids=["int", "str"])
def model(request, tmp_path):
    return neuralcf.Recommender.load(saved(tmp_path / "model", request.param)), *request.param


def test_results_by_hand(model):
    recommender, users, items = model
    result = recommender.recommend(users, 3, logits=True)
    order = [[3, 0, 4], [2, 4, 0], [1, 3, 4]]  # ties by index: item 1 before item 3
    assert result.ids.tolist() == [[items[i] for i in row] for row in order]
    assert result.scores.tolist() == [[s * VALUES[i] for i in row] for s, row in zip(SIGNS, order, strict=True)]
    assert result.counts.tolist() == [3, 3, 3]
    assert result.known.all()
    assert (recommender.num_users, recommender.num_items) == (3, 5)


def test_types_of_ids(model):
    recommender, users, items = model
    ids = recommender.recommend(users, 5).ids
    if isinstance(items[0], str):
        assert ids.dtype == object
        assert all(type(one) is str or one is None for one in ids.flat)
        assert ids[0].tolist()[-1] is None
    else:
        assert ids.dtype == np.int64
        assert ids[0].tolist()[-1] == -1


def test_a_batch_equals_its_single_calls(model):
    recommender, users, _ = model
    batch = recommender.recommend(users, 4)
    for row, user in enumerate(users):
        single = recommender.recommend(user, 4)
        assert single.ids.shape == (4,)
        assert single.ids.tolist() == batch.ids[row].tolist()
        assert np.array_equal(single.scores, batch.scores[row])
        assert (single.counts, single.known) == (batch.counts[row], batch.known[row])


def test_counts_exclude_padding(model):
    recommender, users, items = model
    result = recommender.recommend(users, 9)  # more than the catalogue holds
    assert result.counts.tolist() == [4, 5, 4]
    assert np.isneginf(result.scores).sum(axis=1).tolist() == [5, 4, 5]
    assert items[0] in result.ids[0, :4].tolist()  # -1 is also a real id
    nothing = recommender.recommend(users[0], 2, allow=[])
    assert nothing.counts == 0
    assert np.isneginf(nothing.scores).all()
    assert recommender.recommend([], 2).ids.shape == (0, 2)


def test_filters(model):
    recommender, users, items = model
    user = users[0]  # has seen item 1
    assert items[1] not in recommender.recommend(user, 5).ids.tolist()
    assert recommender.recommend(user, 5, exclude_seen=False).ids[0] == items[1]
    assert recommender.recommend(user, 5, allow=[items[2], items[1]]).ids.tolist()[:1] == [items[2]]
    denied = recommender.recommend(user, 5, deny=[items[3], items[0]])
    assert denied.ids.tolist()[: denied.counts] == [items[4], items[2]]
    both = recommender.recommend(user, 5, allow=[items[3], items[4]], deny=[items[3]])
    assert both.ids.tolist()[: both.counts] == [items[4]]


def test_unknown_ids(model):
    recommender, users, items = model
    stranger = "nobody" if isinstance(users[0], str) else 11
    with pytest.raises(neuralcf.UnknownUserError, match=f"users: not in the model: {stranger!r}$") as caught:
        recommender.recommend([users[0], stranger, stranger])
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, neuralcf.NeuralCFError)
    assert caught.value.ids == [stranger]
    with pytest.raises(neuralcf.UnknownUserError):
        recommender.score_batch(stranger, items)
    for unknown_item in (
        lambda: recommender.recommend(users, deny=[stranger]),
        lambda: recommender.recommend(users, allow=[items[0], stranger]),
        lambda: recommender.score_batch(users[0], [stranger]),
    ):
        with pytest.raises(neuralcf.UnknownItemError, match=repr(stranger)):
            unknown_item()


def test_skip_keeps_the_row_of_an_unknown_user(model):
    recommender, users, items = model
    stranger = "nobody" if isinstance(users[0], str) else 11
    result = recommender.recommend([users[2], stranger, users[0]], 2, deny=[stranger], on_unknown="skip")
    assert result.known.tolist() == [True, False, True]
    assert result.counts.tolist() == [2, 0, 2]
    assert result.ids[0].tolist() == [items[1], items[3]]
    assert np.isneginf(result.scores[1]).all()
    alone = recommender.recommend(stranger, 2, on_unknown="skip")
    assert not alone.known
    assert alone.counts == 0
    with pytest.raises(neuralcf.ArgumentError, match="on_unknown"):
        recommender.recommend(users, on_unknown="ignore")


def test_ids_are_never_coerced(tmp_path):
    ints = neuralcf.Recommender.load(saved(tmp_path / "ints"))
    strings = neuralcf.Recommender.load(saved(tmp_path / "strings", STR_IDS))
    for wrong in ("10", ["10"], 10.0, [10.0], True, [True], None, np.array(["10"])):
        with pytest.raises(TypeError, match="users: this model's ids are int64"):
            ints.recommend(wrong, on_unknown="skip")
    for wrong in (7, [7], True, b"7", np.array([7]), None):
        with pytest.raises(TypeError, match="users: this model's ids are str"):
            strings.recommend(wrong, on_unknown="skip")
    for right in ("7", ["7"], np.array(["7"]), np.array(["7"], object), ("7",)):
        assert strings.recommend(right).known.all()
    for right in (10, np.int8(10), np.array(10), np.array([10], ">i2"), [10], range(10, 11)):
        assert ints.recommend(right).known.all()
    with pytest.raises(neuralcf.UnknownUserError):
        ints.recommend(np.array([2**64 - 1], np.uint64))  # would be -1 as int64


def test_score_batch(model):
    recommender, users, items = model
    scores = recommender.score_batch(users, items[:3], logits=True)
    assert scores.tolist() == [3.0, -5.0, 1.0]
    assert np.array_equal(recommender.score_batch(users[1], items, logits=True), -np.array(VALUES, np.float32))
    probabilities = recommender.score_batch(users[0], items)
    assert np.allclose(probabilities, 1 / (1 + np.exp(-np.array(VALUES))), atol=1e-6)
    with pytest.raises(neuralcf.ArgumentError):
        recommender.score_batch(users, items[:2])


def test_a_filter_never_switches_itself_off(tmp_path):
    recommender = neuralcf.Recommender.load(saved(tmp_path / "model", seen=None))
    with pytest.raises(neuralcf.ArgumentError, match="exclude_seen: the model was saved without interactions"):
        recommender.recommend(10)
    assert recommender.recommend(10, exclude_seen=False).ids[0] == 7


def test_a_model_without_ids_is_rejected(tmp_path):
    neuralcf.save(TENSORS, tmp_path / "model", kind="gmf")
    neuralcf.save(TENSORS, tmp_path / "model.safetensors", kind="gmf")
    for name in ("model", "model.safetensors"):
        with pytest.raises(neuralcf.ArgumentError, match="saved without ids"):
            neuralcf.Recommender.load(tmp_path / name)


WITHOUT_TORCH = """
import sys
for absent in ("torch", "scipy", "pandas", "matplotlib", "tqdm", "safetensors"):
    sys.modules[absent] = None
import neuralcf
recommender = neuralcf.Recommender.load(sys.argv[1])
assert recommender.recommend(10, 1, logits=True).scores[0] == 5.0
for name in ("NeuMF", "training"):
    try:
        getattr(neuralcf, name)
    except ImportError as error:
        print(error)
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
loaded = {name for name in loaded - set(sys.stdlib_module_names) if not name.startswith("_")}
print(sorted(loaded))
"""


def test_serving_needs_only_numpy(tmp_path):
    command = [sys.executable, "-c", WITHOUT_TORCH, saved(tmp_path / "model")]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.splitlines() == [
        "neuralcf.NeuMF needs torch: pip install 'neuralcf[train]'",
        "neuralcf.training needs torch: pip install 'neuralcf[train]'",
        "['neuralcf', 'numpy']",
    ]


def test_the_example_runs(tmp_path):
    example = ROOT / "examples" / "recommend.py"
    command = [sys.executable, example, saved(tmp_path / "model", STR_IDS), "ann"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split("  ")[1] for line in printed] == ["", "a", "c", "b"]


def test_a_pickle_opens_the_same_model_or_fails(model, tmp_path):
    recommender, users, _ = model
    assert copy.copy(recommender) is copy.deepcopy(recommender) is recommender
    pickled = pickle.dumps(recommender)
    again = pickle.loads(pickled).recommend(users, 5)
    for ours, theirs in zip(again, recommender.recommend(users, 5), strict=True):
        assert ours.tolist() == theirs.tolist()
    neuralcf.save(TENSORS, tmp_path / "model", kind="gmf", ids=([1, 2, 3], [1, 2, 3, 4, 5]))
    with pytest.raises(neuralcf.ModelFormatError, match="the model has changed since it was pickled"):
        pickle.loads(pickled)
