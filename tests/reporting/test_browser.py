"""The page in a browser: Debian's Chromium, driven by Playwright."""

import shutil

import pytest

from tests.reporting.conftest import BAD
from zoo.reporting.comparison import comparison
from zoo.reporting.facts import gather
from zoo.reporting.page import page
from zoo.reporting.pictures import Pictures

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def written(run, tmp_path):
    """The paths of a page with everything on it, and of a comparison."""
    facts = gather(run(names=("sun", "sea", BAD, "a-name-without-a-space-that-goes-on-and-on-and-on" * 3)))
    rows = {
        kind: [row | {"image_address": PIXEL, "map": PIXEL} for row in found]
        for kind, found in facts["predicted"]["extremes"].items()
    }
    leaf = {"name": BAD, "kind": "Linear", "settings": "8, 8", "parameters": 64, "state": "frozen", "origin": "new"}
    tree = leaf | {"children": [leaf | {"children": []}]}
    layers = [{"path": f"layer{place}", "kind": "Conv2d", "change": place / 10} for place in range(9)]
    pages = {"report": page(facts, Pictures(PIXEL, rows, tree, layers, True)), "comparison": comparison([facts, facts])}
    for name, text in pages.items():
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: (tmp_path / f"{name}.html").as_uri() for name in pages}


@pytest.fixture
def opened(browser):
    """`opened(address)` is a tab on it, at the size and in the scheme given; it fails for errors and for requests."""
    contexts, said, asked = [], [], []

    def open_page(address, width=1280, height=900, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: (said.append("a dialog"), dialog.dismiss()))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(address)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts)


def luminance(colour):
    """Relative luminance of `rgb(…)`, as WCAG 2 defines it."""
    parts = [int(text) / 255 for text in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(tab, selector, behind):
    style = "(e, key) => getComputedStyle(e)[key]"
    found = [
        luminance(tab.eval_on_selector(s, style, key)) for s, key in ((selector, "color"), (behind, "backgroundColor"))
    ]
    return (max(found) + 0.05) / (min(found) + 0.05)


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_charts_are_drawn(opened, written, name):
    tab = opened(written[name])
    sizes = tab.eval_on_selector_all("figure.chart svg", "all => all.map(e => e.getBoundingClientRect().height)")
    assert len(sizes) >= 3
    assert min(sizes) > 100
    lengths = tab.eval_on_selector_all("svg path.line", "all => all.map(e => e.getTotalLength())")
    assert len(lengths) >= 3
    if name == "report":
        assert tab.eval_on_selector_all(
            "svg rect.bar", "all => all.filter(e => e.getBoundingClientRect().height > 1).length"
        )
        assert tab.locator("svg rect.cell.hit").first.is_visible()
        loaded = tab.eval_on_selector_all("img", "all => all.map(e => e.complete && e.naturalWidth > 0)")
        assert len(loaded) > 10
        assert all(loaded)
        assert tab.get_by_text(BAD).count() > 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_can_be_read_and_switched(opened, written, scheme):
    tab = opened(written["report"], scheme=scheme)
    before = tab.eval_on_selector("body", "e => getComputedStyle(e).backgroundColor")
    assert (luminance(before) < 0.1) == (scheme == "dark")
    for selector in ("section h2", "section p.soft", ".tile .name", "td small"):
        assert contrast(tab, selector, "section") > 4.5
    tab.keyboard.press("Tab")
    for _ in range(30):  # the switch is reached by keyboard, behind the links of the bar
        if tab.evaluate("document.activeElement.id") == "theme":
            break
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    after = tab.eval_on_selector("body", "e => getComputedStyle(e).backgroundColor")
    assert (luminance(after) < 0.1) == (scheme == "light")
    assert contrast(tab, "section h2", "section") > 4.5


@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("width", [640, 320])
def test_enlarged_it_scrolls_in_one_direction(opened, written, name, width):
    """640 CSS pixels are what 1280 are at 200 %, 320 at 400 % (WCAG 2, reflow)."""
    tab = opened(written[name], width=width, height=450)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_tables_sort_by_a_click_and_by_key(opened, written):
    tab = opened(written["report"])
    head = tab.locator("#classes th button", has_text="recall")
    head.click()
    values = [
        float(text) for text in tab.eval_on_selector_all("#classes td:nth-child(3)", "a => a.map(e => e.dataset.value)")
    ]
    assert values == sorted(values)
    head.press("Enter")
    again = [
        float(text) for text in tab.eval_on_selector_all("#classes td:nth-child(3)", "a => a.map(e => e.dataset.value)")
    ]
    assert again == values[::-1]


def test_the_matrix_has_two_orders_by_key(opened, written):
    tab = opened(written["report"])
    assert tab.locator(".matrix.sorted").is_visible()
    tab.locator("#by-likeness").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.locator(".matrix.given").is_visible()
    assert not tab.locator(".matrix.sorted").is_visible()


def test_it_prints(opened, written):
    tab = opened(written["report"], scheme="dark")
    tab.emulate_media(media="print", color_scheme="light")
    assert not tab.locator("nav").is_visible()
    assert tab.pdf()[:5] == b"%PDF-"
