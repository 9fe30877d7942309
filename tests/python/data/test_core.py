"""The k-core: against a plain loop; counted when reading."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralcf import ArgumentError
from neuralcf.data import Dataset, core, read_interactions


@settings(deadline=None)
@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 6)), min_size=1), st.integers(1, 4), st.integers(1, 4))
def test_all_that_are_left_have_enough(pairs, min_user, min_item):
    left = set(pairs)
    while True:
        few = {(u, i) for u, i in left if sum(u == v for v, _ in left) < min_user}
        few |= {(u, i) for u, i in left if sum(i == j for _, j in left) < min_item}
        if not few:
            break
        left -= few
    dataset = Dataset.from_ids(*zip(*sorted(pairs), strict=True))
    if not left:
        with pytest.raises(ArgumentError, match="min_user, min_item: expected interactions in which each user has"):
            core(dataset, min_user, min_item)
        return
    found = core(dataset, min_user, min_item)
    assert set(zip(found.user_ids[found.users].tolist(), found.item_ids[found.items].tolist(), strict=True)) == left
    assert found.user_ids.tolist() == sorted({user for user, _ in left})
    assert found.item_ids.tolist() == sorted({item for _, item in left})


def test_what_is_left_out_is_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("user,item\n1,1\n1,2\n2,1\n2,2\n3,1\n1,1\n")
    dataset, report = read_interactions(path, min_user=2, min_item=2)
    assert (len(dataset), report.below_core, report.duplicates, report.rows) == (4, 1, 1, 6)
