"""The page in a real browser: pictures, viewer, widths, console."""

import pytest

from tests.reporting.browser import find_browser, open_browser

PATHS, REASON = find_browser()
pytestmark = pytest.mark.skipif(PATHS is None, reason=f"needs a browser: {REASON}")

LOADED = "Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)"
FOCUS = "Array.from(document.querySelectorAll('button.picture')).indexOf(document.activeElement)"
PLACE = "document.getElementById('viewer-place').textContent"
IMAGE = "document.getElementById('viewer-image')"
OPEN = "document.getElementById('viewer').open"


@pytest.fixture(scope="module")
def browser(report, tmp_path_factory):
    with open_browser(PATHS, tmp_path_factory.mktemp("profile")) as session:
        session.open(report.path)
        yield session


def test_all_pictures_load_and_nothing_complains(browser, report):
    assert browser.run("document.images.length") == len(report.page.all("img"))
    assert browser.run(LOADED)
    assert browser.console() == []


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(browser, width, scheme):
    browser.window(width, 900, scheme)
    assert browser.run("document.documentElement.scrollWidth") <= width
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_viewer_is_used_by_keys_alone(browser):
    """Open the second picture, walk to others, see one in its own size, close: focus is back."""
    browser.window(1400, 900)
    number = browser.run("document.querySelectorAll('button.picture').length")
    browser.run("document.querySelectorAll('button.picture')[1].focus()")
    assert not browser.run(OPEN)
    browser.press("Enter")
    assert browser.run(OPEN) and browser.run(PLACE) == f"2 of {number}"
    shown = browser.run(f"[{IMAGE}.src, {IMAGE}.alt]")
    browser.press("Right")
    assert browser.run(PLACE) == f"3 of {number}"
    assert browser.run(f"[{IMAGE}.src, {IMAGE}.alt]") != shown
    browser.press("Left", "Left", "Left")
    assert browser.run(PLACE) == f"{number} of {number}"  # round the end
    browser.press("Home")
    assert browser.run(PLACE) == f"1 of {number}"
    fitted = browser.run(f"{IMAGE}.clientWidth")
    browser.run("document.getElementById('viewer-size').click()")
    assert browser.run(f"{IMAGE}.clientWidth === {IMAGE}.naturalWidth") or fitted == 0
    browser.press("End")
    assert browser.run(PLACE) == f"{number} of {number}"
    browser.press("Escape")
    assert not browser.run(OPEN) and browser.run(FOCUS) == 1
    assert browser.console() == []


def test_focus_is_seen(browser):
    """Tabs reach the first link, with an outline."""
    browser.run("document.body.focus()")
    browser.run("document.activeElement.blur()")
    browser.press("Tab")
    outline = browser.run("getComputedStyle(document.activeElement).outlineStyle")
    assert browser.run("document.activeElement.tagName") in ("A", "BUTTON") and outline == "solid"
