"""A catalogue in shards gives the lists of the whole model, bit for bit, ties and filters included."""

import numpy as np
import pytest

import neuralcf
from neuralcf.batch.shards import list_in_shard, merge, shard_paths, split
from neuralcf.errors import ArgumentError, ModelFormatError

USERS, ITEMS = 40, 101


def save_model(path, kind, *, seen=True):
    """Save a NeuMF in which every third item has the vectors of another, so that many logits are equal."""
    rng = np.random.default_rng(5)

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    twin = np.where(np.arange(ITEMS) % 3 == 0, (np.arange(ITEMS) + 50) % ITEMS, np.arange(ITEMS))
    tensors = {
        "gmf.user_embedding.weight": normal(USERS, 4),
        "gmf.item_embedding.weight": normal(ITEMS, 4)[twin],
        "mlp.user_embedding.weight": normal(USERS, 4),
        "mlp.item_embedding.weight": normal(ITEMS, 4)[twin],
        "mlp.layers.0.weight": normal(8, 8),
        "mlp.layers.0.bias": normal(8),
        "output.weight": 4 * normal(1, 12),
        "output.bias": normal(1) + 20,  # probabilities saturate
    }
    ids = np.arange(USERS) + 7, rng.permutation(ITEMS) + 1000
    if kind == "str":
        ids = tuple([f"é{id_}" for id_ in side] for side in ids)
    lengths = rng.integers(0, 9, USERS)
    rows = [np.sort(rng.choice(ITEMS, length, replace=False)) for length in lengths]
    known = (np.concatenate([[0], np.cumsum(lengths)]), np.concatenate(rows)) if seen else None
    neuralcf.save(tensors, path, kind="neumf", ids=ids, seen=known)
    return ids


@pytest.mark.parametrize("kind", ["int", "str"])
@pytest.mark.parametrize("shards", [1, 4, ITEMS])
def test_same_bits_as_the_whole_model(tmp_path, kind, shards):
    user_ids, item_ids = save_model(tmp_path / "model", kind)
    paths = split(tmp_path / "model", tmp_path / "shards", shards)
    assert shard_paths(tmp_path / "shards") == paths
    whole, parts = neuralcf.Recommender.load(tmp_path / "model"), [neuralcf.Recommender.load(path) for path in paths]
    unknown = "nobody" if kind == "str" else 3
    users = [*user_ids[:30], unknown]
    exclude = [[item_ids[at], item_ids[at + 3]] for at in range(30)] + [[]]
    sets = {"even": item_ids[::2], "first": item_ids[:30]}
    for recommender in (whole, *parts):
        for name, items in sets.items():
            recommender.set_items(name, items, on_unknown="skip")
    for filters in (
        {"exclude_seen": True, "k": 10},
        {"exclude_seen": False, "k": 60, "exclude": exclude},  # more than a shard has
        {"exclude_seen": True, "k": 200, "allow": "even - first", "deny": list(item_ids[50:60])},
        {"exclude_seen": True, "k": 5, "allow": list(item_ids[95:98])},  # of one shard
    ):
        for logits in (True, False):
            wanted = whole.recommend(users, on_unknown="skip", logits=logits, **filters)
            found = merge([list_in_shard(part, users, **filters) for part in parts], logits=logits)
            assert wanted.counts.max() > 0
            assert found.ids.tolist() == wanted.ids.tolist()
            assert found.scores.tobytes() == wanted.scores.tobytes()
            assert found.counts.tolist() == wanted.counts.tolist()
            assert found.known.tolist() == wanted.known.tolist()


def test_the_model_of_these_tests_has_ties(tmp_path):
    save_model(tmp_path / "model", "int")
    logits = neuralcf.Scorer.load(tmp_path / "model").top_k(np.arange(USERS), 20, logits=True).scores
    assert (np.diff(logits, axis=1) == 0).mean() > 0.1


def test_shards_that_are_no_set(tmp_path):
    save_model(tmp_path / "model", "int", seen=False)
    for shards in (0, ITEMS + 1, True, 2.0):
        with pytest.raises(ArgumentError, match="shards: expected an integer from 1 to 101"):
            split(tmp_path / "model", tmp_path / "shards", shards)
    with pytest.raises(ModelFormatError, match="expected all shards of one model, got none"):
        shard_paths(tmp_path)
    split(tmp_path / "model", tmp_path / "shards", 2)
    assert neuralcf.Recommender.load(shard_paths(tmp_path / "shards")[0]).scorer.nbytes["seen"] == 0
    split(tmp_path / "model", tmp_path / "shards", 3)
    with pytest.raises(ModelFormatError, match=r"expected all shards of one model, got shard-00000-of-00002, "):
        shard_paths(tmp_path / "shards")
