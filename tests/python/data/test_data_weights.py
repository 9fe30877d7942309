"""Weights of interactions in a data set, and time decay."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from neuralcf import ArgumentError
from neuralcf.data import Dataset, decayed, given, leave_last_out, leave_one_out, read_interactions, split_by_time

DAY = 86400


def weighted():
    return Dataset.from_ids([1, 1, 2, 2], [10, 20, 10, 30], [1, 2, 3, 4], weights=[1, 2, 3, 4])


def pairs_of(dataset):
    return list(zip(dataset.users.tolist(), dataset.items.tolist(), strict=True))


def test_weights_follow_their_interactions_through_every_split():
    dataset = weighted()
    by_pair = dict(zip(pairs_of(dataset), dataset.weights.tolist(), strict=True))
    later = Dataset.from_ids([1, 2, 1, 2], [10, 20, 20, 10], timestamps=[1, 2, 3, 4], weights=[5, 6, 7, 8])
    assert split_by_time(later, at=3).train.weights.tolist() == [5, 6]
    assert given(dataset, Dataset.from_ids([0], [5])).train.weights.tolist() == [1, 2, 3, 4]
    for split in (leave_last_out(dataset), leave_one_out(dataset, 1)):
        left = split.train
        assert len(left) == 2
        assert [by_pair[pair] for pair in pairs_of(left)] == left.weights.tolist()


def test_a_repeated_pair_has_the_largest_of_its_weights_and_the_mean_is_one():
    dataset = Dataset.from_ids([2, 1, 1, 1], [10, 20, 10, 20], weights=[1, 1, 2, 3])
    assert dataset.user_items()[1].tolist() == [0, 1, 0]
    assert dataset.pair_weights().tolist() == [1, 1.5, 0.5]
    assert Dataset.from_ids([1], [1]).pair_weights() is None


def test_the_fingerprint_knows_weights_only_where_there_are_any():
    plain = Dataset.from_ids([1, 1, 2, 2], [10, 20, 10, 30], [1, 2, 3, 4])
    assert plain.fingerprint().startswith("c3e2c0d52f29")  # as before there were weights
    assert weighted().fingerprint() != plain.fingerprint()
    assert weighted().fingerprint() != weighted().take(np.arange(4)[::-1]).fingerprint()


@pytest.mark.parametrize("wrong", [[1, 2, 3, 0], [1, 2, 3, -1], [1, 2, 3, np.nan], [1, 2, 3, 1e39], ["a"] * 4, [1, 2]])
def test_a_weight_that_is_no_number_above_zero_is_rejected(wrong):
    with pytest.raises(ArgumentError, match="weights"):
        Dataset.from_ids([1, 1, 2, 2], [10, 20, 10, 30], weights=wrong)


@pytest.mark.parametrize("unit", [1, 1e3, 1e6, 1e9])
def test_an_interaction_counts_half_after_each_half_life(unit):
    times = ((1_700_000_000 + np.array([0, 10, 20, -3000]) * DAY) * unit).astype(np.int64)
    dataset = Dataset.from_ids([1, 1, 2, 2], [10, 20, 10, 30], times)
    np.testing.assert_allclose(decayed(dataset, 10.0).weights, [0.25, 0.5, 1, 2**-20], rtol=1e-6)
    doubled = Dataset.from_ids([1, 1, 2, 2], [10, 20, 10, 30], times, weights=[2, 2, 2, 2])
    np.testing.assert_allclose(decayed(doubled, 10.0).weights, [0.5, 1, 2, 2**-19], rtol=1e-6)


def test_decay_needs_timestamps_and_a_half_life():
    with pytest.raises(ArgumentError, match="half-life: expected a data set with timestamps"):
        decayed(Dataset.from_ids([1], [1]), 10.0)
    for wrong in (0, -1, np.inf, np.nan):
        with pytest.raises(ArgumentError, match="half-life: expected a number of days above 0"):
            decayed(weighted(), wrong)


EVENTS = "visitorid,itemid,event,timestamp\n1,5,view,1\n1,5,buy,2\n2,5,view,3\n2,6,cart,4\n2,6,view,5\n"


@pytest.mark.parametrize("parquet", [False, True])
def test_events_have_weights_and_repeats_are_summed(tmp_path, parquet):
    source = tmp_path / "events"
    source.write_text(EVENTS)
    if parquet:
        pa.parquet.write_table(pa.csv.read_csv(source), source)
    weights = {"view": 0.5, "buy": 4}
    dataset, report = read_interactions(source, event_weights=weights)
    assert (dataset.weights.tolist(), report.duplicates) == ([4.5, 0.5, 1.5], 2)
    assert dataset.timestamps.tolist() == [1, 3, 4]
    assert read_interactions(source, event_weights=weights, repeats="first")[0].weights.tolist() == [0.5, 0.5, 1]
    dataset, report = read_interactions(source, event_weights={"view": 0})
    assert (dataset.weights.tolist(), report.weightless, report.duplicates) == ([1, 1], 3, 0)
    assert read_interactions(source, repeats="sum")[0].weights.tolist() == [2, 1, 2]
    assert read_interactions(source)[0].weights is None
    for wrong, message in [
        ({"purchase": 3}, "event_weights: expected events of the column, 'view', 'buy', 'cart', got 'purchase'"),
        ({"view": -1}, "view: expected a number of at least 0, got -1"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            read_interactions(source, event_weights=wrong)


@pytest.mark.parametrize("parquet", [False, True])
def test_ratings_may_be_the_weights_too(tmp_path, parquet):
    """A chosen column is not detected as another one, and ratings can be a threshold and weights at once."""
    source = tmp_path / "ratings"
    source.write_text("user,item,stars,score,time\n1,5,4,9,1\n1,6,2,8,2\n2,5,5,7,3\n")
    if parquet:
        pa.parquet.write_table(pa.csv.read_csv(source), source)
    dataset, report = read_interactions(source, weight="stars", min_rating=4, rating="stars")
    assert dataset.weights.tolist() == [4, 5]
    assert report.columns == ("user=user", "item=item", "rating=stars", "timestamp=time", "weight=stars")
    assert read_interactions(source, weight="score")[0].weights.tolist() == [9, 8, 7]
    for chosen, columns in [
        ({"user": "item", "item": "user"}, ["user=item", "item=user", "rating=score", "timestamp=time"]),
        ({"weight": "score"}, ["user=user", "item=item", "rating=score", "timestamp=time", "weight=score"]),
        ({"timestamp": "score"}, ["user=user", "item=item", "rating=stars", "timestamp=score"]),
        ({"weight": "time"}, ["user=user", "item=item", "rating=score", "weight=time"]),
    ]:
        assert list(read_interactions(source, **chosen)[1].columns) == columns
    with pytest.raises(ArgumentError, match="different column for each field, got 'time' as timestamp= and weight="):
        read_interactions(source, weight="time", timestamp="time")
