"""The report as a person sees it: opened in Chromium, on a desk and on a phone, in a light and in a dark room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmark_results import write_all
from command import fastbot

from benchmarks.pages.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install -c constraints.txt playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser: sudo apt-get install chromium")
DESK, PHONE = 1280, 390


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_report([write_all(folder)], folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    # Chromium cannot wall itself off as root, and a container's /dev/shm may be too small for it.
    arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


class Opened:
    """A page that was opened, and what went wrong in it."""

    def __init__(self, browser: sync_api.Browser, report: Path, width: int, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.requests: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(report.as_uri())

    def sizes(self, selector: str) -> list[tuple[float, float]]:
        """Return width and height, in pixels, of all elements that are shown."""
        boxes = [found.bounding_box() for found in self.page.query_selector_all(selector)]
        return [(box["width"], box["height"]) if box else (0.0, 0.0) for box in boxes]


@pytest.mark.parametrize(("width", "scheme"), [(DESK, "light"), (PHONE, "light"), (DESK, "dark")])
def test_everything_is_there_and_nothing_goes_wrong(
    browser: sync_api.Browser, report: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    opened = Opened(browser, report, width, scheme)
    assert len(opened.sizes("section")) == 10
    assert len(opened.sizes("svg")) >= 20
    for selector, least_px in (("section", 150), ("svg", 20), ("table", 60), ("figcaption", 10), ("h2", 15)):
        sizes = opened.sizes(selector)
        assert sizes
        assert all(across > 100 and tall >= least_px for across, tall in sizes), (selector, sizes)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    picture = tmp_path / "report.png"
    opened.page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 50_000
    assert (opened.complaints, opened.requests) == ([], [report.as_uri()])
    opened.page.close()


@pytest.mark.slow
def test_what_the_quick_ladder_measured_is_shown(browser: sync_api.Browser, tmp_path: Path) -> None:
    """A page of real results: of the loaders, of the step with its waterfall and floors, of Tables 3 and 5."""
    rungs = ("decode", "plan", "step", "train", "table3", "table5")
    chosen = [word for rung in rungs for word in ("--rung", rung)]
    fastbot("bench", "all", "--quick", "--minutes", "40", "--out", tmp_path, *chosen, timeout_s=1200)
    opened = Opened(browser, tmp_path / "report.html", DESK)
    shown = {section.get_attribute("id") for section in opened.page.query_selector_all("section")}
    assert {rung for rung in rungs if rung not in shown} == set()
    pictures = opened.sizes("svg")
    assert len(pictures) >= len(rungs)
    assert all(across > 100 and tall >= 20 for across, tall in pictures)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= DESK
    assert opened.complaints == []
    opened.page.close()


def test_drawings_stay_within_their_column_and_words_apart(browser: sync_api.Browser, report: Path) -> None:
    """On a phone, where room is scarce: no words leave the page, and none stand on others."""
    opened = Opened(browser, report, PHONE)
    for drawing in opened.page.query_selector_all("svg"):
        boxes = [box for words in drawing.query_selector_all("text") if (box := words.bounding_box())]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= PHONE for box in boxes)
        for place, box in enumerate(boxes):
            assert not any(_overlap(box, other) for other in boxes[place + 1 :]), drawing.text_content()
    opened.page.close()


def _overlap(one: sync_api.FloatRect, other: sync_api.FloatRect) -> bool:
    # Boxes of lines are as high as the tallest letters: those of neighbours may touch.
    apart_y = one["y"] + one["height"] * 0.7 <= other["y"] or other["y"] + other["height"] * 0.7 <= one["y"]
    apart_x = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
    return not (apart_x or apart_y)


def test_a_dark_room_gets_a_dark_page(browser: sync_api.Browser, report: Path) -> None:
    shades = []
    for scheme in ("light", "dark"):
        opened = Opened(browser, report, DESK, scheme)
        shades.append(opened.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        opened.page.close()
    assert shades == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


def test_tables_sort_and_filter(browser: sync_api.Browser, report: Path) -> None:
    opened = Opened(browser, report, DESK)
    section = opened.page.locator("#loader")
    rates = section.locator("tbody tr:visible td:nth-child(2)")
    heading = section.get_by_role("button", name="images/s per core")
    heading.click()
    found = [float(text.replace(",", "")) for text in rates.all_inner_texts()]
    assert found == sorted(found)
    heading.click()
    assert [float(text.replace(",", "")) for text in rates.all_inner_texts()] == sorted(found, reverse=True)
    section.get_by_role("searchbox").fill("fastbot 1 thread")
    assert section.locator("tbody tr:visible td.case").all_inner_texts() == [
        f"fastbot {backend}, 1 thread" for backend in ("turbo", "ffcv", "torch", "dali")
    ]
    assert opened.complaints == []
    opened.page.close()
