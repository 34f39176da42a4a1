"""The playground in a real headless Chromium."""

import base64
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serving.playground_endpoint import Endpoint

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, see pyproject")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
NEEDS_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
expect = playwright.expect
SIDE = 768
"""Of the pictures: drawn at this size, so that a pixel of the canvas is one of theirs."""


@contextmanager
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # The sandbox of Chromium does not start for root, as in a container.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def grey_picture(seed: int = 0) -> np.ndarray[Any, Any]:
    """(SIDE, SIDE, 3) RGB, in greys, every cell different."""
    cells = np.random.default_rng(seed).integers(40, 256, (16, 16), dtype=np.uint8)
    return np.repeat(np.kron(cells, np.ones((48, 48), np.uint8))[..., None], 3, axis=2)


def file_of(pixels: np.ndarray[Any, Any], name: str = "page.png") -> dict[str, Any]:
    """As the file chooser takes it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


class Opened:
    """A page, and all that went wrong or to another address since it was opened."""

    def __init__(self, browser: Any, endpoint: Endpoint, **settings: Any) -> None:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        context.set_default_timeout(20_000)
        self.page = context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda one: self._told(one.text))
        self.page.on("pageerror", lambda one: self.wrong.append(str(one)))
        self.page.on("request", lambda one: self._asked(one.url, endpoint.address))
        self.page.goto(endpoint.address)

    def _told(self, text: str) -> None:
        # The browser itself logs every answer that is an error.
        if not text.startswith("Failed to load resource"):
            self.wrong.append(text)

    def _asked(self, url: str, address: str) -> None:
        origin = "/".join(address.split("/")[:3])
        if not url.startswith((address, "data:", f"blob:{origin}/")):
            self.wrong.append(url)

    def one(self, selector: str) -> Any:
        return self.page.locator(selector)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).text_content())

    def bring(self, *files: dict[str, Any]) -> None:
        before = self.one(".thumb").count()
        self.page.set_input_files("#files", list(files))
        expect(self.one(".thumb")).to_have_count(before + len(files))

    def ask(self, question: str) -> None:
        self.page.fill("#question", question)
        self.page.press("#question", "Enter")

    def answered(self, turns: int = 1) -> None:
        """Wait until so many turns are done."""
        expect(self.one(".turn")).to_have_count(turns)
        expect(self.one("#ask")).to_be_visible()
        expect(self.one("#took")).to_be_visible()

    def slide(self, name: str, to: float) -> None:
        self.one(f"#{name}").evaluate(
            "(one, to) => { one.value = to; one.dispatchEvent(new Event('input')); }", to
        )

    def view(self, name: str) -> None:
        self.page.click(f"label:has(input[value='{name}'])")

    def canvas(self) -> np.ndarray[Any, Any]:
        """(height, width, 3) uint8, what is drawn."""
        data = self.one("#canvas").evaluate("one => one.toDataURL('image/png')")
        picture = Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))
        return np.asarray(picture.convert("RGB"))

    def run(self, module: str, script: str, value: Any = None) -> Any:
        """Call a function of one of the page's modules: `(it, value) => ...`."""
        source = f"async value => ({script})(await import('/playground/{module}.js'), value)"
        return self.page.evaluate(source, value)
