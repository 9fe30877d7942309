"""The demo, small: it beats popularity, agrees with torch, and its report needs nothing but itself."""

import re
from html.parser import HTMLParser

import pytest

import neuralcf
from neuralcf.demo import demo


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "deep" / "out"
    return out, demo(out, num_users=400, num_items=200, epochs=5, large=3000, seconds=0.1)


def test_what_it_found(made):
    _, report = made
    assert [(c.name, c.among) for c in report.comparisons] == [
        ("HR@10", "1 + 99"),
        ("NDCG@10", "1 + 99"),
        ("HR@10", "all items"),
        ("NDCG@10", "all items"),
    ]
    assert all(c.model > 1.2 * c.popularity for c in report.comparisons)
    assert 0 < report.largest_difference <= 1e-5
    assert [timing.num_items for timing in report.timings] == [200, 3000]


def test_its_model_answers_by_name(made):
    out, report = made
    recommender = neuralcf.Recommender.load(out / "model")
    for taste in report.lists:
        assert recommender.recommend(taste.taste).ids.tolist() == [title for title, _, _ in taste.recommended]
        assert not set(taste.history) & {title for title, _, _ in taste.recommended}


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.links = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href"):
                self.links.append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_stands_alone(made):
    out, report = made
    html = (out / "report.html").read_text(encoding="utf-8")
    assert html == report.html()  # the same bytes whenever it is drawn
    page = Page()
    page.feed(html)
    assert page.open == []
    assert page.tags.count("svg") == 6  # three charts, for wide and for narrow screens
    assert len(set(page.ids)) == len(page.ids)
    references = re.findall(r"url\(#([^)]+)\)", html) + [link.removeprefix("#") for link in page.links]
    assert references, "charts refer to their own clip paths; without any the next line would check nothing"
    assert set(references) <= set(page.ids)
    assert not re.search(r"https?://|url\((?!#)|@import|<script", html)
    assert "prefers-color-scheme: dark" in html
    assert "#01020" not in html  # every colour is the page's own
