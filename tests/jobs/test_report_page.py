"""The page in a real browser: no error, no request, and a slider that moves the figures."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import main
from tests.pipeline.report.made import THRESHOLD, failed, probe, rows, write_output

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, see pyproject")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # The sandbox of Chromium does not start for root, as in a container.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


class Opened:
    """A page, and all that went wrong or over the network since it was opened."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        self.page = browser.new_page(viewport={"width": 1280, "height": 900}, **settings)
        self.wrong: list[str] = []
        self.page.on("console", lambda one: self.wrong.append(one.text))
        self.page.on("pageerror", lambda one: self.wrong.append(str(one)))
        self.page.on("request", self._asked)
        self.page.goto(path.as_uri())

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file://", "data:")):
            self.wrong.append(request.url)

    def told(self, name: str) -> str:
        return str(self.page.locator(f"[data-out='{name}']").first.text_content())

    def slide(self, to: int) -> None:
        slider = self.page.locator("[data-threshold]").first
        slider.evaluate(
            "(one, to) => { one.value = to; one.dispatchEvent(new Event('input')); }", to
        )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    some = [*rows(400), failed(1)]
    for one in some[:400:5]:
        one["probe"] = probe("right")
    out = write_output(folder / "out", some, probe={"share": 0.2})
    assert main(["report", str(out), "--html", str(folder / "r.html")]) == 0
    return folder / "r.html"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    outs = [str(write_output(folder / name, rows(200, seed))) for seed, name in enumerate("ab")]
    assert main(["report", *outs, "--html", str(folder / "r.html")]) == 0
    return folder / "r.html"


def test_it_opens_without_an_error_or_a_request(browser: Any, page: Path) -> None:
    for scheme in ("light", "dark"):
        opened = Opened(browser, page, color_scheme=scheme)
        assert opened.page.locator(".chart svg").count() == opened.page.locator(".chart").count()
        assert opened.page.evaluate("document.documentElement.dataset.theme") == scheme
        opened.page.click("[data-theme-switch]")
        assert opened.page.evaluate("document.documentElement.dataset.theme") != scheme
        assert opened.wrong == []


def test_the_slider_moves_the_figures(browser: Any, page: Path) -> None:
    opened = Opened(browser, page)
    assert opened.told("threshold") == f"{THRESHOLD}"
    assert opened.told("basis") == "measured"
    own = {name: opened.told(name) for name in ("quality", "cost", "escalated")}
    chart = opened.page.locator("[data-chart='frontier']").inner_html()
    opened.slide(0)
    assert opened.told("escalated") == "0.0%"
    assert all(opened.told(name) != value for name, value in own.items())
    assert opened.page.locator("[data-chart='frontier']").inner_html() != chart
    opened.slide(10_000)
    assert (opened.told("threshold"), opened.told("basis")) == ("above 1", "estimated")
    assert float(opened.told("cost")) > float(own["cost"])
    opened.page.click("[data-back]")
    assert {name: opened.told(name) for name in own} == own
    assert opened.wrong == []


def test_the_keyboard_moves_it_and_a_reader_hears_it(browser: Any, page: Path) -> None:
    opened = Opened(browser, page)
    slider = opened.page.locator("[data-threshold]")
    before = slider.get_attribute("aria-valuetext")
    slider.focus()
    opened.page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") != before
    assert opened.told("escalated") == "0.0%"
    opened.page.locator("input[value='flops']").check()
    assert re.search(r"FLOPs", opened.told("cost-note"))
    names = opened.page.locator("[role=img]").evaluate_all(
        "all => all.map(one => one.getAttribute('aria-label'))"
    )
    assert all(names)


def test_runs_are_shown_one_at_a_time_and_printed_all(browser: Any, pair: Path) -> None:
    opened = Opened(browser, pair)

    def seen() -> list[bool]:
        sections = opened.page.locator("section.run")
        return [sections.nth(number).is_visible() for number in range(sections.count())]

    assert seen() == [True, False, False]
    opened.page.click("[data-show='1']")
    assert seen() == [False, False, True]
    assert opened.told("threshold") == f"{THRESHOLD}"
    opened.page.emulate_media(media="print")
    assert seen() == [True, True, True]
    assert opened.wrong == []


def test_nothing_is_wider_than_a_telephone(browser: Any, page: Path) -> None:
    opened = Opened(browser, page)
    opened.page.set_viewport_size({"width": 390, "height": 800})
    # Charts follow the window a moment later.
    opened.page.wait_for_function("document.documentElement.scrollWidth <= 390")


def test_one_model_alone_and_a_run_that_was_resumed(browser: Any, tmp_path: Path) -> None:
    large = [one | {"exit_score": None} for one in rows(100) if one["route"] == "large"]
    resumed = [one | {"run_id": f"run-{number % 2}"} for number, one in enumerate(rows(100))]
    for name, some, mode in (("large", large, "large"), ("resumed", resumed, "cascade")):
        out = write_output(tmp_path / name, some, mode=mode)
        assert main(["report", str(out), "--html", str(tmp_path / f"{name}.html")]) == 0
        opened = Opened(browser, tmp_path / f"{name}.html")
        assert opened.page.locator(".chart svg").count() == opened.page.locator(".chart").count()
        assert opened.wrong == []
    before = opened.page.locator("[data-chart='escalation']").inner_html()
    opened.page.select_option("[data-run-choice]", "0")
    assert opened.page.locator("[data-chart='escalation']").inner_html() != before
    assert opened.wrong == []
