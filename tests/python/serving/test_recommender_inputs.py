"""Ids as programs hand them over: what models with integer ids accept, models with text ids accept too."""

import numpy as np
import pyarrow as pa
import pytest

import neuralcf
from neuralcf import Recommender

IDS = {"int": ([1, 2, 3], [10, 20, 30]), "str": (["a", "b", "c"], ["x", "y", "z"])}


@pytest.fixture(params=IDS)
def model(request, tmp_path):
    users, items = IDS[request.param]
    tensors = {
        "gmf.user_embedding.weight": np.ones((3, 1), np.float32),
        "gmf.item_embedding.weight": np.ones((3, 1), np.float32),
        "output.weight": np.ones((1, 1), np.float32),
        "output.bias": np.zeros(1, np.float32),
    }
    neuralcf.save(tensors, tmp_path / "m", kind="gmf", ids=(users, items), seen=(np.arange(4), np.zeros(3, np.int64)))
    return Recommender.load(tmp_path / "m"), users, items


FORMS = {
    "tuple": tuple,
    "array": np.array,
    "array of objects": lambda ids: np.array(ids, object),
    "keys of a dictionary": lambda ids: dict.fromkeys(ids).keys(),
    "generator": lambda ids: (id_ for id_ in ids),
    "Arrow": pa.array,
    "Arrow in chunks": lambda ids: pa.chunked_array([ids[:1], ids[1:]]),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_ids_is_read_alike(model, form):
    recommender, users, items = model
    expected = recommender.recommend(users[:2], 2)
    assert recommender.recommend(form(users[:2]), 2).ids.tolist() == expected.ids.tolist()
    allowed = recommender.recommend(users[:2], 1, allow=form(items[1:]), deny=form(items[2:]))
    assert allowed.ids.tolist() == [[items[1]]] * 2
    assert recommender.score_batch(form(users[:2]), form(items[:2])).shape == (2,)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_series_are_read(model, library):
    series = pytest.importorskip(library).Series
    recommender, users, _ = model
    assert recommender.recommend(series(users), 1).counts.tolist() == [1, 1, 1]


def test_one_user_and_none(model):
    recommender, users, items = model
    for one in (users[0], np.array(users)[0], np.array(users[0])):
        assert recommender.recommend(one, 1).ids.tolist() == [items[1]]
    for nothing in ([], np.array([]), np.array([], object)):
        assert recommender.recommend(nothing, 1).ids.shape == (0, 1)
    with pytest.raises(TypeError, match=r"users: this model's ids are .*: expected some, got None"):
        recommender.recommend(None, 1)
