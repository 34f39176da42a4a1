"""The page for everybody: keys, keyboard, readers, narrow screens; its pictures and snippets."""

import base64
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.api_errors import ApiError
from tests.serving.playground_browser import (
    NEEDS_BROWSER,
    Opened,
    chromium,
    expect,
    file_of,
    grey_picture,
)
from tests.serving.playground_endpoint import Endpoint, Reply, running
from tests.serving.playground_replies import told

pytestmark = NEEDS_BROWSER
KEY = "sk-of-the-test"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with running(Endpoint()) as one:
        yield one


def answered(browser: Any, endpoint: Endpoint, **settings: Any) -> Opened:
    """A page with a picture, an answer, changed settings and an error: everything is there."""
    opened = Opened(browser, endpoint, **settings)
    opened.bring(file_of(grey_picture()))
    refused = ApiError(400, "No picture.", code="ImageError", param="messages")
    endpoint.replies += [Reply(("72",), told("large", 0.5)), Reply(error=refused)]
    opened.ask("what is red A?")
    opened.answered()
    opened.slide("threshold", 0.3)
    opened.ask("and now?")
    expect(opened.one("#alert")).to_be_visible()
    return opened


@pytest.mark.parametrize("kept", [False, True])
def test_a_key_is_asked_for_sent_and_kept_only_on_request(
    browser: Any, endpoint: Endpoint, kept: bool
) -> None:
    endpoint.key = KEY
    opened = Opened(browser, endpoint)
    expect(opened.one("#key")).to_be_focused()
    assert opened.text("#alert-title") == "The API key is missing or wrong"
    opened.page.keyboard.type(KEY)
    if kept:
        opened.page.check("#key-kept")
    opened.page.press("#key", "Enter")
    expect(opened.one("#model option")).to_have_count(3)
    expect(opened.one("#alert")).to_be_hidden()
    assert endpoint.keys == [None, f"Bearer {KEY}"]
    assert KEY not in opened.page.url
    assert opened.page.evaluate("localStorage.length") == 0
    stored = opened.page.evaluate("Object.values(sessionStorage)")
    assert stored == ([KEY] if kept else [])
    endpoint.replies.append(Reply(("72",), told("small", 0.95)))
    opened.ask("what is red A?")
    opened.answered()
    assert endpoint.keys[-1] == f"Bearer {KEY}"
    assert KEY not in opened.text("#snippet")
    assert "$SGL_API_KEY" in opened.text("#snippet")
    opened.page.reload()
    expect(opened.one("#model option")).to_have_count(3 if kept else 0)


@pytest.mark.parametrize("language", ["curl", "python"])
def test_a_snippet_makes_the_very_request(
    browser: Any, endpoint: Endpoint, language: str, tmp_path: Path
) -> None:
    """Whatever is in the question and the name: both are quoted as their language does."""
    question = "a \"b\" 'c' $HOME `id` \\n $(id) {x} </b> größer\nTrue null"
    picture = file_of(grey_picture(), "it's $a page.png")
    (tmp_path / picture["name"]).write_bytes(picture["buffer"])
    endpoint.key = KEY
    opened = Opened(browser, endpoint)
    opened.page.fill("#key", KEY)
    opened.page.press("#key", "Enter")
    expect(opened.one("#model option")).to_have_count(3)
    opened.bring(picture)
    endpoint.replies += [Reply(("72",), told("small", 0.95))] * 2
    opened.slide("threshold", 0.3)
    opened.ask(question)
    opened.answered()
    opened.view(language)
    commands = {"curl": ["bash", "-c"], "python": [sys.executable, "-c"]}
    source = opened.text("#snippet")
    assert "base64," not in source.replace("base64,$(base64", "").replace("base64,{data}", "")
    done = subprocess.run(
        [*commands[language], source],
        cwd=tmp_path,
        env={**os.environ, "SGL_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "72" in done.stdout
    assert endpoint.asked[1] == endpoint.asked[0]
    assert endpoint.asked[0]["messages"][0]["content"][1]["text"] == question


def test_the_copy_button_copies(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint, permissions=["clipboard-read", "clipboard-write"])
    endpoint.replies.append(Reply(("72",), told("small", 0.95)))
    opened.ask("what is red A?")
    opened.answered()
    opened.page.click("#copy")
    expect(opened.one("#copied")).to_have_text("Copied.")
    assert opened.page.evaluate("navigator.clipboard.readText()") == opened.text("#snippet")


GIVEN = """([type, files]) => {
  const data = new DataTransfer();
  for (const { name, mimeType, buffer } of files) {
    data.items.add(new File([new Uint8Array(buffer)], name, { type: mimeType }));
  }
  const carried = type === "paste" ? { clipboardData: data } : { dataTransfer: data };
  const kind = type === "paste" ? ClipboardEvent : DragEvent;
  const event = new kind(type, { bubbles: true, cancelable: true, ...carried });
  document.getElementById("drop").dispatchEvent(event);
}"""


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_pictures_are_pasted_and_dropped(browser: Any, endpoint: Endpoint, way: str) -> None:
    opened = Opened(browser, endpoint)
    picture = file_of(grey_picture())
    plain = {**picture, "buffer": list(picture["buffer"])}
    opened.page.evaluate(GIVEN, [way, [plain]])
    expect(opened.one(".thumb")).to_have_count(1)
    assert (opened.canvas() == grey_picture()).all()
    assert opened.wrong == []


def test_there_is_room_for_eight_and_only_for_pictures(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint)
    nine = [file_of(grey_picture(seed), f"{seed}.png") for seed in range(9)]
    opened.page.set_input_files("#files", nine)
    expect(opened.one(".thumb")).to_have_count(8)
    expect(opened.one("#pictures-note")).to_contain_text("at most 8 pictures")
    opened.page.click("[aria-label='Remove 3.png']")
    expect(opened.one(".thumb")).to_have_count(7)
    expect(opened.one("#files")).to_be_focused()
    text = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    opened.page.set_input_files("#files", [text])
    expect(opened.one("#pictures-note")).to_contain_text("notes.txt is not a picture")
    assert opened.one(".thumb").count() == 7
    assert opened.wrong == []


def test_the_keyboard_alone_is_enough(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint)
    expect(opened.one("#model option")).to_have_count(3)
    endpoint.replies.append(Reply(("72",), told("large", 0.5)))
    seen = []
    for _ in range(12):
        opened.page.keyboard.press("Tab")
        seen.append(opened.page.evaluate("document.activeElement.id || 'other'"))
        assert opened.page.evaluate(FOCUS_IS_SEEN), seen[-1]
    order = ["model", "files", "keep", "question", "max-tokens", "temperature", "ask", "threshold"]
    assert [one for one in seen if one in order] == order
    opened.page.focus("#question")
    opened.page.keyboard.type("two")
    opened.page.keyboard.press("Shift+Enter")
    opened.page.keyboard.type("lines")
    opened.page.keyboard.press("Enter")
    opened.answered()
    assert endpoint.asked[0]["messages"][0]["content"] == "two\nlines"
    opened.page.focus("#keep")
    opened.page.keyboard.press("ArrowLeft")
    assert opened.one("#keep").get_attribute("aria-valuetext") == "39%"


FOCUS_IS_SEEN = """() => {
  const one = document.activeElement;
  if (one === document.body) return true;
  const seen = [one, document.querySelector(`label.button[for="${one.id}"]`)];
  return seen.some(it => it && getComputedStyle(it).outlineStyle !== "none");
}"""


def test_every_control_has_a_name(browser: Any, endpoint: Endpoint) -> None:
    opened = answered(browser, endpoint)
    nameless = opened.page.evaluate(
        """[...document.querySelectorAll("input, select, textarea, button, [role=img], img")]
          .filter(one => ![one.getAttribute("aria-label"), one.labels?.[0]?.textContent,
            one.textContent, one.alt, one.querySelector("img")?.alt].some(Boolean))
          .filter(one => one.getAttribute("alt") !== "")
          .map(one => one.outerHTML)"""
    )
    assert nameless == []
    headings = opened.page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))"
    )
    assert headings[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    ids = opened.page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))


CONTRASTS = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], below) =>
    [r * a + below[0] * (1 - a), g * a + below[1] * (1 - a), b * a + below[2] * (1 - a), 1];
  const ground = (one) => {
    if (!one) return [255, 255, 255, 1];
    const own = parse(getComputedStyle(one).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(one.parentElement));
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement;
    const unseen = !one.checkVisibility() || one.closest("noscript");
    if (unseen || !texts.currentNode.data.trim()) continue;
    const below = ground(one);
    const contrast = ratio(over(parse(getComputedStyle(one).color), below), below);
    found.push([contrast, texts.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(browser: Any, endpoint: Endpoint, scheme: str) -> None:
    opened = answered(browser, endpoint, color_scheme=scheme)
    found = opened.page.evaluate(CONTRASTS)
    assert len(found) > 50
    assert [one for one in found if one[0] < 4.5] == []


@pytest.mark.parametrize("width", [360, 768, 1920])
def test_nothing_is_wider_than_the_window(browser: Any, endpoint: Endpoint, width: int) -> None:
    opened = Opened(browser, endpoint, viewport={"width": width, "height": 760})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.page.close()
    opened = answered(browser, endpoint, viewport={"width": width, "height": 760})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.page.click("summary")
    panel = opened.one("#key-form").bounding_box()
    assert panel["x"] >= 0
    assert panel["x"] + panel["width"] <= width


def test_nothing_moves_for_those_who_do_not_want_it(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint, reduced_motion="reduce")
    reply = Reply(("half", "whole"), told("large", 0.5), hold_after=1)
    endpoint.replies.append(reply)
    opened.ask("what is red A?")
    expect(opened.one(".answer")).to_have_text("half")
    assert opened.page.evaluate("document.getAnimations().length") == 0
    reply.release.set()


def test_it_works_below_a_path_of_its_own(browser: Any) -> None:
    """As behind a proxy: all addresses are relative to the page."""
    with running(Endpoint("/below/here")) as endpoint:
        opened = answered(browser, endpoint)
        assert f"{endpoint.address}v1/chat/completions" in opened.text("#snippet")
        assert opened.wrong == []


@pytest.mark.parametrize(
    ("kind", "taken"), [("bmp", False), ("tiff-like.png", False), ("gif", True)]
)
def test_pictures_arrive_in_a_format_that_the_endpoint_takes(
    browser: Any, endpoint: Endpoint, kind: str, taken: bool
) -> None:
    """Whatever their names say: the second is a BMP that is called a PNG."""
    opened = Opened(browser, endpoint)
    buffer = io.BytesIO()
    Image.fromarray(grey_picture()).save(buffer, kind if kind in ("bmp", "gif") else "bmp")
    name = f"page.{kind}"
    mime = {"bmp": "image/bmp", "gif": "image/gif"}.get(kind, "image/png")
    opened.bring({"name": name, "mimeType": mime, "buffer": buffer.getvalue()})
    assert (opened.canvas() == grey_picture()).all()
    endpoint.replies.append(Reply(("72",), told("small", 0.95)))
    opened.ask("what is red A?")
    opened.answered()
    url = endpoint.asked[0]["messages"][0]["content"][0]["image_url"]["url"]
    data = base64.b64decode(url.partition(",")[2])
    if taken:
        assert data == buffer.getvalue()
        return
    assert url.startswith("data:image/png;")
    sent = Image.open(io.BytesIO(data))
    assert sent.format == "PNG"
    assert (np.asarray(sent.convert("RGB")) == grey_picture()).all()
    # The file of this name would be refused, so the snippet asks for another one.
    assert f"{name}.png" in opened.text("#snippet")


def test_it_works_where_storage_is_blocked(browser: Any, endpoint: Endpoint) -> None:
    endpoint.key = KEY
    opened = Opened(browser, endpoint)
    opened.page.add_init_script(
        "Object.defineProperty(window, 'sessionStorage', "
        "{ get() { throw new DOMException('denied', 'SecurityError'); } });"
    )
    opened.page.reload()
    expect(opened.one("#key")).to_be_focused()
    opened.page.keyboard.type(KEY)
    opened.page.check("#key-kept")
    opened.page.press("#key", "Enter")
    expect(opened.one("#model option")).to_have_count(3)
    assert opened.wrong == []


def test_escape_closes_the_panel_and_nothing_else(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint)
    reply = Reply(("half ", "whole"), told("large", 0.5), hold_after=1)
    endpoint.replies.append(reply)
    opened.ask("what is red A?")
    expect(opened.one(".answer")).to_have_text("half")
    opened.page.click("#key-panel summary")
    opened.page.press("#key", "Escape")
    expect(opened.one("#key")).to_be_hidden()
    reply.release.set()
    opened.answered()
    expect(opened.one(".answer")).to_have_text("half whole")


def test_no_figure_is_wider_than_its_tile(browser: Any, endpoint: Endpoint) -> None:
    opened = Opened(browser, endpoint, viewport={"width": 1320, "height": 900})
    sgl = told("large", 0.5)
    sgl["cost"]["usd"] = 0.00000281
    endpoint.replies.append(Reply(("72",), sgl))
    opened.ask("what is red A?")
    opened.answered()
    assert "$0.00000281" in opened.text("#figures")
    lines = """[...document.querySelectorAll("#figures dd:not(.note)")].map((one) => {
      const range = document.createRange();
      range.selectNodeContents(one);
      return [range.getClientRects().length, one.scrollWidth <= one.clientWidth];
    })"""
    assert opened.page.evaluate(lines) == [[1, True]] * 4
