"""Results as columns of Arrow, pandas and polars; all users in constant memory."""

import gc

import numpy as np
import pytest

import neuralcf
from neuralcf import ArgumentError, Recommender
from neuralcf.serving import arrow
from reference import Shape, random_tensors

USERS, ITEMS = 40, 60


@pytest.fixture(scope="module", params=["int", "str"])
def model(request, tmp_path_factory):
    ids = ([100 + n for n in range(USERS)], [f"ï{n}" for n in range(ITEMS)])
    if request.param == "str":
        ids = (ids[1][:USERS], ids[0] + list(range(ITEMS - USERS)))
    path = tmp_path_factory.mktemp("model") / "m"
    rows = np.arange(USERS + 1), np.arange(USERS)
    neuralcf.save(random_tensors(Shape(USERS, ITEMS, g=5)), path, kind="gmf", ids=ids, seen=rows)
    return Recommender.load(path), *ids


def expected_rows(result, users):
    lists = result.to_list() if result.ids.ndim > 1 else [result.to_list()]
    return [(user, rank, *pair) for user, row in zip(users, lists, strict=True) for rank, pair in enumerate(row, 1)]


def test_columns_in_every_library(model):
    pa, pandas, pl = (pytest.importorskip(name) for name in ("pyarrow", "pandas", "polars"))
    recommender, users, items = model
    batch = recommender.recommend(users[:5], 4, deny=items[3:50])
    single = recommender.recommend(users[2], 3)
    histories = recommender.recommend_for_history([items[:3], items[4:6]], 3)
    nothing = recommender.recommend([], 3)
    for result, given in ((batch, users[:5]), (single, [users[2]]), (histories, [0, 1]), (nothing, [])):
        rows = expected_rows(result, given)
        table, frame, polars = result.to_arrow(), result.to_pandas(), result.to_polars()
        names = ["history" if result is histories else "user", "rank", "item", "score"]
        assert table.column_names == list(frame.columns) == polars.columns == names
        assert list(zip(*table.to_pydict().values(), strict=True)) == rows
        assert list(frame.itertuples(index=False, name=None)) == rows
        assert polars.rows() == rows
        assert table.schema.field("score").type == pa.float32()
        table.validate(full=True)
    assert isinstance(frame, pandas.DataFrame)
    assert isinstance(polars, pl.DataFrame)


def test_arrow_streams_let_go_of_their_memory(model):
    pa = pytest.importorskip("pyarrow")
    recommender, users, _ = model
    result = recommender.recommend(users, 5)
    gc.collect()
    before = len(arrow._LIVING), len(arrow._CAPSULES)
    for _ in range(20):
        pa.table(result)
        result.__arrow_c_stream__()  # never taken
        table = pa.table(result)
        column = table["item"]
        del table
        assert column.to_pylist()  # outlives its table
    del column
    gc.collect()
    assert (len(arrow._LIVING), len(arrow._CAPSULES)) == before


def test_columns_go_in_and_come_out(model):
    pa, pl = (pytest.importorskip(name) for name in ("pyarrow", "polars"))
    recommender, users, _ = model
    expected = recommender.recommend(users[:6], 3).to_arrow()
    for column in (pa.array(users[:6]), pl.Series(users[:6])):
        assert recommender.recommend(column, 3).to_arrow() == expected


def test_all_users_are_streamed(model):
    recommender, users, items = model
    whole = recommender.recommend(users, 4, deny=items[:5])
    parts = recommender.recommend_all(4, batch_size=7, deny=items[:5])
    first = next(parts)
    recommender.set_items("later", items)  # a change meanwhile: the lists stay those of one generation
    rest = list(parts)
    assert np.concatenate([part.ids for part in (first, *rest)]).tolist() == whole.ids.tolist()
    assert {part.generation for part in (first, *rest)} == {whole.generation}
    assert [len(part) for part in (first, *rest)] == [7] * 5 + [5]
    assert [user for part in (first, *rest) for user in part.users.tolist()] == users
    with pytest.raises(ArgumentError, match="batch_size: expected an integer of at least 1, got 0"):
        next(recommender.recommend_all(4, batch_size=0))
    with pytest.raises(TypeError, match="recommend_all: takes the options of recommend but exclude and after"):
        next(recommender.recommend_all(4, exclude=[]))
