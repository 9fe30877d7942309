"""An HTML parser, and the properties that every report must have."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Collects tags, ids and links; fails on a tag that is closed out of order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.texts = [], [], [], [], []

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

    def handle_data(self, data):
        self.texts.append(data)


def check_self_contained(html):
    """Check that a report is self-contained and has a light and a dark mode; return the parsed page."""
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    references = re.findall(r"url\(#([^)]+)\)", html) + [link.removeprefix("#") for link in page.links]
    assert references, "charts refer to their clip paths; without references the next line checks nothing"
    assert set(references) <= set(page.ids)
    assert not re.search(r"https?://|url\((?!#)|@import|<script", html)
    assert "prefers-color-scheme: dark" in html
    assert "#01020" not in html  # no placeholder colour is left
    return page
