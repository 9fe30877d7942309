"""The page, in a real browser: a user's list, items picked by title, in two widths, light and dark.

`NEURALCF_SCREENSHOTS=FOLDER` keeps pictures of it.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from served import ITEMS, saved  # skips these tests without the extra `serve`
from test_serve import Process

import neuralcf

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("the page needs Chromium, which is not installed", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="the page needs playwright: pip install playwright")

TITLES = ["Alien", "Brazil", "Casablanca", "Dune", "<b>Escape</b> & 'quotes' \"\\", "Fargo"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    model = saved(folder / "model", history=True)
    rows = [f"{1000 + n}\t{TITLES[n % len(TITLES)]} {n}" for n in range(ITEMS)]
    (folder / "items.tsv").write_text("item\ttitle\n" + "\n".join(rows) + "\n")
    with Process(model, "--items", str(folder / "items.tsv")) as process:
        yield process, neuralcf.Recommender.load(model)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def titles_of(ids):
    return [f"{TITLES[(one - 1000) % len(TITLES)]} {one - 1000}" for one in ids]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_lists_for_a_user_and_for_items(server, browser, width, scheme):
    process, recommender = server
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    outside, wrong = [], []
    page.on("request", lambda request: outside.append(request.url))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"http://127.0.0.1:{process.port}/")

    page.get_by_label("User", exact=True).fill("3")
    page.get_by_role("button", name="Show").click()
    page.get_by_role("heading", name="For user 3").wait_for()
    shown = page.locator("#list .title").all_inner_texts()
    assert shown == titles_of(recommender.recommend(3).ids.tolist())
    first = int(recommender.recommend(3).ids[0])
    page.get_by_role("button", name=f"Why {titles_of([first])[0]}").click()
    page.locator(".why").wait_for()
    why = recommender.explain(3, first)
    assert why.reasons
    assert page.locator(".why li span:first-child").all_inner_texts() == titles_of([item for item, _ in why.reasons])
    assert f"Logit {why.logit:+.2f}".replace("-", "\N{MINUS SIGN}") in page.locator(".why").inner_text()
    keep(page, f"user-{width}-{scheme}")
    page.get_by_role("button", name=f"Similar to {titles_of([first])[0]}").click()
    page.get_by_role("heading", name=f"Similar to {titles_of([first])[0]}").wait_for()
    assert page.locator("#list .title").all_inner_texts() == titles_of(recommender.similar_items(first).ids.tolist())
    assert page.get_by_role("button", name="Why").count() == 0
    keep(page, f"similar-{width}-{scheme}")

    page.get_by_label("User", exact=True).fill("nobody")
    page.keyboard.press("Enter")
    page.get_by_text("expected a whole number").wait_for()

    page.get_by_label("someone who likes these items").check()
    for title in ("Escape</b> & 'quotes' \"\\ 4", "alien 6"):
        page.get_by_label("Items they like").fill(title)
        page.locator("#found button").first.wait_for()
        page.keyboard.press("Enter")  # takes the first
        page.locator(f"#picked li:nth-child({1 if title[0] == 'E' else 2})").wait_for()
    page.get_by_role("heading", name="Alien 6").wait_for()
    expected = titles_of(recommender.recommend_for_history([1004, 1006]).ids.tolist())
    page.wait_for_function("() => document.querySelectorAll('#list .title').length == 10")
    assert page.locator("#list .title").all_inner_texts() == expected
    keep(page, f"items-{width}-{scheme}")
    page.get_by_role("button", name="Remove Alien 6").click()
    page.locator("#picked li").nth(1).wait_for(state="detached")

    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0  # nothing is cut off at the side
    assert contrast(page, "#heading") > 7
    assert contrast(page, ".soft") > 4.5
    assert all(url.startswith(f"http://127.0.0.1:{process.port}/") for url in outside)
    assert not wrong
    context.close()


def keep(page, name):
    """Keep a picture, if asked."""
    folder = os.environ.get("NEURALCF_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def contrast(page, selector):
    """Return the contrast of a text with the page, as the Web Content Accessibility Guidelines define it."""
    script = f"""() => [getComputedStyle(document.querySelector("{selector}")).color,
                        getComputedStyle(document.body).backgroundColor]"""
    light = []
    for colour in page.evaluate(script):
        red, green, blue = (int(part) / 255 for part in colour[4:-1].split(",")[:3])
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
        light.append(float(np.dot(linear, (0.2126, 0.7152, 0.0722))))
    return (max(light) + 0.05) / (min(light) + 0.05)
