"""A small demo: both models beat popularity and agree with torch, and the report is self-contained."""

import pytest

import neuralcf
from neuralcf.demo.tour import demo
from pages import check_self_contained


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "deep" / "out"
    return out, demo(out, num_users=400, num_items=200, epochs=5, large=3000, seconds=0.1)


def test_both_models_beat_popularity_and_agree_with_torch(made):
    out, report = made
    assert [contender.preset for contender in report.contenders] == ["fast", "neumf"]
    for contender in report.contenders:
        assert [(c.name, c.among) for c in contender.metrics] == [
            ("HR@10", "1 + 99"),
            ("NDCG@10", "1 + 99"),
            ("HR@10", "all items"),
            ("NDCG@10", "all items"),
        ]
        assert all(c.value > 1.2 * c.popularity for c in contender.metrics)
    assert 0 < report.largest_difference <= 1e-5
    assert [(timing.kind, timing.num_items) for timing in report.timings] == [
        ("GMF", 200),
        ("NeuMF", 200),
        ("GMF", 3000),
        ("NeuMF", 3000),
    ]
    assert [neuralcf.Scorer.load(out / name).kind for name in ("model", "neumf")] == ["gmf", "neumf"]


def test_its_model_recommends_titles(made):
    out, report = made
    recommender = neuralcf.Recommender.load(out / "model")
    for taste in report.lists:
        assert recommender.recommend(taste.taste).ids.tolist() == [title for title, _, _ in taste.recommended]
        assert not set(taste.history) & {title for title, _, _ in taste.recommended}


def test_its_report_is_self_contained(made):
    out, report = made
    html = (out / "report.html").read_text(encoding="utf-8")
    assert html == report.html()  # rendering is deterministic
    assert check_self_contained(html).tags.count("svg") == 6  # three charts, for wide and for narrow screens
